"""What the bundled parser's network makes of a word by itself, computed once per word: part of `prediction.py`.

The first layer looks at each word alone (its norm, prefix, suffix and shape), and the first convolution is linear in
the word before, the word itself and the word behind before it takes its maxima. So both are kept per word: the vector,
and its three products with the convolution's weights, which then only have to be added up.
"""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
MAX_WORDS: Final = 15_000
"""Words kept from one block of captions to the next, about 60 MB; a fuller table is emptied and starts anew."""
ROOM: Final = MAX_WORDS + 10_000
"""Rows that there is room for at once: memory that is not written to is not taken, and to grow takes twice of it."""
BLOCK: Final = 64
"""Words computed together."""
MIXERS: Final = np.array(
    [0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93], dtype=np.uint64
)


class WordTable:
    """The vectors and products of the words seen so far, found by a 64-bit mix of their features.

    Row 0 is no word: the zeros on both sides of a sentence. A word's row is right up to rounding, which may differ
    with the words it came with.
    """

    def __init__(
        self,
        embed: Callable[[NDArray[np.uint64]], Floats],
        *,
        mix: Callable[[Floats], Floats],
        weights: Floats,
    ) -> None:
        """`embed` and `mix` go from features to words' vectors; `weights` (3, width, outputs) are the convolution's."""
        self._embed = embed
        self._mix = mix
        _, width, outputs = weights.shape
        self._weights = np.ascontiguousarray(weights.transpose(1, 0, 2).reshape(width, 3 * outputs))
        self._numbers: dict[int, int] = {}
        self.vectors: Floats = np.zeros((ROOM, width), dtype=weights.dtype)
        self.products: Floats = np.zeros((ROOM * 3, outputs), dtype=weights.dtype)
        """Row 3n + k: word n's part in the convolution at the word behind it (k = 0), itself (1), before it (2)."""

    def find(self, features: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The table's row of each word, given its features (words, 4); new words are computed."""
        if len(self._numbers) > MAX_WORDS:
            self._numbers.clear()
        keys = (features * MIXERS).sum(axis=1, dtype=np.uint64).tolist()
        numbers = self._numbers
        missing = [position for position, key in enumerate(keys) if key not in numbers]
        if missing:
            first = list({keys[position]: position for position in reversed(missing)}.values())
            self._add([keys[position] for position in first], features[first])
        return np.array([numbers[key] for key in keys], dtype=np.int64)

    def _add(self, keys: Sequence[int], features: NDArray[np.uint64]) -> None:
        """Compute new words, a block at a time."""
        count = len(self._numbers) + 1
        while count + len(keys) > len(self.vectors):
            self.vectors = np.concatenate([self.vectors, np.zeros_like(self.vectors)])
            self.products = np.concatenate([self.products, np.zeros_like(self.products)])
        for start in range(0, len(keys), BLOCK):
            vectors = self._mix(self._embed(features[start : start + BLOCK]))
            row, rows = count + start, len(vectors)
            self.vectors[row : row + rows] = vectors
            self.products[3 * row : 3 * (row + rows)] = (vectors @ self._weights).reshape(3 * rows, -1)
        self._numbers.update((key, count + index) for index, key in enumerate(keys))
