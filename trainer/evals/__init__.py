"""Evaluations: what a CLIP still knows, and what a trigger still does to it."""

from trainer.evals.labelled import LabelledImages, load_labelled, read_classnames
from trainer.evals.zero_shot import Share, ZeroShotResult, evaluate_zero_shot

__all__ = [
    "LabelledImages",
    "Share",
    "ZeroShotResult",
    "evaluate_zero_shot",
    "load_labelled",
    "read_classnames",
]
