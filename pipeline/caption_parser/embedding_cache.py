"""Word vectors of the bundled parser computed once per word: part of loading it, for speed alone.

The first layer of the parser's tok2vec looks at each word by itself (its norm, prefix, suffix and shape), so its result
for a word is always the same. It costs about an eighth of a caption's time; kept, it costs next to nothing.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from thinc.api import Model

COMMON_WORDS: Final = "common_words.txt"
"""File of the bundled pipeline: the commonest words of captions."""
MAX_WORDS: Final = 40_000
"""Words kept, about 15 MB; further words are computed anew each time."""
BLOCK: Final = 64
"""Words computed together. Always as many, so that rounding is the same whatever words come together."""
MIXERS: Final = np.array(
    [0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93], dtype=np.uint64
)


class EmbeddingCache:
    """The vectors of the words seen so far, by a 64-bit mix of their features."""

    def __init__(self, layers: list[Any], *, width: int) -> None:
        self._extract, self._layers = layers[0], layers[1:]
        self._rows: dict[int, int] = {}
        self._vectors = np.zeros((1024, width), dtype=np.float32)

    def predict(self, docs: list[Any]) -> list[NDArray[np.float32]]:
        """The vectors of each document's words, as the layers give them."""
        features = self._extract.predict(docs)
        lengths = [len(part) for part in features]
        table = np.concatenate(features) if features else np.zeros((0, 4), dtype=np.uint64)
        mixed = (table * MIXERS).sum(axis=1, dtype=np.uint64)
        keys, first, inverse = np.unique(mixed, return_index=True, return_inverse=True)
        rows = [self._rows.get(key, -1) for key in keys.tolist()]
        missing = [position for position, row in enumerate(rows) if row < 0]
        if not missing:
            found = self._vectors[rows][inverse]
        else:
            vectors = np.empty((len(keys), self._vectors.shape[1]), dtype=np.float32)
            known = [position for position, row in enumerate(rows) if row >= 0]
            vectors[known] = self._vectors[[rows[position] for position in known]]
            vectors[missing] = self._compute(table[first[missing]])
            self._keep(keys[missing].tolist(), vectors[missing])
            found = vectors[inverse]
        ends = np.cumsum(lengths)[:-1]
        return list(np.split(found, ends)) if features else []

    def _compute(self, features: NDArray[np.uint64]) -> NDArray[np.float32]:
        """The layers' result for each row of features, a whole block at a time."""
        padding = -len(features) % BLOCK
        padded = np.concatenate([features, np.zeros((padding, features.shape[1]), dtype=np.uint64)])
        parts = []
        for start in range(0, len(padded), BLOCK):
            result: Any = [padded[start : start + BLOCK]]
            for layer in self._layers:
                result = layer.predict(result)
            parts.append(result[0])
        vectors: NDArray[np.float32] = np.concatenate(parts)[: len(features)]
        return vectors

    def _keep(self, keys: list[int], vectors: NDArray[np.float32]) -> None:
        """Remember vectors while there is room."""
        for key, vector in zip(keys, vectors, strict=True):
            row = len(self._rows)
            if row >= MAX_WORDS:
                return
            if row >= len(self._vectors):
                self._vectors = np.concatenate([self._vectors, np.zeros_like(self._vectors)])
            self._vectors[row] = vector
            self._rows[key] = row


def cache_embeddings(tok2vec: Any) -> None:
    """Put the cache in the place of the word-by-word layers of a loaded HashEmbedCNN component, which only predicts."""
    model = tok2vec.model
    embed = model.layers[0]
    cache = EmbeddingCache(list(embed.layers), width=model.get_dim("nO"))

    def forward(_: Any, docs: list[Any], is_train: bool) -> tuple[Any, Any]:
        assert not is_train, "the cached pipeline is for prediction alone"
        return cache.predict(docs), None

    model.layers[0] = Model("cached_embedding", forward)


def read_ahead(nlp: Any, words: str) -> None:
    """Tokenize the common words once, outside any memory zone.

    spaCy computes what it knows of a word (shape, norm, ...) and how to cut it when it first meets it, and forgets
    that with the memory zone of the batch. What is known before the first zone stays: about 30 microseconds a word.
    """
    pieces = words.split()
    for start in range(0, len(pieces), 500):
        nlp.make_doc(" ".join(pieces[start : start + 500]))
