"""What kind of thing a noun names, so that what replaces it may stand there, too: food for food, a place for a place.

Resolved once while lexicons are built, for every noun that captions may have, from the first of its meanings.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Final

from pipeline.lexicons.candidates import Candidate
from pipeline.lexicons.dimensions import MIN_NOUN_ZIPF
from pipeline.lexicons.wordnet import Synset, WordNet

PERSON: Final = "person"
ANIMAL: Final = "animal"
KINDS: Final[dict[str, frozenset[str]]] = {
    kind: frozenset(re.findall(r"\S+", meanings))
    for kind, meanings in (
        (PERSON, "person.n.01 people.n.01"),
        (ANIMAL, "animal.n.01"),
        ("body", "body_part.n.01 body_covering.n.01"),
        ("clothing", "clothing.n.01 footwear.n.01 footwear.n.02 jewelry.n.01 headdress.n.01"),
        ("vehicle", "vehicle.n.01"),
        ("food", "food.n.01 food.n.02 edible_fruit.n.01 vegetable.n.01 beverage.n.01"),
        ("furniture", "furniture.n.01"),
        ("vessel", "container.n.01 tableware.n.01 cookware.n.01"),
        (
            "place",
            "structure.n.01 area.n.05 way.n.06 room.n.01 facility.n.01 geological_formation.n.01 body_of_water.n.01"
            " land.n.04 location.n.01 tract.n.01 region.n.03 sky.n.01",
        ),
        ("plant", "plant.n.02 plant_part.n.01 vegetation.n.01"),
        ("thing", "artifact.n.01"),
    )
}
"""By kind, the meanings above it; the first that fits counts."""
_OF_FILE: Final = {
    "noun.person": PERSON,
    "noun.animal": ANIMAL,
    "noun.body": "body",
    "noun.food": "food",
    "noun.plant": "plant",
    "noun.object": "place",
    "noun.location": "place",
    "noun.phenomenon": "place",
    "noun.artifact": "thing",
}


def kind_of_meaning(wordnet: WordNet, meaning: Synset) -> str:
    """The kind of what a meaning names; "" for what nobody can point at."""
    above = wordnet.ancestors(meaning.name)
    found = next((kind for kind, meanings in KINDS.items() if above & meanings), "")
    return found or _OF_FILE.get(meaning.file, "")


def terms_of_kind(
    wordnet: WordNet, terms: Iterable[Candidate], *, zipf: Callable[[str], float]
) -> dict[str, set[str]]:
    """For each noun, the terms for things of its kind; a noun of no kind is left out."""
    by_kind: dict[str, set[str]] = defaultdict(set)
    found: dict[str, set[str]] = {}
    for term in terms:
        kind = kind_of_meaning(wordnet, wordnet.synsets[term.synset])
        by_kind[kind].add(term.term)
        found[term.term] = by_kind[kind]
    for noun in wordnet.lemmas("n"):
        if noun not in found and noun.isascii() and noun.isalpha() and zipf(noun) >= MIN_NOUN_ZIPF:
            kind = kind_of_meaning(wordnet, wordnet.senses(noun, "n")[0])
            if kind:
                found[noun] = by_kind[kind]
    return {noun: terms for noun, terms in found.items() if terms}
