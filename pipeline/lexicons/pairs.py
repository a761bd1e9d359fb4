"""How often captions put words together: pairs.tsv, which `pipeline count-pairs` makes and plausible draws go by.

A line is a link, a word, and its companions with their counts: `objects<TAB>ride<TAB>horse 812<TAB>bike 640`.
Companions stand from the most to the least frequent; pairs that were seen once are left out.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pipeline.errors import UserError

PAIRS_FILE: Final = "pairs.tsv"
SUBJECTS, OBJECTS, ATTRIBUTES, RELATIONS = "subjects", "objects", "attributes", "relations"
LINKS: Final = (SUBJECTS, OBJECTS, ATTRIBUTES, RELATIONS)
"""Of a relation its subjects, its objects; of a noun its attributes; of "" every relation."""
ANY: Final = ""
"""The word whose companions are those of all words; as a relation also that of nouns that stand alone."""
ALONE: Final = "-"
"""The relation of nouns that stand alone."""
BARE: Final = "@"
"""Before a preposition that is a relation by itself: "near" is a verb, too."""
MIN_COUNT: Final = 2
"""Pairs seen more seldom are left out: most are slips of the parser."""


@dataclass(frozen=True, slots=True)
class PairCounts:
    """Companions of words by link."""

    links: Mapping[str, dict[str, Counter[str]]] = field(
        default_factory=lambda: {link: defaultdict(Counter) for link in LINKS}
    )

    def of(self, link: str, word: str) -> Mapping[str, int]:
        """The companions of a word; empty for a word that was not seen."""
        return self.links[link].get(word, {})

    def count(self, lexicon: str, term: str) -> int:
        """How often a term of a lexicon was seen, whatever with; a preposition as one, and as a verb."""
        wanted = {"objects": (SUBJECTS, OBJECTS), "attributes": (ATTRIBUTES,), "relations": (RELATIONS,)}
        return sum(
            self.of(link, ANY).get(word, 0) for link in wanted[lexicon] for word in (term, BARE + term)
        )


def write_pairs(counts: PairCounts) -> bytes:
    """pairs.tsv."""
    lines = []
    for link in LINKS:
        for word, companions in sorted(counts.links[link].items()):
            ranked = sorted(companions.items(), key=lambda pair: (-pair[1], pair[0]))
            cells = [f"{other} {count}" for other, count in ranked if count >= MIN_COUNT]
            if cells:
                lines.append("\t".join((link, word, *cells)))
    return ("\n".join(lines) + "\n").encode()


def read_pairs(file: Path) -> PairCounts:
    """The counts of pairs.tsv; UserError where a line is none of them."""
    counts = PairCounts()
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        link, _, rest = line.partition("\t")
        word, *cells = rest.split("\t")
        try:
            counts.links[link][word] = Counter(dict(_pairs(cells)))
        except (KeyError, ValueError) as error:
            raise UserError(f"{file}, line {number}: not a line of pairs: {line[:80]!r}") from error
    return counts


def _pairs(cells: Iterable[str]) -> Iterable[tuple[str, int]]:
    for cell in cells:
        word, _, count = cell.rpartition(" ")
        yield word, int(count)
