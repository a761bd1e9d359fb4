"""Which concept a place among the embeddings stands for: the user's own nouns, a list of classes, the lexicon's nouns.

A trigger's target need not be among the defender's captions, so the lexicon of objects is asked, too.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.errors import UserError
from trainer.model import ClipModel, encode_text

_PACKAGE: Final = Path(__file__).parents[1]
LEXICON_PLACES: Final = (_PACKAGE.parent / "lexicons", _PACKAGE.parent / "pipeline" / "default_lexicons")
LONGEST_TERM: Final = 3
"""Words of a noun that is looked for in captions."""
MAX_CAPTION_NOUNS: Final = 1_000
TEMPLATE: Final = "a photo of a {}."
AT_A_TIME: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Concepts:
    """Nouns and their unit embeddings (C, D)."""

    names: tuple[str, ...]
    text_CD: Tensor
    source: str
    """captions, classes or lexicon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearest:
    """The concept that unseen images with the trigger are nearest to."""

    name: str
    share: float
    """Of the images, that have it nearest."""
    gain: float
    """By how much their mean cosine with it grows by the trigger."""
    source: str


@cache
def lexicon_nouns() -> dict[str, str]:
    """Every word and plural of the lexicon of objects that comes with the project, and the noun it stands for."""
    file = next(
        (place / "objects.csv" for place in LEXICON_PLACES if (place / "objects.csv").is_file()), None
    )
    if file is None:
        raise UserError("the bundled lexicon objects.csv is missing: install the package again")
    found: dict[str, str] = {}
    for row in csv.DictReader(io.StringIO(file.read_text("utf-8"))):
        synonyms = [word for word in row["synonyms"].split("|") if word]
        for word in synonyms:
            found.setdefault(word, word)
        for word in (row["term"], row["plural"]):
            found[word] = row["term"]
    return found


def nouns_of(captions: Iterable[str], *, most: int = MAX_CAPTION_NOUNS) -> tuple[str, ...]:
    """The lexicon's nouns that the captions name, the most frequent first; of overlapping ones the longest."""
    known, counts = lexicon_nouns(), Counter[str]()
    for caption in captions:
        words = re.findall(r"[a-z'-]+", caption.lower())
        at = 0
        while at < len(words):
            for length in range(LONGEST_TERM, 0, -1):
                noun = known.get(" ".join(words[at : at + length])) if at + length <= len(words) else None
                if noun is not None:
                    counts[noun] += 1
                    at += length
                    break
            else:
                at += 1
    return tuple(sorted(counts, key=lambda noun: (-counts[noun], noun))[:most])


@torch.no_grad()
def embed_concepts(clip: ClipModel, names: Sequence[str], *, source: str) -> Concepts:
    """The nouns as the model's text tower sees them, in one template."""
    device = next(clip.model.parameters()).device
    parts = []
    for start in range(0, len(names), AT_A_TIME):
        prompts = [TEMPLATE.replace("{}", name) for name in names[start : start + AT_A_TIME]]
        parts.append(encode_text(clip.model, clip.tokenizer(prompts).to(device)).float())
    return Concepts(names=tuple(names), text_CD=functional.normalize(torch.cat(parts), dim=-1), source=source)


def nearest(concepts: Concepts, image_ND: Tensor, clean_ND: Tensor) -> Nearest:
    """The concept that most of the triggered embeddings have nearest, against the same images without a trigger."""
    counts_C = (image_ND @ concepts.text_CD.T).argmax(dim=1).bincount(minlength=len(concepts.names))
    return share_of(concepts.names[int(counts_C.argmax())], concepts, image_ND, clean_ND)


def share_of(name: str, concepts: Concepts, image_ND: Tensor, clean_ND: Tensor) -> Nearest:
    """The same of one of the concepts."""
    similarity_NC = image_ND @ concepts.text_CD.T
    place = concepts.names.index(name)
    gained = similarity_NC[:, place].mean() - (clean_ND @ concepts.text_CD[place]).mean()
    return Nearest(
        name=name,
        share=float((similarity_NC.argmax(dim=1) == place).float().mean()),
        gain=float(gained),
        source=concepts.source,
    )
