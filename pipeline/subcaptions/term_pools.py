"""Pools of formed terms: what may stand in one place of a positive, by frequency band and size.

Made from the lexicons once per process; `replacements` draws from them, `positives` chooses which.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from pipeline.lexicons import inflection
from pipeline.lexicons.loading import BANDS, Lexicon, Lexicons
from pipeline.scene_graphs.words import COLOURS
from pipeline.word_lists import WordLists

BASE, THIRD_PERSON, GERUND, PAST, PARTICIPLE = range(5)
"""Columns of a relation term's forms."""
SINGULAR, PLURAL = range(2)
"""Columns of an object term's forms."""
LOWER, CAPITAL, UPPER = range(3)
SPREAD: Final = 0.15
"""How far from those of its original's size a term is drawn, as a share of its band."""
MIN_SPREAD: Final = 40
"""But no fewer entries than this: small bands are drawn from whole."""
MIN_PHRASES: Final = 25
"""Verb phrases a preposition must have to be kept while the verb is replaced."""
USUAL_PREPOSITIONS: Final = WordLists.beside(__file__).word_set("usual_prepositions.txt")
POSTURES: Final = frozenset(WordLists.beside(inflection.__file__).sections("motions.txt")["posture"])
OF_ANYBODY: Final = WordLists.beside(__file__).word_set("of_anybody.txt")
MAY_BE_DONE: Final = frozenset(WordLists.beside(__file__).words("may_be_done.txt"))
OF_NOBODY: Final = WordLists.beside(__file__).word_set("of_nobody.txt")
MAX_KEPT: Final = 20_000
"""Originals whose place a pool remembers."""
MAX_POOLS: Final = 2_000
"""Smaller pools that a pool remembers."""

Entry = tuple[int, str, str, str]
"""A term in one form: its row in the lexicon, the form, the term itself, its id."""
Bands = tuple[tuple[tuple[Entry, ...], int, int], ...]
"""For each band its entries, sorted by size and mirrored at both ends, where to draw, and how far from there."""


class Pool:
    """Terms of one lexicon that may stand in one place.

    Each band is sorted by the words and the length of its forms, and a draw falls around those of the original:
    otherwise negatives would be longer than positives, as rare words are long, and could be told by that alone.
    """

    __slots__ = ("_centres", "_entries", "_padded", "_places", "_without", "bands", "keeps_band", "lexicon")

    def __init__(
        self,
        lexicon: str,
        bands: Sequence[Sequence[Entry]],
        *,
        keeps_band: bool = True,
        are_sorted: bool = False,
    ) -> None:
        self.lexicon = lexicon
        self.keeps_band = keeps_band
        """Whether a draw that is refused is made again in its band: not where some bands hold a dozen terms."""
        self.bands = tuple(
            tuple(band if are_sorted else sorted(band, key=lambda entry: (_size(entry[1]), entry[1])))
            for band in bands
            if band
        )
        """By frequency; each band is drawn from as often as any other."""
        self._padded = tuple(_mirrored(band) for band in self.bands)
        self._entries: list[Entry] | None = None
        self._centres: dict[tuple[int, int], Bands] = {}
        self._places: dict[str, tuple[Bands, int]] = {}
        self._without: dict[int, Pool] = {}

    def place(self, original: str) -> tuple[Bands, int]:
        """What to draw from for an original, and how it is capitalised."""
        known = self._places.get(original)
        if known is None:
            known = self.around(original), case_of(original)
            if len(self._places) < MAX_KEPT:
                self._places[original] = known
        return known

    def around(self, original: str) -> Bands:
        """For each band: its entries, where those like the original are, how far from there to draw."""
        size = _size(original)
        found = self._centres.get(size)
        if found is None:
            found = self._centres[size] = tuple(
                (padded, width + _middle(band, size), width)
                for band, (padded, width) in zip(self.bands, self._padded, strict=True)
            )
        return found

    def without(self, rows: int) -> "Pool":
        """The pool without the terms of these rows; made once for each set of rows."""
        found = self._without.get(rows)
        if found is None:
            left = [[entry for entry in band if not rows >> entry[0] & 1] for band in self.bands]
            found = Pool(self.lexicon, left, are_sorted=True)
            if len(self._without) >= MAX_POOLS:
                self._without.clear()
            self._without[rows] = found
        return found

    def entries(self, rows: int | None = None) -> list[Entry]:
        """Every entry once, or those of the rows whose bits are set."""
        if self._entries is None:
            self._entries = list({entry[1]: entry for band in self.bands for entry in band}.values())
        if rows is None:
            return self._entries
        return [entry for entry in self._entries if rows >> entry[0] & 1]


def _mirrored(band: tuple[Entry, ...]) -> tuple[tuple[Entry, ...], int]:
    """A band with its ends mirrored outwards as far as a draw may fall, and how far that is."""
    width = max(MIN_SPREAD, round(SPREAD * len(band)))
    there_and_back = band + band[-2:0:-1]
    period = len(there_and_back)
    before = [there_and_back[place % period] for place in range(-width, 0)]
    behind = [there_and_back[place % period] for place in range(len(band), len(band) + width)]
    return (*before, *band, *behind), width


def _size(text: str) -> tuple[int, int]:
    """The parts of a word or phrase, and its characters."""
    return text.count(" ") + text.count("-"), len(text)


def _middle(band: tuple[Entry, ...], size: tuple[int, int]) -> int:
    """The middle of the entries of one size in a band sorted by size."""
    first = bisect_left(band, size, key=lambda entry: _size(entry[1]))
    last = bisect_right(band, size, key=lambda entry: _size(entry[1]))
    return min((first + last) // 2, len(band) - 1)


@dataclass(frozen=True, slots=True, eq=False)
class Pools:
    """The pools of one set of lexicons."""

    objects: tuple[Pool, Pool]
    """Singular, plural."""
    attributes: Pool
    verbs: tuple[Pool, ...]
    """By form."""
    verb_phrases: dict[str, tuple[Pool, ...]]
    """By preposition, then by form; under "" those of all prepositions."""
    need_plural: int
    """Relations whose object must be in the plural, as bits."""
    of_anybody: int
    """Attributes that may be true of anybody, as bits."""
    of_nobody: int
    """Attributes that are said of no person, though of things, as bits: they demean."""
    colours: int
    """Attributes that are colours, as bits."""
    postures: int
    """Relations that say how a body rests, as bits: a cup that sits on a table stands there, too."""
    may_be_done: int
    """Relations that leave most others true, as bits: whoever hits a ball may look at it."""
    prepositions: Pool
    """Prepositions, and as often verbs: where a caption has a bare preposition, "the relational verb is missing and
    another is chosen" (CleanerCLIP)."""


@lru_cache(maxsize=4)
def pools_of(lexicons: Lexicons) -> Pools:
    """The pools of `lexicons`, made once per process."""
    relations = lexicons.relations
    phrases = [row for row, term in enumerate(relations.terms) if term.kind == "verb_preposition"]
    by_preposition: dict[str, set[int]] = {"": set(phrases)}
    for row in phrases:
        by_preposition.setdefault(relations.terms[row].term.partition(" ")[2], set()).add(row)
    verbs = {row for row, term in enumerate(relations.terms) if term.kind == "verb"}
    bare = _bands(
        relations, {row for row, term in enumerate(relations.terms) if term.kind == "preposition"}, BASE
    )
    need_plural = sum(
        1 << row
        for row, term in enumerate(relations.terms)
        if term.term.rpartition(" ")[2] in ("between", "among")
    )
    return Pools(
        need_plural=need_plural,
        of_anybody=_rows_of(lexicons.attributes, OF_ANYBODY),
        of_nobody=_rows_of(lexicons.attributes, OF_NOBODY),
        colours=_rows_of(lexicons.attributes, COLOURS),
        postures=sum(
            1 << row for row, term in enumerate(relations.terms) if term.term.partition(" ")[0] in POSTURES
        ),
        may_be_done=_rows_of(relations, MAY_BE_DONE),
        objects=(_pool(lexicons.objects, SINGULAR), _pool(lexicons.objects, PLURAL)),
        attributes=_pool(lexicons.attributes, BASE),
        verbs=tuple(_pool(relations, form, verbs) for form in range(5)),
        verb_phrases={
            preposition: tuple(_pool(relations, form, rows) for form in range(5))
            for preposition, rows in by_preposition.items()
            if preposition == "" or len(rows) >= MIN_PHRASES
        },
        prepositions=Pool(
            "relations", [*_usual_first(bare), *_bands(relations, verbs, GERUND)], keeps_band=False
        ),
    )


def _rows_of(lexicon: Lexicon, words: frozenset[str]) -> int:
    return sum(1 << row for row, term in enumerate(lexicon.terms) if term.term in words)


def _usual_first(bands: list[list[Entry]]) -> list[list[Entry]]:
    """Five bands of prepositions: three of the everyday ones, two of all, so that they are as usual as in captions."""
    every = [entry for band in bands for entry in band]
    usual = [entry for entry in every if entry[2] in USUAL_PREPOSITIONS]
    return [usual, usual, usual, every, every]


def _pool(lexicon: Lexicon, form: int, rows: set[int] | None = None) -> Pool:
    return Pool(lexicon.name, _bands(lexicon, rows, form))


def _bands(lexicon: Lexicon, rows: set[int] | None, form: int) -> list[list[Entry]]:
    """The terms of these rows in one form, by band; a term without the form (a mass noun's plural) is left out."""
    return [
        [
            (row, term.forms[form], term.term, term.term_id)
            for row in lexicon.bands[band]
            if (term := lexicon.terms[row]).forms[form] and (rows is None or row in rows)
        ]
        for band in range(len(BANDS))
    ]


def case_of(original: str) -> int:
    """LOWER, CAPITAL or UPPER."""
    if original.islower():
        return LOWER
    return UPPER if len(original) > 1 and original.isupper() else CAPITAL
