"""The bundled parser's network in numpy, in single or in double precision: part of `prediction.py`.

A matrix product rounds a row differently with how many rows stand beside it, where among them it stands, and which
processor computes it: the last bits of a score are no property of a sentence. So a decision (a word's tag, a step of
the tree) is sure only where its score leads by more than rounding can take away; the other sentences are marked, for
`prediction.py` to decide once more, each alone and in double precision.
"""

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray
from spacy.language import Language  # noqa: TID251 - the bundled parser's own package

from pipeline.caption_parser.transitions import NUM_FEATURES, Transitions, doubtful, parse_block
from pipeline.caption_parser.word_table import Floats, WordTable

Numbers = NDArray[np.int64]
SINGLE: Final = np.dtype(np.float32)
DOUBLE: Final = np.dtype(np.float64)
LEAD: Final = {SINGLE: 1e-3, DOUBLE: 0.0}
"""By how much the best score must lead to be sure. Single precision was seen to be off by at most 5e-5."""
EPSILON: Final = 1e-8
"""thinc's, in a layer norm."""


class Decisions(NamedTuple):
    """What the network says of the words of a block of documents."""

    tags: Numbers
    """Class of each word's tag."""
    heads: Numbers
    """Each word's head: its place in its document; a root is its own."""
    moves: Numbers
    """Class of the move that gave each word its head; -1 for a root."""
    doubtful: NDArray[np.bool_]
    """Whether rounding may have swayed a decision about each document."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalised:
    """The weights of one maxout layer with its layer norm; the pieces stand one after the other."""

    weights: Floats
    """(inputs, pieces * width)."""
    bias: Floats
    scale: Floats
    shift: Floats

    @property
    def width(self) -> int:
        """Of a token's vector."""
        return len(self.scale)

    def activate(self, sums: Floats) -> Floats:
        """Layer norm of the maxima of sums (rows, pieces * width), which lack the bias and are overwritten."""
        sums += self.bias
        width = self.width
        found = sums[:, :width]
        for start in range(width, sums.shape[1], width):
            found = np.maximum(found, sums[:, start : start + width])
        found -= found.mean(axis=1, keepdims=True)
        variance = np.einsum("ij,ij->i", found, found) / np.float32(width)
        found *= (1 / np.sqrt(variance + np.float32(EPSILON)))[:, None]
        found *= self.scale
        found += self.shift
        return found


class Network:
    """The tagger's and the parser's scores, from a loaded caption pipeline's weights."""

    def __init__(self, nlp: Language, *, precision: DTypeLike) -> None:
        """`precision`: SINGLE or DOUBLE; double gives the same decisions, and takes several times as long."""

        def read(node: Any, name: str) -> Floats:
            return np.asarray(node.get_param(name), dtype=precision)

        tok2vec: Any = nlp.get_pipe("tok2vec")
        tagger: Any = nlp.get_pipe("tagger")
        parser: Any = nlp.get_pipe("parser")
        self.lead = LEAD[np.dtype(precision)]
        """By how much a score must lead the next one."""
        mixing, *self._layers = read_layers(tok2vec.model, precision=precision)
        first = self._layers[0]
        _, _, embedding, *_ = tok2vec.model.layers[0].layers
        self.table = WordTable(
            lambda features: embedding.layers[0].predict(features).astype(precision, copy=False),
            mix=lambda embedded: mixing.activate(embedded @ mixing.weights),
            weights=first.weights.reshape(3, first.width, -1),
        )
        softmax = tagger.model.get_ref("softmax")
        self._tag_weights, self._tag_bias = np.ascontiguousarray(read(softmax, "W").T), read(softmax, "b")
        linear = parser.model.get_ref("tok2vec").layers[-1]
        self._linear, self._linear_bias = np.ascontiguousarray(read(linear, "W").T), read(linear, "b")
        lower, upper = parser.model.get_ref("lower"), parser.model.get_ref("upper")
        features, _, pieces, inputs = lower.get_param("W").shape
        assert features == NUM_FEATURES
        # Pieces one after the other: their maxima are then maxima of two whole rows.
        self._lower = np.ascontiguousarray(read(lower, "W").transpose(3, 0, 2, 1).reshape(inputs, -1))
        self._lower_pad = read(lower, "pad")[0].transpose(0, 2, 1).reshape(features, -1)
        self._transitions = Transitions.from_weights(
            parser.move_names, bias=np.ascontiguousarray(read(lower, "b").T).ravel(), pieces=pieces,
            upper=np.ascontiguousarray(read(upper, "W").T), upper_bias=read(upper, "b"),
        )  # fmt: skip

    def decide(self, features: NDArray[np.uint64], lengths: Numbers) -> Decisions:
        """Tags and trees of documents of these lengths, at least a word each, given their words' features."""
        vectors = self.vectors(self.table.find(features), lengths)
        scores = vectors @ self._tag_weights
        scores += self._tag_bias
        tags = scores.argmax(axis=1)
        table = np.empty((len(vectors) + 1, self._lower.shape[1]), dtype=vectors.dtype)
        table[0] = self._lower_pad.ravel()
        np.dot(vectors @ self._linear + self._linear_bias, self._lower, out=table[1:])
        parsed = parse_block(
            table.reshape(len(table) * NUM_FEATURES, -1), lengths, self._transitions, lead=self.lead
        )
        starts = np.cumsum(lengths) - lengths
        firsts = np.repeat(starts, lengths)
        heads = np.where(
            parsed.heads[1:] > 0, parsed.heads[1:] - 1 - firsts, np.arange(len(vectors)) - firsts
        )
        unsure = parsed.doubtful[1:] | doubtful(scores, tags, lead=self.lead)
        return Decisions(tags, heads, parsed.moves[1:], np.logical_or.reduceat(unsure, starts))

    def vectors(self, words: Numbers, lengths: Numbers) -> Floats:
        """The token vectors of the words of several documents, given the words' rows in the table."""
        depth = len(self._layers)
        places = interior(lengths, depth)
        padded = np.zeros(int(lengths.sum()) + 2 * depth * len(lengths), dtype=np.int64)
        padded[places] = words
        # The first convolution, from products: around each sentence as many places as the others reach.
        places = interior(lengths + 2 * (depth - 1), 1)
        products, layer = self.table.products, self._layers[0]
        sums = products.take(padded[places - 1] * 3, axis=0)
        sums += products.take(padded[places] * 3 + 1, axis=0)
        sums += products.take(padded[places + 1] * 3 + 2, axis=0)
        vectors = self.table.vectors.take(padded[places], axis=0)
        vectors += layer.activate(sums)
        width = layer.width
        for reach, layer in zip(range(depth - 2, -1, -1), self._layers[1:], strict=True):
            places = interior(lengths + 2 * reach, 1)
            windows = np.lib.stride_tricks.as_strided(
                vectors,
                (len(vectors) - 2, 3 * width),
                (vectors.strides[0], vectors.strides[1]),
                writeable=False,
            )
            sums = windows[places - 1] @ layer.weights
            vectors = vectors[places]
            vectors += layer.activate(sums)
        return vectors


def interior(lengths: Numbers, margin: int) -> Numbers:
    """The places of runs of these lengths in an array in which each has `margin` more places on both sides."""
    total = int(lengths.sum())
    before = np.repeat(np.arange(len(lengths)) * (2 * margin) + margin, lengths)
    return np.arange(total) + before


def read_layers(model: Any, *, precision: DTypeLike) -> list[Normalised]:
    """The maxout layers of a HashEmbedCNN: the one that mixes a word's features, then the convolutions."""
    maxouts = [node for node in model.walk(order="dfs_pre") if node.name == "maxout"]
    norms = [node for node in model.walk(order="dfs_pre") if node.name == "layernorm"]
    found = []
    for maxout, norm in zip(maxouts, norms, strict=True):
        weights = np.asarray(maxout.get_param("W"), dtype=precision).transpose(2, 1, 0)
        found.append(
            Normalised(
                weights=np.ascontiguousarray(weights.reshape(len(weights), -1)),
                bias=np.ascontiguousarray(maxout.get_param("b").T).ravel().astype(precision),
                scale=norm.get_param("G").astype(precision),
                shift=norm.get_param("b").astype(precision),
            )
        )
    return found
