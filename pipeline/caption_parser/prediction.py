"""The bundled pipeline's tags and trees in numpy: what `scene_graphs` parses captions with, for speed alone.

The pipeline in `model/` is a stock spaCy pipeline, and spaCy runs it (`CaptionParser` does so for the reference's
rules). Run by spaCy, two thirds of a caption's time go to the transition loop, to layers that see each word anew, and
to records that no rule reads. Here the tokenizer is spaCy's, and the network's weights are read from the loaded
pipeline and applied to a block of sentences at a time: words once (`word_table.py`), convolutions without the padding
that no word sees, and the transitions of all sentences in step (`transitions.py`). The arithmetic is the same up to
rounding; a test holds the two to the same tags, heads and labels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from spacy.attrs import IDX, LENGTH, NORM, PREFIX, SHAPE, SUFFIX  # type: ignore[import-not-found]  # noqa: TID251
from spacy.language import Language  # noqa: TID251
from spacy.tokens import Doc  # noqa: TID251

from pipeline.caption_parser import morphology
from pipeline.caption_parser.transitions import NUM_FEATURES, Transitions, parse_block
from pipeline.caption_parser.word_table import WordTable

Floats = NDArray[np.float32]
Numbers = NDArray[np.int64]
BLOCK_SENTENCES: Final = 192
"""Sentences parsed in step at most."""
BLOCK_WORDS: Final = 8_192
"""Words parsed in step at most, but for a single longer sentence: a word takes about 15 KB meanwhile."""
COMMON_WORDS: Final = "common_words.txt"
"""File of the bundled pipeline: the commonest words of captions."""
ROOT: Final = "ROOT"
SPACE_TAG: Final = "_SP"
EPSILON: Final = 1e-8
"""thinc's, in a layer norm."""


class Analysis(NamedTuple):
    """One parsed sentence: parallel lists over its words; a root is its own head."""

    text: str
    words: list[str]
    starts: list[int]
    lemmas: list[str]
    tags: list[str]
    labels: list[str]
    heads: list[int]


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


class Prediction:
    """The tagger, parser and lemmas of a loaded caption pipeline, whose files are in `folder`."""

    def __init__(self, nlp: Language, *, folder: Path) -> None:
        self._nlp = nlp
        self._lemma = nlp.get_pipe(morphology.FACTORY).cached_lemma  # type: ignore[attr-defined]
        read_ahead(nlp, (folder / COMMON_WORDS).read_text("utf-8"))
        tok2vec: Any = nlp.get_pipe("tok2vec")
        tagger: Any = nlp.get_pipe("tagger")
        parser: Any = nlp.get_pipe("parser")
        self._layers = read_convolutions(tok2vec.model)
        first = self._layers[0]
        weights = first.weights.reshape(3, first.width, -1)
        self._table = WordTable(list(tok2vec.model.layers[0].layers)[1:], weights)
        softmax = tagger.model.get_ref("softmax")
        self._tag_weights = np.ascontiguousarray(softmax.get_param("W").T)
        self._tag_bias = softmax.get_param("b")
        self._tags = np.array([*tagger.labels, SPACE_TAG], dtype=object)
        linear = parser.model.get_ref("tok2vec").layers[-1]
        self._linear, self._linear_bias = np.ascontiguousarray(linear.get_param("W").T), linear.get_param("b")
        lower, upper = parser.model.get_ref("lower"), parser.model.get_ref("upper")
        features, _, pieces, inputs = lower.get_param("W").shape
        assert features == NUM_FEATURES
        # Pieces one after the other: their maxima are then maxima of two whole rows.
        lower_weights = lower.get_param("W").transpose(3, 0, 2, 1)
        self._lower = np.ascontiguousarray(lower_weights.reshape(inputs, -1))
        self._lower_pad = lower.get_param("pad")[0].transpose(0, 2, 1).reshape(features, -1)
        names = parser.move_names
        self._labels = np.array([name[2:] for name in names] + [ROOT], dtype=object)
        self._transitions = Transitions.from_weights(
            names, bias=np.ascontiguousarray(lower.get_param("b").T).ravel(), pieces=pieces,
            upper=np.ascontiguousarray(upper.get_param("W").T), upper_bias=upper.get_param("b"),
        )  # fmt: skip

    def analyse(self, texts: Sequence[str]) -> Iterator[Analysis]:
        """The analyses of sentences, in order. Sentences of like length are parsed together."""
        docs = [self._nlp.make_doc(text) for text in texts]
        order = sorted(range(len(docs)), key=lambda index: len(docs[index]))
        found: list[Analysis] = [Analysis(text, [], [], [], [], [], []) for text in texts]
        filled = [index for index in order if len(docs[index])]
        for block in split_blocks(filled, [len(doc) for doc in docs]):
            analyses = self._analyse_block([docs[index] for index in block])
            for index, analysis in zip(block, analyses, strict=True):
                found[index] = analysis
        return iter(found)

    def _analyse_block(self, docs: Sequence[Doc]) -> Iterator[Analysis]:
        """The analyses of documents with at least one word."""
        rows = np.concatenate([doc.to_array([NORM, PREFIX, SUFFIX, SHAPE, IDX, LENGTH]) for doc in docs])
        lengths = np.array([len(doc) for doc in docs])
        vectors = self._vectors(self._table.find(rows[:, :4]), lengths)
        scores = vectors @ self._tag_weights
        scores += self._tag_bias
        tags = self._tags[scores.argmax(axis=1)].tolist()
        table = np.empty((len(vectors) + 1, self._lower.shape[1]), dtype=np.float32)
        table[0] = self._lower_pad.ravel()
        np.dot(vectors @ self._linear + self._linear_bias, self._lower, out=table[1:])
        heads, moves = parse_block(table.reshape(len(table) * NUM_FEATURES, -1), lengths, self._transitions)
        firsts = np.repeat(np.cumsum(lengths) - lengths, lengths)
        places = np.arange(len(vectors)) - firsts
        heads = np.where(heads[1:] > 0, heads[1:] - 1 - firsts, places).tolist()
        labels = self._labels[moves[1:]].tolist()
        begins = rows[:, 4].astype(np.int64).tolist()
        ends = (rows[:, 4] + rows[:, 5]).astype(np.int64).tolist()
        start = 0
        for doc, end in zip(docs, accumulate(lengths.tolist()), strict=True):
            text = doc.text
            words = [text[first:last] for first, last in zip(begins[start:end], ends[start:end], strict=True)]
            tagged = tags[start:end]
            for index, word in enumerate(words):
                if word.isspace():
                    tagged[index] = SPACE_TAG
            lemmas = list(map(self._lemma, words, tagged))
            yield Analysis(
                text, words, begins[start:end], lemmas, tagged, labels[start:end], heads[start:end]
            )
            start = end

    def _vectors(self, words: Numbers, lengths: Numbers) -> Floats:
        """The token vectors of the words of several documents, given the words' rows in the table."""
        depth = len(self._layers)
        places = interior(lengths, depth)
        padded = np.zeros(int(lengths.sum()) + 2 * depth * len(lengths), dtype=np.int64)
        padded[places] = words
        # The first convolution, from products: around each sentence as many places as the others reach.
        places = interior(lengths + 2 * (depth - 1), 1)
        products, layer = self._table.products, self._layers[0]
        sums = products.take(padded[places - 1] * 3, axis=0)
        sums += products.take(padded[places] * 3 + 1, axis=0)
        sums += products.take(padded[places + 1] * 3 + 2, axis=0)
        vectors = self._table.vectors.take(padded[places], axis=0)
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


def split_blocks(sentences: Sequence[int], lengths: Sequence[int]) -> Iterator[list[int]]:
    """Runs of sentences with at most BLOCK_SENTENCES and BLOCK_WORDS; `lengths` are the words of every sentence."""
    block: list[int] = []
    num_words = 0
    for sentence in sentences:
        if block and (len(block) == BLOCK_SENTENCES or num_words + lengths[sentence] > BLOCK_WORDS):
            yield block
            block, num_words = [], 0
        block.append(sentence)
        num_words += lengths[sentence]
    if block:
        yield block


def interior(lengths: Numbers, margin: int) -> Numbers:
    """The places of runs of these lengths in an array in which each has `margin` more places on both sides."""
    total = int(lengths.sum())
    before = np.repeat(np.arange(len(lengths)) * (2 * margin) + margin, lengths)
    return np.arange(total) + before


def read_convolutions(model: Any) -> list[Normalised]:
    """The convolutions of a HashEmbedCNN: all its maxout layers but the first, which mixes a word's features."""
    maxouts = [node for node in model.walk(order="dfs_pre") if node.name == "maxout"][1:]
    norms = [node for node in model.walk(order="dfs_pre") if node.name == "layernorm"][1:]
    found = []
    for maxout, norm in zip(maxouts, norms, strict=True):
        weights = maxout.get_param("W").transpose(2, 1, 0)
        found.append(
            Normalised(
                weights=np.ascontiguousarray(weights.reshape(len(weights), -1)),
                bias=np.ascontiguousarray(maxout.get_param("b").T).ravel(),
                scale=norm.get_param("G"),
                shift=norm.get_param("b"),
            )
        )
    return found


def read_ahead(nlp: Language, words: str) -> None:
    """Tokenize the common words once, outside any memory zone.

    spaCy computes what it knows of a word (shape, norm, ...) and how to cut it when it first meets it, and forgets
    that with the memory zone of the batch. What is known before the first zone stays: about 30 microseconds a word.
    """
    pieces = words.split()
    for start in range(0, len(pieces), 500):
        nlp.make_doc(" ".join(pieces[start : start + 500]))
