"""What may replace one piece of a positive: term pools, a row's own stream of draws, form and case.

Part of `subcaptions`. A pool holds the terms of one kind by frequency band; a draw takes a band, then a term in it,
and is drawn again where the term is excluded or the caption already says it.
"""

import hashlib
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from pipeline.lexicons import BANDS, Lexicon, Lexicons

BASE, THIRD_PERSON, GERUND, PAST, PARTICIPLE = range(5)
"""Columns of a relation term's forms."""
SINGULAR, PLURAL = range(2)
"""Columns of an object term's forms."""
_FREE_DRAWS: Final = 12
"""Draws before the remaining terms are walked through in order."""
_UNPACK: Final = struct.Struct("<128I").unpack


def draw_numbers(seed: int, key: str) -> Iterator[int]:
    """An endless stream of 32-bit numbers that depends on the seed and the key alone."""
    block = 0
    text = f"{seed}:{block}:{key}"
    while True:
        yield from _UNPACK(hashlib.shake_128(text.encode("utf-8", "surrogatepass")).digest(512))
        block += 1
        text = f"{seed}:{block}:{key}"


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """Terms of one lexicon that may stand in one place."""

    lexicon: str
    rows: tuple[int, ...]
    bands: tuple[tuple[int, ...], ...]
    """Rows by band; bands without a term are left out."""
    mask: int
    forms: Sequence[tuple[str, ...]]
    """Of every row of the lexicon."""
    term_ids: Sequence[str]


@dataclass(frozen=True, slots=True, eq=False)
class Pools:
    """The pools of one set of lexicons."""

    objects: Pool
    plural_objects: Pool
    attributes: Pool
    verbs: Pool
    verb_phrases: Pool
    prepositions: Pool
    actions: Pool
    """Verbs and verb phrases: what stands where a caption has a bare preposition."""


@lru_cache(maxsize=4)
def pools_of(lexicons: Lexicons) -> Pools:
    """The pools of `lexicons`, made once per process."""
    relations = lexicons.relations
    verbs, phrases = relations.of_kind("verb"), relations.of_kind("verb_preposition")
    countable = sum(1 << row for row, term in enumerate(lexicons.objects.terms) if term.forms[PLURAL])
    return Pools(
        objects=_pool(lexicons.objects, -1),
        plural_objects=_pool(lexicons.objects, countable),
        attributes=_pool(lexicons.attributes, -1),
        verbs=_pool(relations, verbs),
        verb_phrases=_pool(relations, phrases),
        prepositions=_pool(relations, relations.of_kind("preposition")),
        actions=_pool(relations, verbs | phrases),
    )


def _pool(lexicon: Lexicon, mask: int) -> Pool:
    mask &= (1 << len(lexicon.terms)) - 1
    bands = (tuple(row for row in lexicon.bands[band] if mask >> row & 1) for band in range(len(BANDS)))
    return Pool(
        lexicon=lexicon.name,
        rows=rows_of(mask),
        bands=tuple(rows for rows in bands if rows),
        mask=mask,
        forms=[term.forms for term in lexicon.terms],
        term_ids=[term.term_id for term in lexicon.terms],
    )


@lru_cache(maxsize=4096)
def rows_of(mask: int) -> tuple[int, ...]:
    """The rows whose bits are set."""
    return tuple(row for row, bit in enumerate(reversed(f"{mask:b}")) if bit == "1") if mask else ()


class Slot:
    """One piece of a positive that can be replaced."""

    __slots__ = ("before", "case", "end", "excluded", "near", "options", "original", "start", "tail")

    def __init__(
        self,
        *,
        start: int,
        end: int,
        original: str,
        options: tuple[tuple[Pool, int], ...],
        excluded: int,
        near: int = 0,
        before: str = "",
        tail: str = "",
    ) -> None:
        self.start = start
        """`positive[start:end] == original`."""
        self.end = end
        self.original = original
        self.options = options
        """Pools to draw from, each with the form its terms take."""
        self.excluded = excluded
        """Terms that must not stand here, as bits; grows with every term used."""
        self.near = near
        """Terms that are like the original, as bits."""
        self.before = before
        """What stays before the term ("to " of an infinitive)."""
        self.tail = tail
        """What stays after it (" by" of a passive)."""
        self.case = 0 if original.islower() else 2 if original.isupper() and len(original) > 1 else 1

    def draw(self, numbers: Iterator[int], caption: str, *, near: bool) -> tuple[int, str, Pool] | None:
        """A row that fits, its text and its pool; None where no term is left. `caption` is lower case."""
        if near and self.near:
            for pool, form in self.options:
                row = self._walk(rows_of(self.near & pool.mask), numbers, caption, pool, form)
                if row is not None:
                    return row, self._dress(pool.forms[row][form]), pool
        options = self.options
        first = next(numbers) % len(options) if len(options) > 1 else 0
        for pool, form in (*options[first:], *options[:first]):
            row = self._draw_row(pool, form, numbers, caption)
            if row is not None:
                return row, self._dress(pool.forms[row][form]), pool
        return None

    def _draw_row(self, pool: Pool, form: int, numbers: Iterator[int], caption: str) -> int | None:
        bands, forms, excluded = pool.bands, pool.forms, self.excluded
        if not bands:
            return None
        num_bands = len(bands)
        for _ in range(_FREE_DRAWS):
            number = next(numbers)
            band = bands[number % num_bands]
            row = band[(number >> 8) % len(band)]
            if not excluded >> row & 1:
                words = forms[row]
                if words[0] not in caption and words[form] not in caption:
                    return row
        return self._walk(pool.rows, numbers, caption, pool, form)

    def _walk(
        self, rows: tuple[int, ...], numbers: Iterator[int], caption: str, pool: Pool, form: int
    ) -> int | None:
        """The first row that fits, from a random one on."""
        first = next(numbers) % len(rows) if rows else 0
        for row in (*rows[first:], *rows[:first]):
            words = pool.forms[row]
            if not self.excluded >> row & 1 and words[0] not in caption and words[form] not in caption:
                return row
        return None

    def _dress(self, word: str) -> str:
        if self.before or self.tail:
            word = f"{self.before}{word}{self.tail}"
        if self.case:
            return word.upper() if self.case == 2 else _match_capitals(self.original, word)
        return word


def _match_capitals(original: str, word: str) -> str:
    """`word` with the capitals of `original`: on every word where it has them on every word, else on the first."""
    if not original[:1].isupper():
        return word
    if all(part[:1].isupper() for part in original.split()):
        return " ".join(part[:1].upper() + part[1:] for part in word.split(" "))
    return word[:1].upper() + word[1:]
