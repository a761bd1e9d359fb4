"""One file per command: a typed function whose docstring is its help; `trainer.cli` makes the command line of them.

torch is imported inside them, so that --help is fast.
"""
