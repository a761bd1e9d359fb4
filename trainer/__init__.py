"""Fine-tune a CLIP that may carry a backdoor, and measure what is left of it: `trainer --help`."""

__version__ = "0.1.0"
