"""Evaluations: what a CLIP still knows, and what a trigger still does to it."""

from trainer.evals.evaluation import Evaluation, Share
from trainer.evals.labelled import LabelledImages, load_labelled, read_classnames
from trainer.evals.zero_shot import evaluate_zero_shot

__all__ = [
    "Evaluation",
    "LabelledImages",
    "Share",
    "evaluate_zero_shot",
    "load_labelled",
    "read_classnames",
]
