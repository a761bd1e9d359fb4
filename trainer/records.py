"""What a sample's JSON member says to the trainer: positive, negatives, views; whatever it holds, texts come clean."""

from typing import Any

MAX_TEXT_CHARACTERS = 2_000
"""Texts are cut there before they are tokenised: no model reads further."""


def has_triple(record: dict[str, Any]) -> bool:
    """Whether the record holds a positive and at least one negative sub-caption."""
    return bool(positive_of(record) and negatives_of(record))


def positive_of(record: dict[str, Any]) -> str:
    """The positive sub-caption; "" where there is none."""
    return clean_text(record.get("positive") or record.get("pos_0"))


def negatives_of(record: dict[str, Any]) -> list[str]:
    """The negative sub-captions in their order; [] where there is none."""
    negatives = record.get("negatives")
    if not isinstance(negatives, list):
        return []
    texts = [
        clean_text(negative.get("text") if isinstance(negative, dict) else negative) for negative in negatives
    ]
    return [text for text in texts if text]


def views_of(record: dict[str, Any]) -> list[str]:
    """The augmented captions in their order; [] where there is none."""
    views = record.get("views")
    return [text for view in views if (text := clean_text(view))] if isinstance(views, list) else []


def clean_text(text: object) -> str:
    """A text as the tokenizer can take it: one line, no half surrogate pairs, not endless; "" for anything else."""
    if not isinstance(text, str):
        return ""
    return " ".join(text[:MAX_TEXT_CHARACTERS].encode("utf-8", "replace").decode().split())
