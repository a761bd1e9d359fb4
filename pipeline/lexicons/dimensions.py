"""Which attributes may be true of a thing without its caption saying so, resolved once while lexicons are built.

A caption calls a dog black. That it is wet, too, is possible; that it is green or wooden is not. Each attribute has
dimensions (colour, size, material, what people wear, ...), each noun has kinds (person, food, thing, ...), and
`word_lists/attribute_dimensions.csv` says which dimensions are possible of which kinds and which exclude each other. A
term then replaces an attribute only where it contrasts with it, or where it makes no sense of the noun.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from pipeline.lexicons.candidates import LISTS, Candidate, tagged
from pipeline.lexicons.loading import UNKNOWN_NOUN
from pipeline.lexicons.wordnet import Synset, WordNet

Kind = Literal["person", "animal", "food", "plant", "clothing", "body", "scene", "thing", "abstract"]
UNKNOWN_KINDS: Final[frozenset[Kind]] = frozenset(("person", "thing"))
MIN_NOUN_ZIPF: Final = 2.0
"""Nouns more seldom than this (one in ten million words) are treated as unknown: a caption hardly has them."""
MIN_SHARE: Final = 0.15
"""A meaning with less than this share of a noun's uses in WordNet's own texts gives it no kind."""
_STUFFS: Final = frozenset(("material", "edible", "greenery"))
_SECTIONED: Final = ("adjectives.txt", "participles.txt", "gerunds.txt", "materials.txt")
_CLOTHING: Final = frozenset(
    ("clothing.n.01", "footwear.n.01", "footwear.n.02", "jewelry.n.01", "fabric.n.01")
)
_PERSON: Final = frozenset(("person.n.01", "people.n.01"))
_SCENES: Final = frozenset(
    re.findall(r"\S+", "structure.n.01 area.n.05 way.n.06 room.n.01 facility.n.01 geological_formation.n.01")
)
_KINDS_OF_FILE: Final[dict[str, tuple[Kind, ...]]] = {
    "noun.person": ("person",),
    "noun.animal": ("animal",),
    "noun.plant": ("plant",),
    "noun.food": ("food",),
    "noun.body": ("body",),
    "noun.group": ("person", "thing"),
    "noun.object": ("scene",),
    "noun.location": ("scene",),
    "noun.phenomenon": ("scene",),
    "noun.artifact": ("thing",),
    "noun.substance": ("thing",),
    "noun.shape": ("thing",),
    "noun.communication": ("abstract", "thing"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Dimension:
    possible_of: frozenset[str]
    excludes: frozenset[str]
    endings: tuple[str, ...]


def possible_attributes(
    wordnet: WordNet, terms: Iterable[Candidate], *, zipf: Callable[[str], float]
) -> dict[str, set[str]]:
    """For each noun of one word, the terms that may be true of what it names though no caption says so."""
    by_kind: dict[str, set[str]] = defaultdict(set)
    for term in terms:
        for dimension in dimensions_of(term):
            for kind in _dimensions()[dimension].possible_of:
                by_kind[kind].add(term.term)
    possible: dict[str, set[str]] = {UNKNOWN_NOUN: _union(by_kind, UNKNOWN_KINDS)}
    sets: dict[frozenset[Kind], set[str]] = {}
    for noun in wordnet.lemmas("n"):
        if noun.isalpha() and noun.isascii() and zipf(noun) >= MIN_NOUN_ZIPF:
            kinds = kinds_of_noun(wordnet, noun)
            possible[noun] = sets.setdefault(kinds, _union(by_kind, kinds))
    return possible


def contrasting_attributes(terms: Iterable[Candidate]) -> dict[str, set[str]]:
    """For each attribute, the terms of dimensions that exclude its own: red and green, wet and dry.

    Among them are terms that are compatible with it all the same (`compatible_attributes`).
    """
    terms = list(terms)
    of_dimension: dict[str, set[str]] = defaultdict(set)
    for term in terms:
        for dimension in dimensions_of(term):
            of_dimension[dimension].add(term.term)
    words = {word: set(found) for word, found in _listed().items()}
    words.update((term.term, set(dimensions_of(term))) for term in terms)
    contrasts = {}
    for word, its_dimensions in words.items():
        # "gold" and "cherry" are colours more often than stuffs
        counted = its_dimensions - _STUFFS if "hue" in its_dimensions else its_dimensions
        others = {other for name in counted for other in _dimensions()[name].excludes}
        found = {term for other in others for term in of_dimension[other]}
        if found:
            contrasts[word] = found
    return contrasts


def kinds_of_noun(wordnet: WordNet, noun: str) -> frozenset[Kind]:
    """What a noun may name: the kinds of its first meaning and of every meaning it often has."""
    meanings = wordnet.senses(noun, "n")
    total = sum(tagged(meaning, noun) for meaning in meanings)
    usual = [
        meaning
        for place, meaning in enumerate(meanings)
        if place == 0 or tagged(meaning, noun) >= max(1, MIN_SHARE * total)
    ]
    return frozenset(kind for meaning in usual for kind in _kinds(wordnet, meaning)) or UNKNOWN_KINDS


def _kinds(wordnet: WordNet, meaning: Synset) -> Iterable[Kind]:
    above = wordnet.ancestors(meaning.name)
    if above & _PERSON:
        return ("person",)
    if above & _CLOTHING:
        return ("clothing", "thing")
    if above & _SCENES:
        return ("scene", "thing")
    if meaning.file == "noun.plant" and "edible_fruit.n.01" in above:
        return ("food", "plant")
    if meaning.file == "noun.Tops" and "physical_entity.n.01" in above:
        return ("thing",)
    return _KINDS_OF_FILE.get(meaning.file, ("abstract",))


def dimensions_of(term: Candidate) -> frozenset[str]:
    """The dimensions of a lexicon term; every kind of thing is possible for one that no list names."""
    if term.kind == "shade":
        return frozenset(("shade",))
    found = _listed().get(term.base if term.kind in ("participle", "gerund") else term.term, frozenset())
    if not found:
        found = frozenset(
            name for name, dimension in _dimensions().items() if term.term.endswith(dimension.endings)
        )
    if not found and term.term.rpartition("-")[2] in _hues():
        found = frozenset(("hue",))
    return found or frozenset(("unsorted",))


def compatible_attributes(term: str) -> set[str]:
    """Words that may be true of one thing together with a term of their dimension: "red" with "dark red"."""
    mine = _parts(term)
    words = {word for group in _compatible() if mine & group for word in group}
    shared = mine | words
    return words | {word for word in _listed() if _parts(word) & shared and not word.isalpha()}


@lru_cache(maxsize=10_000)
def _parts(word: str) -> set[str]:
    return {word, *re.split(r"[ -]", word)} - {"and", "colored"}


def _union(by_kind: dict[str, set[str]], kinds: Iterable[str]) -> set[str]:
    return set().union(*(by_kind[kind] for kind in kinds))


@lru_cache(maxsize=1)
def _dimensions() -> dict[str, _Dimension]:
    return {
        name: _Dimension(
            possible_of=frozenset(possible.split()),
            excludes=frozenset(excludes.split()),
            endings=tuple(endings.split()),
        )
        for name, possible, excludes, endings, _ in LISTS.rows("attribute_dimensions.csv")
    }


@lru_cache(maxsize=1)
def _listed() -> dict[str, frozenset[str]]:
    """The dimensions of every listed word; participles and gerunds by their verb."""
    found: dict[str, set[str]] = defaultdict(set)
    for name, _, _, _, words in LISTS.rows("attribute_dimensions.csv"):
        for word in words.split():
            found[word].add(name)
    for file in _SECTIONED:
        for section, listed in LISTS.sections(file).items():
            for word in listed if section != "compound" else ():
                found[word].add(section)
    return {word: frozenset(names) for word, names in found.items()}


@lru_cache(maxsize=1)
def _hues() -> frozenset[str]:
    return frozenset(word for word, names in _listed().items() if "hue" in names)


@lru_cache(maxsize=1)
def _compatible() -> tuple[frozenset[str], ...]:
    return tuple(frozenset(group) for group in LISTS.groups("compatible_attributes.txt"))
