"""What the bundled parser's network makes of a word by itself, computed once per word: part of `prediction.py`.

The first layer looks at each word alone (its norm, prefix, suffix and shape), and the first convolution is linear in
the word before, the word itself and the word behind before it takes its maxima. So both are kept per word: the vector,
and its three products with the convolution's weights, which then only have to be added up.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
MAX_WORDS: Final = 15_000
"""Words kept from one block of captions to the next, about 60 MB; a fuller table is emptied and starts anew."""
BLOCK: Final = 64
"""Words computed together. Always as many, so that rounding is the same whatever words come together."""
MIXERS: Final = np.array(
    [0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93], dtype=np.uint64
)


class WordTable:
    """The vectors and products of the words seen so far, found by a 64-bit mix of their features.

    Row 0 is no word: the zeros on both sides of a sentence.
    """

    def __init__(self, layers: Sequence[Any], weights: Floats) -> None:
        """`layers` go from features to a word's vector; `weights` (3, width, outputs) are the convolution's."""
        self._layers = layers
        _, width, outputs = weights.shape
        self._weights = np.ascontiguousarray(weights.transpose(1, 0, 2).reshape(width, 3 * outputs))
        self._numbers: dict[int, int] = {}
        self.vectors: Floats = np.zeros((1024, width), dtype=np.float32)
        self.products: Floats = np.zeros((1024 * 3, outputs), dtype=np.float32)
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
        """Compute new words, a whole block at a time."""
        count = len(self._numbers) + 1
        while count + len(keys) > len(self.vectors):
            self.vectors = np.concatenate([self.vectors, np.zeros_like(self.vectors)])
            self.products = np.concatenate([self.products, np.zeros_like(self.products)])
        padding = np.zeros((-len(features) % BLOCK, features.shape[1]), dtype=np.uint64)
        padded = np.concatenate([features, padding])
        for start in range(0, len(keys), BLOCK):
            result: Any = [padded[start : start + BLOCK]]
            for layer in self._layers:
                result = layer.predict(result)
            (vectors,) = result
            products = vectors @ self._weights
            row, rows = count + start, min(BLOCK, len(keys) - start)
            self.vectors[row : row + rows] = vectors[:rows]
            self.products[3 * row : 3 * (row + rows)] = products[:rows].reshape(3 * rows, -1)
        self._numbers.update((key, count + index) for index, key in enumerate(keys))
