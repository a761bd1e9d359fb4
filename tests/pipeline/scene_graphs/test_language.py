"""Captions of other languages are told; English ones, and short titles, are not doubted."""

import json
from pathlib import Path

import pytest

from pipeline import schema
from pipeline.scene_graphs.language import is_foreign
from pipeline.scene_graphs.parser import caption_status
from tests.places import REAL_DATA

FOREIGN: dict[str, list[str]] = json.loads(
    Path(__file__).with_name("foreign_captions.json").read_text("utf-8")
)
"""Forty captions of each language, written for this test."""
CC3M = REAL_DATA / "cc3m/validation_first_8000.tsv"


@pytest.mark.parametrize("language", FOREIGN)
def test_captions_of_other_languages_are_told(language: str) -> None:
    captions = FOREIGN[language]
    assert len(captions) == 40
    assert sum(caption_status(caption) == schema.NOT_ENGLISH for caption in captions) >= 0.95 * len(captions)


@pytest.mark.parametrize(
    "caption",
    [
        "La Mer",
        "Cirque du Soleil",
        "a man in a red hat",
        "Plaza de Toros in Ronda seen from a balcony",
        "Volkswagen Golf Variant",
        "Rio de Janeiro city beach",
        "a cafe en route",
    ],
)
def test_english_captions_and_short_titles_stay(caption: str) -> None:
    assert not is_foreign(caption)


@pytest.mark.data
@pytest.mark.skipif(not CC3M.is_file(), reason="CC3M is not beside the project")
def test_hardly_an_english_caption_is_doubted() -> None:
    captions = [line.split("\t")[0] for line in CC3M.read_text("utf-8").splitlines()]
    assert sum(map(is_foreign, captions)) <= 0.005 * len(captions)
