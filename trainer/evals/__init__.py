"""Evaluations: what a CLIP still knows, and what a trigger still does to it."""

from trainer.evals.labelled import LabelledImages, load_labelled, read_classnames
from trainer.evals.zero_shot import evaluate_zero_shot
from trainer.scores import Evaluation, Share

__all__ = [
    "Evaluation",
    "LabelledImages",
    "Share",
    "evaluate_zero_shot",
    "load_labelled",
    "read_classnames",
]
