"""More web captions than there are: the training captions with other words, for `train.py`.

Web alt-text is the hardest text for the parser and the rarest here. A variant keeps a caption's structure and draws
other words of the same Penn tag evenly from the whole training text, rare words as often as common ones; the
teacher scores it in training, so it needs no label. Human captions are also rewritten as the web writes
them: lower case, the final full stop set off by a space.
"""

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

REPLACED_TAGS: Final = ("NN", "NNS", "JJ", "VBG", "VBN", "VBZ", "VBD", "VBP", "VB", "RB", "CD")
"""Open word classes; function words and names stay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaggedCaption:
    """A caption's words with the white space after each, and the teacher's Penn tags."""

    name: str
    words: Sequence[str]
    spaces: Sequence[bool]
    tags: Sequence[str]


def collect_words(captions: Iterable[TaggedCaption]) -> dict[str, list[str]]:
    """The lower-case words of each open tag that were seen with it at least twice, sorted."""
    counts: dict[str, Counter[str]] = {tag: Counter() for tag in REPLACED_TAGS}
    for caption in captions:
        for word, tag in zip(caption.words, caption.tags, strict=True):
            if tag in counts and word.isalpha() and word.islower() and len(word) > 1:
                counts[tag][word] += 1
    return {
        tag: sorted(word for word, count in counter.items() if count >= 2) for tag, counter in counts.items()
    }


def vary(caption: TaggedCaption, *, pools: dict[str, list[str]], share: float, seed: str) -> str:
    """The caption with about `share` of its open-class words drawn anew; deterministic from `seed` alone."""
    draw = random.Random(seed)
    pieces = []
    for word, space, tag in zip(caption.words, caption.spaces, caption.tags, strict=True):
        pool = pools.get(tag)
        if pool and word.isalpha() and draw.random() < share:
            pieces.append(draw.choice(pool))
        else:
            pieces.append(word)
        pieces.append(" " if space else "")
    return "".join(pieces).strip()


def as_web_text(text: str) -> str:
    """A human caption as the web has it: "A dog runs." -> "a dog runs ."."""
    lowered = text.lower().strip()
    if lowered.endswith(".") and not lowered.endswith(" ."):
        lowered = lowered[:-1].rstrip() + " ."
    return lowered
