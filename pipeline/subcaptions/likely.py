"""Where plausible terms are drawn from: tables in which a term stands as often as captions have it in such a place.

A table is drawn from with one number, so a weighted draw costs what an even one does. For each place there are three:
what captions put beside its neighbour ("riding": horse, bike, wave), what they have in such a place at all, and
every term there, so that rare ones still occur. Terms are for things of the original's kind.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final, NamedTuple

from pipeline.lexicons.loading import Lexicons
from pipeline.lexicons.pairs import ALONE, ANY, ATTRIBUTES, BARE, OBJECTS, RELATIONS, SUBJECTS, PairCounts
from pipeline.lexicons.things import ANIMAL, PERSON
from pipeline.subcaptions.balance import UNSEEN, Balance, balance
from pipeline.subcaptions.exclusions import excluded_by_entity, excluded_by_relation
from pipeline.subcaptions.term_pools import PARTICIPLE, PAST, Entry, Pool, Pools, pools_of

WOMAN: Final = "woman"
"""Her kind is that of people; "person" itself was chosen for a meaning that is a body."""
TABLE: Final = 1_024
"""Places of a table: a term that is less likely than one in so many may have none in it."""
SHARES: Final = TABLE - 1
"""The bits of a number that choose one of a place's tables."""
RARE: Final = 51
"""Of 1,024 draws, those from every term alike."""
SURFACES: Final = ("grass", "street")
TRUST: Final = 20
"""So many sightings of a neighbour weigh as much as all captions together."""


NARROW: Final = 128
"""Places of a table that is for one noun: there are many such tables."""
FEW: Final = 3
"""With fewer relations seen beside a noun those beside things of its kind are drawn."""
OFTEN: Final = 3
"""Places of a table that a term of everyday captions has."""


class Place(NamedTuple):
    """What may stand in one place; of TABLE draws RARE go to `every`, up to `general` to `usual`, others to `close`."""

    close: Sequence[Entry]
    """As often as captions have them beside the neighbour."""
    usual: Sequence[Entry]
    """As often as captions have them."""
    every: Sequence[Entry]
    general: int

    def draw(self, number: int) -> Entry:
        """The entry that a 32-bit number falls on."""
        share, number = number & SHARES, number >> 10
        table = self.every if share < RARE else self.usual if share < self.general else self.close
        return table[number % len(table)]

    def walk(self, number: int) -> Iterator[Entry]:
        """All entries, the likely ones first, from where a number falls on."""
        for table in (self.close, self.usual, self.every):
            first = number % len(table) if table else 0
            yield from table[first:]
            yield from table[:first]


@dataclass(frozen=True, slots=True, eq=False)
class _Words:
    """The entries of one pool by term, and the table of those that captions have."""

    by_term: Mapping[str, Entry]
    usual: Sequence[Entry]
    every: Sequence[Entry]
    keys: Mapping[str, str]
    """What each term is counted as."""
    terms: Mapping[str, str]
    """The other way round."""
    factors: Mapping[str, float]
    """What each term's count is multiplied with, so that terms come as often as they go."""


class Likely:
    """The places of one set of lexicons, made when they are first asked for."""

    def __init__(self, lexicons: Lexicons, counts: PairCounts) -> None:
        self._lexicons = lexicons
        self._pools: Pools = pools_of(lexicons)
        self._counts = counts
        objects = lexicons.objects
        self._people, self._animals = objects.kind(WOMAN), objects.kind(ANIMAL)
        self.object_place = lru_cache(maxsize=100_000)(self._object_place)
        self.person_place = lru_cache(maxsize=100_000)(self._person_place)
        self.people = lru_cache(maxsize=100)(self._usual_people)
        self.attribute_place = lru_cache(maxsize=100_000)(self._attribute_place)
        self.relation_place = lru_cache(maxsize=50_000)(self._relation_place)
        self.kind_place = lru_cache(maxsize=10_000)(self._kind_place)
        self._object_words = lru_cache(maxsize=1_000)(self._words_for_objects)
        self._attribute_words = lru_cache(maxsize=5_000)(self._words_for_attributes)
        self._relation_words = lru_cache(maxsize=1_000)(self._words_for_relations)
        self.kind_of = lru_cache(maxsize=100_000)(self._kind_of)

    # ------------------------------------------------------------------------------------------------------- objects
    def _kind_of(self, lemma: str) -> int:
        """Terms for things of a noun's kind, as bits; for animals people, too; 0 where it has none.

        People stay people: no dog guides a kit.
        """
        objects = self._lexicons.objects
        last = lemma.rpartition(" ")[2]
        found = self._people if last == PERSON else objects.kind(lemma) or objects.kind(last)
        return self._people | self._animals if found == self._animals else found

    def _object_place(self, link: str, relation: str, kind: int, form: int) -> Place | None:
        """For a noun of a kind, the subject or the object of a relation; None where no term is of the kind."""
        words = self._object_words(link, kind, form)
        return _place(words, self._counts.of(link, relation))

    def _person_place(self, link: str, relation: str, form: int) -> Place | None:
        """For a person: people of everyday captions alone, no mermaids."""
        place = self._object_place(link, relation, self._people, form)
        often = self.people(link, form)
        if place is None or not often:
            return place
        every = tuple(entry for entry in place.every if often >> entry[0] & 1)
        usual = tuple(entry for entry in place.usual if often >> entry[0] & 1)
        close = tuple(entry for entry in place.close if often >> entry[0] & 1)
        return Place(close=close or usual, usual=usual, every=every, general=place.general)

    def _usual_people(self, link: str, form: int) -> int:
        """People that captions often have there, as bits."""
        table = Counter(entry[0] for entry in self._object_words(link, self._people, form).usual)
        return sum(1 << row for row, places in table.items() if places >= OFTEN)

    def _words_for_objects(self, link: str, kind: int, form: int) -> _Words:
        entries = self._pools.objects[form].entries(kind or None)
        return _words(entries, self._counts.of(link, ANY), factors=self._balance[link].weight)

    def share(self, link: str, word: str) -> float:
        """How often a noun or a relation is replaced where it stands, 0 to 1: hardly, where nothing gives it back."""
        known = self._balance[link].share.get(word)
        if known is not None:
            return known
        if not self._is_term(link, word):
            return 0
        return 1 if self._counts.of(link, ANY).get(word) else UNSEEN

    @cached_property
    def _rows(self) -> dict[str, dict[str, int]]:
        """The rows of terms by what they are counted as, by lexicon."""
        objects = {term.term: row for row, term in enumerate(self._lexicons.objects.terms)}
        relations = {
            (BARE if term.kind == "preposition" else "") + term.term: row
            for row, term in enumerate(self._lexicons.relations.terms)
        }
        return {SUBJECTS: objects, OBJECTS: objects, RELATIONS: relations}

    def _is_term(self, link: str, word: str) -> bool:
        return word in self._rows[link]

    @cached_property
    def _balance(self) -> dict[str, Balance]:
        found = {}
        for link, allowed in (
            (SUBJECTS, self._nouns_for),
            (OBJECTS, self._nouns_for),
            (RELATIONS, self._relations_for),
        ):
            words = self._counts.of(link, ANY)
            terms = {term: (row, words.get(term, 0)) for term, row in self._rows[link].items()}
            found[link] = balance(words, terms, allowed)
        return found

    def _nouns_for(self, noun: str) -> int:
        objects = self._lexicons.objects
        every = (1 << len(objects.terms)) - 1
        return (self.kind_of(noun) or every) & ~excluded_by_entity(objects, noun, noun)

    def _relations_for(self, key: str) -> int:
        """Prepositions for a preposition, verbs for a verb."""
        relations, word = self._lexicons.relations, key.removeprefix(BARE)
        prepositions = sum(1 << row for term, row in self._rows[RELATIONS].items() if term[:1] == BARE)
        excluded = excluded_by_relation(relations, word, word, "IN" if key != word else "VB")
        if key != word:
            for surface in SURFACES:  # "in" is no "on" for half of the places
                excluded |= relations.excluded(f"{word} {surface}")
            return prepositions & ~excluded
        return ((1 << len(relations.terms)) - 1) & ~prepositions & ~excluded

    # ---------------------------------------------------------------------------------------------------- attributes
    def _attribute_place(self, noun: str, pool: Pool) -> Place | None:
        """For an attribute of a noun, among what the pool allows: what captions say of it, and nothing else."""
        place = _place(self._attribute_words(pool), self._counts.of(ATTRIBUTES, noun))
        if place is None or not place.close:
            return place
        return Place(close=place.close, usual=place.close, every=place.close, general=RARE)

    def _words_for_attributes(self, pool: Pool) -> _Words:
        return _words(pool.entries(), self._counts.of(ATTRIBUTES, ANY))

    # ----------------------------------------------------------------------------------------------------- relations
    def _relation_place(self, pool: Pool, tail: str, first: int, second: int, noun: str) -> Place | None:
        """For a relation to a noun, between things of two kinds: verbs for verbs, prepositions for prepositions.

        What captions have with the noun itself comes before what they have with things of its kind.
        """
        words = self._relation_words(pool, tail)
        place = self.kind_place(pool, tail, first, second)
        own = self._relations_of.get(noun)
        if place is None or own is None:
            return place
        before = self._of_kind[SUBJECTS].get(first, {})
        weights = {
            term: count * before[key] / self._seen[key]
            for key, count in own.items()
            if (term := words.terms.get(key)) and before.get(key)
        }
        if len(weights) < FEW:
            return place
        close = _table(
            words.by_term, {term: weight * words.factors[term] for term, weight in weights.items()}, NARROW
        )
        return Place(close=close, usual=place.close, every=place.every, general=RARE)

    def _kind_place(self, pool: Pool, tail: str, first: int, second: int) -> Place | None:
        words = self._relation_words(pool, tail)
        before, after = self._of_kind[SUBJECTS].get(first, {}), self._of_kind[OBJECTS].get(second, {})
        weights = {}
        for term, key in words.keys.items():
            both = before.get(key, 0) * after.get(key, 0)
            if both:
                weights[term] = both / self._seen[key]
        return _place(words, weights)

    @cached_property
    def _relations_of(self) -> dict[str, dict[str, int]]:
        """How often a noun is the object of each relation."""
        found: dict[str, dict[str, int]] = {}
        for relation, nouns in self._counts.links[OBJECTS].items():
            if relation not in (ANY, ALONE):
                for noun, count in nouns.items():
                    found.setdefault(noun, {})[relation] = count
        return found

    def _words_for_relations(self, pool: Pool, tail: str) -> _Words:
        pools, counts = self._pools, self._counts.of(RELATIONS, ANY)
        if pool is pools.prepositions:
            bare = [entry for entry in pool.entries() if entry[1] == entry[2]]
            keys = {entry[2]: BARE + entry[2] for entry in bare}
            return _words(bare, counts, keys=keys, factors=self._balance[RELATIONS].weight)
        participles = pools.verbs[PARTICIPLE]
        entries = list(pool.entries()) if tail else self._with_phrases(pool)
        passive = pool is participles or any(pool is forms[PAST] for forms in pools.verb_phrases.values())
        if passive and not tail:  # "parked in" is a participle, whose form in the pool is that of the past
            entries = [*participles.entries(), *pools.verb_phrases[""][PARTICIPLE].entries()]
        keys = {entry[2]: (entry[1] if passive else entry[2]) + tail for entry in entries}
        return _words(entries, counts, keys=keys, factors=self._balance[RELATIONS].weight)

    def _with_phrases(self, pool: Pool) -> list[Entry]:
        """Verbs of the pool's form, alone and with every preposition: each is likely somewhere."""
        pools = self._pools
        for form, verbs in enumerate(pools.verbs):
            phrases = pools.verb_phrases[""][form]
            if pool is verbs:
                return [*verbs.entries(), *phrases.entries()]
            if any(pool is by_form[form] for by_form in pools.verb_phrases.values()):
                return [*phrases.entries(), *(verbs.entries() if form != PAST else ())]
        return list(pool.entries())

    @cached_property
    def _of_kind(self) -> dict[str, dict[int, dict[str, int]]]:
        """By link and kind of noun: how often each relation has such a noun there; under 0 those of every kind."""
        found: dict[str, dict[int, dict[str, int]]] = {SUBJECTS: {}, OBJECTS: {}}
        for link, by_kind in found.items():
            for relation, nouns in self._counts.links[link].items():
                for noun, count in nouns.items():
                    for kind in {self.kind_of(noun), 0}:
                        counts = by_kind.setdefault(kind, {})
                        counts[relation] = counts.get(relation, 0) + count
        return found

    @cached_property
    def _seen(self) -> Mapping[str, int]:
        return self._of_kind[OBJECTS].get(0, {})


def _words(
    entries: Iterable[Entry],
    counts: Mapping[str, float],
    *,
    keys: Mapping[str, str] | None = None,
    factors: Mapping[str, float] | None = None,
) -> _Words:
    by_term = {entry[2]: entry for entry in entries}
    every = tuple(by_term.values())
    keys = keys or {term: term for term in by_term}
    terms = {key: term for term, key in keys.items()}
    factors = {term: (factors or {}).get(keys[term], 1) for term in by_term}
    usual = _table(by_term, {term: counts.get(keys[term], 0) * factor for term, factor in factors.items()})
    return _Words(by_term=by_term, usual=usual or every, every=every, keys=keys, terms=terms, factors=factors)


def _place(words: _Words, counts: Mapping[str, float]) -> Place | None:
    if not words.every:
        return None
    weights = {term: count * words.factors[term] for term, count in counts.items() if term in words.by_term}
    close = _table(words.by_term, weights)
    trusted = sum(weights.values()) / (sum(weights.values()) + TRUST) if close else 0
    general = RARE + round((TABLE - RARE) * (1 - trusted))
    return Place(close=close, usual=words.usual, every=words.every, general=general)


def _table(by_term: Mapping[str, Entry], weights: Mapping[str, float], size: int = TABLE) -> Sequence[Entry]:
    """`size` entries, each as often as its weight has it, from the likeliest on; none where nothing has weight."""
    total = sum(weights.values())
    if not total:
        return ()
    table: list[Entry] = []
    reached = 0.0
    for term, weight in sorted(weights.items(), key=lambda pair: (-pair[1], pair[0])):
        reached += weight
        table.extend([by_term[term]] * (round(reached / total * size) - len(table)))
    return tuple(table)


@lru_cache(maxsize=4)
def likely_of(lexicons: Lexicons) -> Likely:
    """The places of `lexicons`, made once per process."""
    return Likely(lexicons, lexicons.pairs)
