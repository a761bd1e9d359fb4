"""The three lexicons as the workers use them: load, validate, look up. `building` makes them.

A folder holds objects.csv, attributes.csv, relations.csv (one term a row), links.tsv (which caption words a term
must not replace) and manifest.json (last written). Terms are numbered by their row; a set of terms is one integer
with a bit per row, so that a union is one operation and no worker opens WordNet.
"""

import csv
import hashlib
import io
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

from pipeline.errors import UserError
from pipeline.lexicons.pairs import PAIRS_FILE, PairCounts, read_pairs
from pipeline.storage import read_json, sha256_file, write_atomically

LEXICONS: Final = ("objects", "attributes", "relations")
LINKS_FILE: Final = "links.tsv"
LINKS: Final = ("excluded", "near", "possible", "contrasts", "kind")
"""What links.tsv says of caption words: see the methods of Lexicon with these names."""
UNKNOWN_NOUN: Final = "*"
"""Stands for every noun that `possible` does not have."""
MANIFEST_FILE: Final = "manifest.json"
FILES: Final = (*(f"{name}.csv" for name in LEXICONS), LINKS_FILE, MANIFEST_FILE)
BANDS: Final = ("common", "frequent", "medium", "uncommon", "rare")
"""From the most to the least frequent fifth of a lexicon's candidates."""
_BAND_NUMBERS: Final = {band: number for number, band in enumerate(BANDS)}
_SHARED_COLUMNS: Final = ("term_id", "term", "kind", "band", "source", "synset", "in_captions")
FORM_COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "objects": ("plural",),
    "attributes": (),
    "relations": ("third_person", "gerund", "past", "participle"),
}
COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    name: (*_SHARED_COLUMNS, *FORM_COLUMNS[name], "synonyms") for name in LEXICONS
}
ID_PREFIX: Final[Mapping[str, str]] = {"objects": "obj", "attributes": "att", "relations": "rel"}
SEPARATOR: Final = "|"


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One row of a lexicon."""

    term_id: str
    """Made of the term alone ("obj:fire-hydrant"), so it outlives a rebuild."""
    term: str
    """Lower case: a singular noun, a modifier, a verb's base form with its preposition, a preposition."""
    kind: str
    band: int
    """Index into BANDS."""
    source: str
    """wordnet, list (a closed class that WordNet lacks) or llm."""
    synset: str
    """The WordNet meaning it was chosen for; "" where there is none."""
    in_captions: bool
    """Whether it occurs in the captions the lexicons were built for."""
    forms: tuple[str, ...]
    """The term and its inflected forms, in the order of FORM_COLUMNS."""
    synonyms: tuple[str, ...]


class Lexicon:
    """One lexicon: its terms, its bands, and which terms a word rules out."""

    def __init__(
        self, name: str, terms: tuple[Term, ...], links: Mapping[str, Sequence[tuple[str, str]]]
    ) -> None:
        """`links`: for each of LINKS, rows of terms and the words they are linked to, as links.tsv has them."""
        self.name = name
        self.terms = terms
        self.bands = tuple(
            tuple(index for index, term in enumerate(terms) if term.band == band)
            for band in range(len(BANDS))
        )
        self._links = links
        self._masks: dict[str, int] = {}

    def excluded(self, word: str) -> int:
        """The terms that must not replace `word` (lower case), as bits; 0 for a word nothing is known of."""
        rows = self._excluded.get(word)
        if rows.__class__ is int:  # decoded before
            return rows
        return 0 if rows is None else self._decoded(self._excluded, word)

    def near(self, word: str) -> int:
        """The terms like `word` that are not true of it: co-hyponyms, antonyms, other colours; as bits."""
        rows = self._near.get(word)
        if rows.__class__ is int:
            return rows
        return 0 if rows is None else self._decoded(self._near, word)

    def possible(self, noun: str) -> int:
        """The attributes that may be true of what a noun names though no caption says so, as bits."""
        known = noun if noun in self._possible else UNKNOWN_NOUN
        rows = self._possible.get(known)
        if rows.__class__ is int:
            return rows
        return 0 if rows is None else self._decoded(self._possible, known)

    def contrasts(self, word: str) -> int:
        """The attributes that cannot be true of a thing of which `word` is, as bits."""
        rows = self._contrasts.get(word)
        if rows.__class__ is int:
            return rows
        return 0 if rows is None else self._decoded(self._contrasts, word)

    def kind(self, noun: str) -> int:
        """The terms for things of the kind that `noun` names, as bits; 0 for a noun of no kind."""
        rows = self._kinds.get(noun)
        if rows.__class__ is int:
            return rows
        return 0 if rows is None else self._decoded(self._kinds, noun)

    # 200,000 words: by the first that is asked for, and not by whoever reads the lexicons
    @cached_property
    def _excluded(self) -> dict[str, str | int]:
        return _by_word(self._links["excluded"])

    @cached_property
    def _near(self) -> dict[str, str | int]:
        return _by_word(self._links["near"])

    @cached_property
    def _possible(self) -> dict[str, str | int]:
        return _by_word(self._links["possible"])

    @cached_property
    def _contrasts(self) -> dict[str, str | int]:
        return _by_word(self._links["contrasts"])

    @cached_property
    def _kinds(self) -> dict[str, str | int]:
        return _by_word(self._links["kind"])

    def _decoded(self, links: dict[str, str | int], word: str) -> int:
        steps = links[word]
        assert isinstance(steps, str)
        mask = self._masks.get(steps)
        if mask is None:
            mask = self._masks[steps] = sum(1 << row for row in _rows(steps))
        links[word] = mask
        return mask


class Lexicons:
    """The three lexicons of one folder."""

    def __init__(self, folder: Path, lexicons: Mapping[str, Lexicon], manifest: Mapping[str, Any]) -> None:
        self.folder = folder
        self.objects = lexicons["objects"]
        self.attributes = lexicons["attributes"]
        self.relations = lexicons["relations"]
        self.manifest = manifest

    def identity(self) -> dict[str, str]:
        """What a manifest records of them: a hash over all files, the WordNet version, sizes."""
        digest = hashlib.sha256()
        for name in (*FILES[:-1], *([PAIRS_FILE] if (self.folder / PAIRS_FILE).is_file() else [])):
            digest.update(f"{name} {sha256_file(self.folder / name)}\n".encode())
        sizes = "+".join(
            str(len(lexicon.terms)) for lexicon in (self.objects, self.attributes, self.relations)
        )
        return {
            "sha256": digest.hexdigest(),
            "wordnet": str(self.manifest.get("wordnet", "")),
            "terms": sizes,
        }

    def copy_to(self, folder: Path) -> None:
        """Copy the files, the manifest last, so that an output folder explains its own term ids."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in (PAIRS_FILE, *FILES):
            if name in FILES or (self.folder / name).is_file():
                with write_atomically(folder / name) as file, (self.folder / name).open("rb") as source:
                    shutil.copyfileobj(source, file)

    @cached_property
    def pairs(self) -> PairCounts:
        """How often captions put words together, for plausible draws; UserError where the folder does not say."""
        if not (file := self.folder / PAIRS_FILE).is_file():
            raise UserError(
                f"--draw plausible wants {file}: make it with `pipeline count-pairs`, or use --draw even"
            )
        return read_pairs(file)

    @cached_property
    def synonyms(self) -> dict[str, tuple[str, ...]]:
        """Synonyms by term, over all three lexicons, for easy data augmentation."""
        found: dict[str, tuple[str, ...]] = {}
        for lexicon in (self.relations, self.attributes, self.objects):
            found.update((term.term, term.synonyms) for term in lexicon.terms if term.synonyms)
        return found


def load_lexicons(folder: Path | None = None) -> Lexicons:
    """The lexicons of a folder; None takes those that come with the package.

    Raises UserError where a file is missing, a row is broken, or the links do not fit the rows.
    """
    folder = default_folder() if folder is None else folder
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"--lexicons {folder} lacks {', '.join(missing)}: give a folder made by `pipeline build-lexicons --out`"
        )
    terms = {name: read_terms(folder / f"{name}.csv", name) for name in LEXICONS}
    links = _read_links(folder / LINKS_FILE, terms)
    manifest = read_json(folder / MANIFEST_FILE)
    return Lexicons(folder, {name: Lexicon(name, terms[name], links[name]) for name in LEXICONS}, manifest)


def default_folder() -> Path:
    """Where the committed lexicons are: inside an installed package, or at the top of a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "default_lexicons"
    return inside if inside.is_dir() else package.parent / "lexicons"


def read_terms(file: Path, name: str) -> tuple[Term, ...]:
    """The rows of one lexicon's CSV file, validated."""
    with file.open(encoding="utf-8", newline="") as opened:
        reader = csv.reader(opened)
        columns = COLUMNS[name]
        found = next(reader, [])
        if tuple(found) != columns:
            raise UserError(f"{file} has the columns {found}, not {', '.join(columns)}")
        rows = (row for row in reader if row)
        terms = tuple(_term(row, name, file, number) for number, row in enumerate(rows, start=2))
    seen: dict[str, int] = {}
    for number, term in enumerate(terms, start=2):
        first = seen.setdefault(term.term_id, number)
        if first != number:
            raise UserError(f"{file}, line {number}: {term.term_id} stands in line {first}, too")
    if not terms:
        raise UserError(f"{file} has no terms")
    return terms


def _term(row: list[str], name: str, file: Path, number: int) -> Term:
    if len(row) != len(COLUMNS[name]) or row[3] not in _BAND_NUMBERS or not row[1]:
        raise UserError(f"{file}, line {number}: not a lexicon row: {','.join(row)}")
    term_id, term, kind, band, source, synset, in_captions, *forms, synonyms = row
    return Term(
        term_id=term_id,
        term=term,
        kind=kind,
        band=_BAND_NUMBERS[band],
        source=source,
        synset=synset,
        in_captions=in_captions == "yes",
        forms=(term, *forms),
        synonyms=tuple(synonyms.split(SEPARATOR)) if synonyms else (),
    )


def write_terms(terms: Iterable[Term], name: str) -> bytes:
    """One lexicon as a CSV file's bytes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS[name])
    for term in terms:
        shared = (term.term_id, term.term, term.kind, BANDS[term.band], term.source, term.synset)
        in_captions = "yes" if term.in_captions else "no"
        writer.writerow((*shared, in_captions, *term.forms[1:], SEPARATOR.join(term.synonyms)))
    return text.getvalue().encode()


def write_links(
    links: Mapping[str, Mapping[str, Mapping[str, set[str]]]], terms: Mapping[str, tuple[Term, ...]]
) -> bytes:
    """links.tsv: lexicon, link, the rows of the terms, the words they are linked to.

    Words with the same terms share a line. Rows are written as steps: the first, then each one's distance from
    the one before. The first line of a lexicon names its terms in order, so that a user may delete rows of the CSV
    file afterwards.
    """
    lines = []
    for name in LEXICONS:
        rows = {term.term: index for index, term in enumerate(terms[name])}
        lines.append(f"{name}\tterms\t\t{SEPARATOR.join(term.term_id for term in terms[name])}")
        for link, by_word in sorted(links[name].items()):
            words_of: dict[str, list[str]] = {}
            for word in sorted(by_word):
                numbers = sorted(rows[term] for term in by_word[word] if term in rows)
                if numbers and not set(word) & set("\t\n\r|"):
                    words_of.setdefault(_steps(numbers), []).append(word)
            lines.extend(
                f"{name}\t{link}\t{numbers}\t{SEPARATOR.join(words)}" for numbers, words in words_of.items()
            )
    return ("\n".join(lines) + "\n").encode()


def _by_word(links: Sequence[tuple[str, str]]) -> dict[str, str | int]:
    return {word: rows for rows, words in links for word in words.split(SEPARATOR)}


def _read_links(
    file: Path, terms: Mapping[str, tuple[Term, ...]]
) -> dict[str, dict[str, list[tuple[str, str]]]]:
    links: dict[str, dict[str, list[tuple[str, str]]]] = {
        name: {link: [] for link in LINKS} for name in LEXICONS
    }
    moved: dict[str, dict[int, int] | None] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            name, link, rows, words = line.split("\t")
            if link == "terms":
                moved[name] = _moved_rows(words.split(SEPARATOR), terms[name], file)
                continue
            numbers = moved[name]
            if numbers is not None:
                rows = _steps(sorted(numbers[row] for row in _rows(rows) if row in numbers))
            links[name][link].append((rows, words))
        except UserError:
            raise
        except (ValueError, KeyError) as error:
            raise UserError(f"{file}: not a line of links: {line[:80]!r}") from error
    return links


def _moved_rows(known: list[str], terms: tuple[Term, ...], file: Path) -> dict[int, int] | None:
    """Old to new row numbers where the CSV file lost rows since it was built; None where it did not change."""
    ids = [term.term_id for term in terms]
    if ids == known:
        return None
    rows = {term_id: row for row, term_id in enumerate(ids)}
    strangers = sorted(rows.keys() - set(known))
    if strangers:
        raise UserError(
            f"{file} knows nothing of {', '.join(strangers[:3])}: rows may be deleted by hand, not added; "
            "run `pipeline build-lexicons` for new terms"
        )
    return {old: rows[term_id] for old, term_id in enumerate(known) if term_id in rows}


def _steps(rows: list[int]) -> str:
    return " ".join(str(row - before) for before, row in zip([0, *rows], rows, strict=False))


def _rows(steps: str) -> Iterable[int]:
    return accumulate(int(step) for step in steps.split())
