"""Suites of attacks and defences, side by side: what is compared, the cells of the comparison, and their results."""
