"""A sentence's words by spaCy's tokenizer, which is asked once for each piece between blanks: part of `prediction.py`.

spaCy cuts a text at white space and then each piece by itself, but for its special cases ("10a.m."), which it looks for
among the words of the whole text. So what it makes of a piece is kept, and a text is asked about as a whole only where
two words on both sides of a blank stand side by side in a special case, or its white space is not single blanks.
"""

from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from spacy.attrs import IDX, LENGTH, NORM, PREFIX, SHAPE, SUFFIX  # type: ignore[import-not-found]  # noqa: TID251
from spacy.language import Language  # noqa: TID251
from spacy.tokenizer import Tokenizer  # type: ignore[import-not-found]  # noqa: TID251

MAX_PIECES: Final = 30_000
"""Pieces kept, about 20 MB; a fuller table is emptied and starts anew."""

Features = NDArray[np.uint64]


class Piece(NamedTuple):
    """What stands between two blanks."""

    words: list[str]
    starts: list[int]
    """First character of each word."""
    features: Features
    """(words, 4): norm, prefix, suffix and shape."""


class Sentence(NamedTuple):
    """A sentence's words."""

    text: str
    words: list[str]
    starts: list[int]
    features: list[Features]
    """Of its pieces, in order."""
    has_space: bool
    """Whether a word is white space."""


class Tokens:
    """The tokenizer of a loaded pipeline, and what it made of the pieces seen so far."""

    def __init__(self, nlp: Language) -> None:
        self._nlp = nlp
        self._pieces: dict[str, Piece] = {}
        self._pairs = adjoining_words(nlp)
        self._firsts = frozenset(first for first, _ in self._pairs)

    def cut(self, text: str) -> Sentence:
        """The words of a text: those of spaCy's `make_doc`."""
        pieces = text.split(" ")
        if pieces != text.split():
            return self._cut_whole(text)
        words: list[str] = []
        starts: list[int] = []
        features = []
        start = 0
        known, firsts = self._pieces, self._firsts
        for name in pieces:
            piece = known.get(name) or self._add(name)
            if words and words[-1] in firsts and (words[-1], piece.words[0]) in self._pairs:
                return self._cut_whole(text)
            words += piece.words
            if len(piece.words) == 1:
                starts.append(start)
            else:
                starts += [start + inside for inside in piece.starts]
            features.append(piece.features)
            start += len(name) + 1
        return Sentence(text, words, starts, features, has_space=False)

    def _cut_whole(self, text: str) -> Sentence:
        piece = self._cut(text)
        has_space = any(map(str.isspace, piece.words))
        return Sentence(text, piece.words, piece.starts, [piece.features], has_space)

    def _add(self, name: str) -> Piece:
        if len(self._pieces) >= MAX_PIECES:
            self._pieces.clear()
        piece = self._pieces[name] = self._cut(name)
        return piece

    def _cut(self, text: str) -> Piece:
        rows = self._nlp.make_doc(text).to_array([NORM, PREFIX, SUFFIX, SHAPE, IDX, LENGTH])
        starts = rows[:, 4].astype(np.int64).tolist()
        ends = (rows[:, 4] + rows[:, 5]).astype(np.int64).tolist()
        words = [text[start:end] for start, end in zip(starts, ends, strict=True)]
        return Piece(words, starts, np.ascontiguousarray(rows[:, :4]))


def adjoining_words(nlp: Language) -> frozenset[tuple[str, str]]:
    """Words that stand side by side in a special case of the tokenizer, as its other rules cut that."""
    own: Any = nlp.tokenizer
    plain = Tokenizer(
        nlp.vocab,
        rules={},
        prefix_search=own.prefix_search,
        suffix_search=own.suffix_search,
        infix_finditer=own.infix_finditer,
        token_match=own.token_match,
        url_match=own.url_match,
    )
    return frozenset(
        pair for special in own.rules for pair in pairwise(token.text for token in plain(special))
    )
