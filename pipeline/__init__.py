"""Captions to counterfactual training data, offline: `pipeline --help`. Nothing here imports torch."""

__version__ = "0.1.0"
