"""The commands behind the figures in docs/benchmarks.md: `python -m benchmarks.NAME`."""
