"""The bundled pipeline's tags and trees in numpy: what `scene_graphs` parses captions with, for speed alone.

The pipeline in `model/` is a stock spaCy pipeline, and spaCy runs it (`CaptionParser` does so for the reference's
rules). Run by spaCy, two thirds of a caption's time go to the transition loop, to layers that see each word anew, and
to records that no rule reads. Here the tokenizer is spaCy's, and the network's weights are read from the loaded
pipeline and applied to a block of sentences at a time (`network.py`): words once (`word_table.py`), convolutions
without the padding that no word sees, and the transitions of all sentences in step (`transitions.py`). The arithmetic
is the same up to rounding; a test holds the two to the same tags, heads and labels. What rounding could sway is decided
again in double precision, so that a sentence's analysis depends on no neighbour.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from spacy.attrs import IDX, LENGTH, NORM, PREFIX, SHAPE, SUFFIX  # type: ignore[import-not-found]  # noqa: TID251
from spacy.language import Language  # noqa: TID251
from spacy.tokens import Doc  # noqa: TID251

from pipeline.caption_parser import morphology
from pipeline.caption_parser.network import DOUBLE, SINGLE, Decisions, Network, Numbers

BLOCK_SENTENCES: Final = 192
"""Sentences parsed in step at most."""
BLOCK_WORDS: Final = 8_192
"""Words parsed in step at most, but for a single longer sentence: a word takes about 15 KB meanwhile."""
COMMON_WORDS: Final = "common_words.txt"
"""File of the bundled pipeline: the commonest words of captions."""
ROOT: Final = "ROOT"
SPACE_TAG: Final = "_SP"


class Analysis(NamedTuple):
    """One parsed sentence: parallel lists over its words; a root is its own head."""

    text: str
    words: list[str]
    starts: list[int]
    lemmas: list[str]
    tags: list[str]
    labels: list[str]
    heads: list[int]


class Prediction:
    """The tagger, parser and lemmas of a loaded caption pipeline, whose files are in `folder`."""

    def __init__(self, nlp: Language, *, folder: Path) -> None:
        self._nlp = nlp
        self._lemma = nlp.get_pipe(morphology.FACTORY).cached_lemma  # type: ignore[attr-defined]
        read_ahead(nlp, (folder / COMMON_WORDS).read_text("utf-8"))
        self._network = Network(nlp, precision=SINGLE)
        tagger: Any = nlp.get_pipe("tagger")
        parser: Any = nlp.get_pipe("parser")
        self._tags = np.array([*tagger.labels, SPACE_TAG], dtype=object)
        self._labels = np.array([name[2:] for name in parser.move_names] + [ROOT], dtype=object)

    @cached_property
    def _exact(self) -> Network:
        """The network for what single precision cannot decide."""
        return Network(self._nlp, precision=DOUBLE)

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
        decided = self._network.decide(rows[:, :4], lengths)
        self._settle(decided, rows[:, :4], lengths)
        tags = self._tags[decided.tags].tolist()
        heads = decided.heads.tolist()
        labels = self._labels[decided.moves].tolist()
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

    def _settle(self, decided: Decisions, features: NDArray[np.uint64], lengths: Numbers) -> None:
        """Decide once more, alone and in double precision, about the documents in doubt."""
        starts = np.cumsum(lengths) - lengths
        for document in np.flatnonzero(decided.doubtful):
            words = slice(starts[document], starts[document] + lengths[document])
            again = self._exact.decide(features[words], lengths[document : document + 1])
            decided.tags[words], decided.heads[words], decided.moves[words] = again[:3]


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


def read_ahead(nlp: Language, words: str) -> None:
    """Tokenize the common words once, outside any memory zone.

    spaCy computes what it knows of a word (shape, norm, ...) and how to cut it when it first meets it, and forgets
    that with the memory zone of the batch. What is known before the first zone stays: about 30 microseconds a word.
    """
    pieces = words.split()
    for start in range(0, len(pieces), 500):
        nlp.make_doc(" ".join(pieces[start : start + 500]))
