"""The bundled pipeline's tags and trees in numpy: what `scene_graphs` parses captions with, for speed alone.

The pipeline in `model/` is a stock spaCy pipeline, and spaCy runs it (`CaptionParser` does so for the reference's
rules). Run by spaCy, two thirds of a caption's time go to the transition loop, to layers that see each word anew, and
to records that no rule reads. Here the words are those of spaCy's tokenizer (`tokens.py`), and the network's weights
are read from the loaded pipeline and applied to a block of sentences at a time (`network.py`): words once
(`word_table.py`), convolutions without the padding that no word sees, and the transitions of all sentences in step
(`transitions.py`). The arithmetic is the same up to rounding; a test holds the two to the same tags, heads and labels.
What rounding could sway is decided again in double precision, so that a sentence's analysis depends on no neighbour.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import accumulate
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from spacy.language import Language  # noqa: TID251

from pipeline.caption_parser import morphology
from pipeline.caption_parser.network import DOUBLE, SINGLE, Decisions, Network, Numbers
from pipeline.caption_parser.tokens import Sentence, Tokens

BLOCK_SENTENCES: Final = 192
"""Sentences parsed in step at most."""
BLOCK_WORDS: Final = 8_192
"""Words parsed in step at most, but for a single longer sentence: a word takes about 15 KB meanwhile."""
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
    """The tagger, parser and lemmas of a loaded caption pipeline."""

    def __init__(self, nlp: Language) -> None:
        self._nlp = nlp
        self._lemma = nlp.get_pipe(morphology.FACTORY).cached_lemma  # type: ignore[attr-defined]
        self._tokens = Tokens(nlp)
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
        sentences = [self._tokens.cut(text) for text in texts]
        lengths = [len(sentence.words) for sentence in sentences]
        order = sorted(range(len(sentences)), key=lengths.__getitem__)
        found: list[Analysis] = [Analysis(text, [], [], [], [], [], []) for text in texts]
        filled = [index for index in order if lengths[index]]
        for block in split_blocks(filled, lengths):
            analyses = self._analyse_block([sentences[index] for index in block])
            for index, analysis in zip(block, analyses, strict=True):
                found[index] = analysis
        return iter(found)

    def _analyse_block(self, sentences: Sequence[Sentence]) -> Iterator[Analysis]:
        """The analyses of sentences with at least one word."""
        features = np.concatenate([piece for sentence in sentences for piece in sentence.features])
        lengths = np.array([len(sentence.words) for sentence in sentences])
        decided = self._network.decide(features, lengths)
        self._settle(decided, features, lengths)
        tags = self._tags[decided.tags].tolist()
        heads = decided.heads.tolist()
        labels = self._labels[decided.moves].tolist()
        start = 0
        for sentence, end in zip(sentences, accumulate(lengths.tolist()), strict=True):
            words = sentence.words
            tagged = tags[start:end]
            if sentence.has_space:
                tagged = [
                    SPACE_TAG if word.isspace() else tag for word, tag in zip(words, tagged, strict=True)
                ]
            lemmas = list(map(self._lemma, words, tagged))
            yield Analysis(
                sentence.text, words, sentence.starts, lemmas, tagged, labels[start:end], heads[start:end]
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
