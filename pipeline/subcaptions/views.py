"""Text views for CleanCLIP's in-modal loss: easy data augmentation (EDA, Wei and Zou 2019), after `subcaptions`.

Four ways to disturb a caption (synonyms, random insertion, swap, deletion), each on about a tenth of its words; one
is picked at random per view. Synonyms come from the lexicon files: nothing opens WordNet. A view depends on the
seed, the key and its number alone, never on the order of rows.
"""

import random
from collections.abc import Callable, Mapping
from typing import Final

from pipeline.word_lists import WordLists

Synonyms = Mapping[str, tuple[str, ...]]

ALPHA: Final = 0.1
"""Share of words each operation touches, as CleanCLIP sets it; at least one word."""
STOP_WORDS: Final = WordLists.beside(__file__).word_set("stop_words.txt")


_generator: Final = random.Random()
"""Seeded anew for each view: making one seeds it twice."""


def make_views(caption: str, synonyms: Synonyms, *, num_views: int, seed: int, key: str) -> tuple[str, ...]:
    """`num_views` disturbed copies of `caption`, in order; never an empty one for a caption that is not empty.

    A caption without a letter gives itself back.
    """
    words = caption.split()
    if not any(map(str.isalpha, caption)):
        return (caption,) * num_views
    views = []
    for number in range(num_views):
        rng = _generator
        rng.seed(f"{seed}:{key}:view:{number}")
        operation = _OPERATIONS[int(rng.random() * len(_OPERATIONS))]
        views.append(" ".join(operation(words, synonyms, rng)) or caption)
    return tuple(views)


def replace_synonyms(words: list[str], synonyms: Synonyms, rng: random.Random) -> list[str]:
    """The words with about a tenth of those that have synonyms replaced by one."""
    places = [place for place, word in enumerate(words) if _synonyms_of(word, synonyms)]
    changed = list(words)
    for place in _sample(places, _touched(words), rng):
        changed[place] = _pick(_synonyms_of(words[place], synonyms), rng)
    return changed


def insert_synonyms(words: list[str], synonyms: Synonyms, rng: random.Random) -> list[str]:
    """The words with synonyms of some of them added at random places."""
    known = [word for word in words if _synonyms_of(word, synonyms)]
    changed = list(words)
    for _ in range(_touched(words) if known else 0):
        synonym = _pick(_synonyms_of(_pick(known, rng), synonyms), rng)
        changed.insert(int(rng.random() * (len(changed) + 1)), synonym)
    return changed


def swap_words(words: list[str], synonyms: Synonyms, rng: random.Random) -> list[str]:
    """The words with some pairs of them exchanged."""
    changed = list(words)
    for _ in range(_touched(words) if len(words) > 1 else 0):
        first = int(rng.random() * len(changed))
        second = (first + 1 + int(rng.random() * (len(changed) - 1))) % len(changed)
        changed[first], changed[second] = changed[second], changed[first]
    return changed


def delete_words(words: list[str], synonyms: Synonyms, rng: random.Random) -> list[str]:
    """The words without each tenth one by chance; one of them where none would be left."""
    return [word for word in words if rng.random() >= ALPHA] or [_pick(words, rng)]


_OPERATIONS: Final[tuple[Callable[[list[str], Synonyms, random.Random], list[str]], ...]] = (
    replace_synonyms,
    insert_synonyms,
    swap_words,
    delete_words,
)


def _touched(words: list[str]) -> int:
    return max(1, int(ALPHA * len(words)))


def _synonyms_of(word: str, synonyms: Synonyms) -> tuple[str, ...]:
    lowered = word.lower()
    return () if lowered in STOP_WORDS else synonyms.get(lowered, ())


def _pick(choices: list[str] | tuple[str, ...], rng: random.Random) -> str:
    return choices[int(rng.random() * len(choices))]


def _sample(places: list[int], count: int, rng: random.Random) -> list[int]:
    """`count` of the places, all of them where there are fewer."""
    left = list(places)
    return [left.pop(int(rng.random() * len(left))) for _ in range(min(count, len(left)))]
