"""Captions in: readers of every input format, the parts they become, and the images they name."""
