"""How often a word may be replaced, and how much a term is drawn, so that words come as often as they go.

Words that are only taken away, or only put in, tell a negative by themselves. People exclude nearly all people, "on"
leaves "in" true, and many nouns of captions are no terms: draws by counts alone take "people" from every tenth
positive and give it to no negative. Found here, for the words that captions have most, by turns: terms weigh more or
less until they come as often as they go; where that is not enough, a word is replaced more seldom.
"""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_WORDS: Final = 1_500
"""Words that are balanced, the most frequent ones; hardly any other is seen often enough to tell."""
TURNS: Final = 60
SMALLEST, LARGEST = 0.25, 4.0
"""The least and the most that a term may weigh: with more, a few terms fill a table."""
UNSEEN: Final = 0.05
"""How often a term is replaced that captions were never seen to have."""


class Balance(NamedTuple):
    """Of one place in positives."""

    weight: Mapping[str, float]
    """What a term's count is multiplied with where it is drawn; 1 for one that is not here."""
    share: Mapping[str, float]
    """How often a word is replaced where it stands, 0 to 1, for words that were seen."""


def balance(
    words: Mapping[str, int], terms: Mapping[str, tuple[int, int]], allowed: Callable[[str], int]
) -> Balance:
    """`words`: how often each stands there; `terms`: of each term its row and how often it is seen there; `allowed`:
    the rows that may replace a word, as bits.
    """
    originals = sorted(words, key=lambda word: (-words[word], word))[:MAX_WORDS]
    drawn = sorted(term for term, (_, count) in terms.items() if count)
    if not originals or not drawn:
        return Balance({}, {})
    rows = np.array([terms[term][0] for term in drawn])
    may = np.stack([_bits(allowed(word), int(rows.max()) + 1)[rows] for word in originals]).astype(np.float32)
    counts = np.array([terms[term][1] for term in drawn], np.float64)
    goes = np.array([words[word] for word in originals], np.float64)
    place = {term: number for number, term in enumerate(drawn)}
    column = np.array([place.get(word, -1) for word in originals])
    known = column >= 0
    weight, share = np.ones(len(drawn)), known * may.any(axis=1) * 1.0
    for turn in range(TURNS):
        mass = may @ (counts * weight)
        comes = ((share * goes / np.maximum(mass, 1e-9)) @ may) * counts * weight
        ratio = share[known] * goes[known] / np.maximum(comes[column[known]], 1e-9)
        weight[column[known]] *= np.clip(ratio, 0.25, 4) ** 0.5
        weight = np.clip(weight, SMALLEST, LARGEST)
        if turn >= TURNS // 3:  # what weights cannot mend
            scarce = (
                np.clip(comes[column[known]] / np.maximum(share[known] * goes[known], 1e-9), 0.25, 4) ** 0.5
            )
            share[known] = np.clip(share[known] * scarce, 0.01, 1) * (share[known] > 0)
    return Balance(
        dict(zip(drawn, weight.round(3).tolist(), strict=True)),
        dict(zip(originals, share.round(3).tolist(), strict=True)),
    )


def _bits(rows: int, num: int) -> NDArray[np.uint8]:
    packed = np.frombuffer(
        rows.to_bytes(max((rows.bit_length() + 7) // 8, (num + 7) // 8), "little"), np.uint8
    )
    return np.unpackbits(packed, bitorder="little")[:num]
