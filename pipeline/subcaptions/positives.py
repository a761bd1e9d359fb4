"""A scene graph -> its positive, and the pieces of it that can be replaced; the first half of `subcaptions`.

The positive is "adjectives subject relation adjectives object" (CleanerCLIP, its section on sub-captions), its pieces
as the caption writes them; one noun with its adjectives where there is no relation. Each piece becomes a slot: where
it stands, the pool of terms in the form that agrees with it, and the terms that might leave the caption true.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from pipeline.lexicons.loading import Lexicons
from pipeline.lexicons.pairs import ALONE, BARE, OBJECTS, RELATIONS, SUBJECTS
from pipeline.scene_graphs.rules import RULES_BY_NAME
from pipeline.scene_graphs.words import COLOURS
from pipeline.schema import Attribute, Entity, Relation, SceneGraph
from pipeline.subcaptions.exclusions import (
    PEOPLE,
    excluded_by_attribute,
    excluded_by_entity,
    excluded_by_relation,
)
from pipeline.subcaptions.likely import Likely
from pipeline.subcaptions.replacements import Plan, Slot
from pipeline.subcaptions.term_pools import (
    BASE,
    GERUND,
    OF_ANYBODY,
    PARTICIPLE,
    PAST,
    PLURAL,
    POSTURES,
    SINGULAR,
    THIRD_PERSON,
    Pool,
    Pools,
    pools_of,
)
from pipeline.word_lists import WordLists

_LISTS: Final = WordLists.beside(__file__)
SPATIAL: Final = _LISTS.word_set("spatial_prepositions.txt")
UNSEEN: Final = _LISTS.word_set("unseen_prepositions.txt")
QUANTITIES: Final = _LISTS.word_set("quantities.txt")
PREDICATIVE: Final = _LISTS.word_set("predicative.txt")
NO_THINGS: Final = _LISTS.word_set("no_things.txt")
PLURALS_WITHOUT_S: Final = _LISTS.word_set("plurals_without_s.txt")
ONE_PLACE: Final = frozenset(("on", "on top of", "under", "inside", "in front of", "behind"))
"""Prepositions that say where a thing is: it is not on another thing, too."""
ALONE_KINDS: Final = ("woman", "animal", "car", "pizza")
HOLDING_KINDS: Final = ("car", "bowl", "chair")
ON_ONE: Final = frozenset(("on", "on top of", "under", "inside"))
RESTING: Final = frozenset(("sit", "lie", "lay", "perch", "sleep", "rest"))
"""Verbs of who is on one thing: who stands on grass stands in a field, too."""
ONE_OBJECT: Final = _LISTS.word_set("one_object.txt")
NAMING: Final = frozenset(("call", "name", "title", "entitle", "label"))
"""Verbs whose object is a name: "a fair called Ball in the Bog"."""
PLURAL_FORMS: Final = {"be": "are"}
IRREGULAR: Final = {"have": "has", "are": "is", "am": "is", "be": "is"}
_NUMBERLESS: Final = frozenset(
    ("sheep", "deer", "fish", "cattle", "police", "zebra", "giraffe", "elephant", "buffalo", "duo")
)
"""Nouns that are as often many without an ending."""
_NO_ATTRIBUTES: Final = frozenset(("CD", "DT", "_SP", "IN", "PDT", "WDT"))
_VERB_FORMS: Final = {
    "VBG": GERUND,
    "VBZ": THIRD_PERSON,
    "VBD": PAST,
    "VBN": PARTICIPLE,
    "VBP": BASE,
    "VB": BASE,
}


def choose_relation(graph: SceneGraph) -> Relation | None:
    """The relation a positive is made of; None where none makes one.

    Verbs first, then prepositions that a picture shows, then other prepositions, then "has", "is" and possession;
    one between things before one with what is none ("in action"); among equals the one nearest the root, then
    one that says where, then the first in the caption. Infinitives make no positive ("man to catch ball"), nor names.
    """
    objects = {relation.object for relation in graph.relations if relation.tag != "TO"}
    best: Relation | None = None
    best_rank: tuple[int, bool, bool, bool, int] = (9, False, False, False, 0)
    for relation in graph.relations:
        if relation.subject == relation.object or relation.tag == "TO" or relation.lemma in NAMING:
            continue
        first, second = graph.entities[relation.subject], graph.entities[relation.object]
        is_vague = not {first.lemma, second.lemma}.isdisjoint(NO_THINGS)
        kind, is_place = _relation_class(relation), relation.text.rpartition(" ")[2].lower() in SPATIAL
        if is_vague and kind:  # verbs say much of what is vague, too: "wearing a piece"
            kind += 3
        rank = (kind, is_vague, relation.subject in objects, kind == 1 and not is_place, relation.start)
        if rank < best_rank:
            best, best_rank = relation, rank
    return best


def choose_entity(graph: SceneGraph) -> Entity:
    """The noun of a positive without a relation: the first of those that most is said of, things before others."""
    return min(
        graph.entities,
        key=lambda entity: (
            entity.lemma in NO_THINGS,
            " " not in entity.head
            and not any(describes(each, None, entity.start) for each in entity.attributes),
        ),
    )


def _relation_class(relation: Relation) -> int:
    if relation.tag[:1] == "V":
        return 3 if relation.lemma in ("have", "be") else 0
    if relation.tag == "POS":
        return 3
    return 2 if relation.text.rpartition(" ")[2].lower() in UNSEEN else 1


@dataclass(slots=True, eq=False)
class Draft:
    """A positive and what can be changed in it."""

    positive: str
    plans: list[Plan]
    """One for each kind of element that can be replaced, in the order of schema.Kind."""


def draft_positive(
    caption: str, graph: SceneGraph, lexicons: Lexicons, *, near: bool, likely: Likely | None
) -> Draft:
    """The positive of a graph that has an entity, and its plans.

    `near`: slots know the terms like their originals. `likely`: they know what is likely in their places.
    """
    return _Drafting(caption, graph, lexicons, near=near, likely=likely).finish()


class _Drafting:
    """A positive while its pieces are put together."""

    __slots__ = (
        "_attributes",
        "_caption",
        "_graph",
        "_length",
        "_lexicons",
        "_likely",
        "_near",
        "_objects",
        "_pieces",
        "_pools",
        "_ruled_out",
    )

    def __init__(
        self, caption: str, graph: SceneGraph, lexicons: Lexicons, *, near: bool, likely: Likely | None
    ) -> None:
        self._caption = caption
        self._graph = graph
        self._lexicons = lexicons
        self._pools = pools_of(lexicons)
        self._near = near
        self._likely = likely
        self._pieces: list[str] = []
        self._length = -1
        self._attributes: list[Slot] = []
        self._objects: list[Slot] = []

    def finish(self) -> Draft:
        graph = self._graph
        self._ruled_out = self._excluded_objects()
        relation = choose_relation(graph)
        relation_slot = None
        excluded_relations = 0
        if relation is None:
            self._add_entity(choose_entity(graph), None, SUBJECTS)
        else:
            first, second = ends_of(graph, relation)
            self._add_entity(first, relation, SUBJECTS)
            relation_slot = self._add_relation(relation, first, second)
            self._add_entity(second, relation, OBJECTS)
            if relation_slot is not None:
                excluded_relations = self._excluded_relations(relation, first, second)
        positive = " ".join(self._pieces)
        plans = []
        if self._attributes and all(slot.bands and self._likely_at(slot) for slot in self._attributes):
            plans.append(Plan(positive, "attribute", self._attributes, self._excluded_attributes()))
        if relation_slot is not None:
            plans.append(Plan(positive, "relation", [relation_slot], excluded_relations))
        plans.append(Plan(positive, "object", self._objects, self._ruled_out))
        return Draft(positive, plans)

    def _add_entity(self, entity: Entity, relation: Relation | None, link: str) -> None:
        lemma = entity.lemma
        described = self._described(entity, relation)
        behind = [each for each in described if is_behind(each, entity.start)]
        for attribute in described:
            if attribute not in behind:
                text, start = self._add(attribute, attribute.text)
                self._attributes.append(
                    self._attribute_slot(start, text, lemma.rpartition(" ")[2], attribute.lemma)
                )
        text, start = self._add(entity, entity.head)
        objects = self._lexicons.objects
        near = self._near and (objects.near(lemma) or objects.near(lemma.rpartition(" ")[2]))
        form = PLURAL if _is_plural(entity) else SINGULAR
        slot = Slot(start, text, self._pools.objects[form], near=near, place=None)
        if (likely := self._likely) is not None:
            key = ALONE if relation is None else relation_key(relation)
            slot.share = likely.share(link, lemma)
            if self._is_person(lemma.rpartition(" ")[2]):
                slot.place = likely.person_place(link, key, form)
                if not likely.people(link, form) & ~self._ruled_out:
                    slot.share, slot.stays = 0.0, True  # "people" rules out everybody
            else:
                slot.place = likely.object_place(link, key, likely.kind_of(lemma), form)
            slot.alone = relation is not None and self._alone(link, relation)
        self._objects.append(slot)
        if link == OBJECTS or relation is None:  # "dog running"
            for attribute in behind[:1]:
                self._add(attribute, attribute.text)

    def _described(self, entity: Entity, relation: Relation | None) -> list[Attribute]:
        """The attributes that go into the positive; a number goes in at once where a noun would stand all alone."""
        found = [each for each in entity.attributes if describes(each, relation, entity.start)]
        if self._is_person(entity.lemma.rpartition(" ")[2]):  # "a man in white" is no white man
            found = [each for each in found if each.start < entity.start or each.lemma not in COLOURS]
        if relation is None and not found and " " not in entity.head:
            for number in entity.attributes[:1]:  # "two cats" is more than "cats"
                if number.tag == "CD" and number.text.isalpha() and number.start < entity.start:
                    self._add(number, number.text)
        return found

    def _attribute_slot(self, start: int, text: str, noun: str, lemma: str) -> Slot:
        """A slot that draws from what contrasts with the attribute or makes no sense of the noun."""
        lexicon = self._lexicons.attributes
        word = text.lower()
        possible, person = lexicon.possible(noun), self._is_person(noun)
        if word not in OF_ANYBODY and person:
            possible |= self._pools.of_anybody
        contrasts = lexicon.contrasts(word) or lexicon.contrasts(lemma)
        ruled_out = possible & ~contrasts if contrasts else possible
        if person:
            ruled_out |= self._pools.of_nobody
            if self._likely is not None:  # "a boy in green" is no green boy
                ruled_out |= self._pools.colours
        pool = self._pools.attributes.without(ruled_out)
        place = None if self._likely is None else self._likely.attribute_place(noun, pool)
        return Slot(start, text, pool, near=self._near and lexicon.near(word), place=place)

    def _add_relation(self, relation: Relation, first: Entity, second: Entity) -> Slot | None:
        text, tag = agreeing(relation, first)
        link = _subject_after(relation)
        if link and not text.endswith(f" {link}"):
            text += f" {link}"
        text, start = self._add(relation, text)
        rule = RULES_BY_NAME.get(relation.rule)
        found = _relation_pool(self._pools, text, tag, has_object=rule is not None and rule.has_object)
        if found is None:
            return None
        pool, before, tail = found
        relations = self._lexicons.relations
        near = self._near and (
            relations.near(relation.lemma) or relations.near(relation.lemma.partition(" ")[0])
        )
        slot = Slot(start, text, pool, near=near, place=None, before=before, tail=tail)
        if (likely := self._likely) is not None:
            kinds = likely.kind_of(first.lemma), likely.kind_of(second.lemma)
            slot.place = likely.relation_place(pool, tail, *kinds, second.lemma.rpartition(" ")[2])
            if slot.place is not None and slot.place.close:  # captions have others between such things
                slot.share = likely.share(RELATIONS, relation_key(relation))
            else:
                slot.share = 0.0
        return slot

    def _is_person(self, noun: str) -> bool:
        objects = self._lexicons.objects
        return noun in PEOPLE or objects.kind(noun) == objects.kind("woman")

    def _is_body(self, entity: Entity) -> bool:
        """Whether it is a person or an animal, which stands or sits, and not both."""
        objects = self._lexicons.objects
        kind = objects.kind(entity.lemma) or objects.kind(entity.lemma.rpartition(" ")[2])
        return kind in (objects.kind("woman"), objects.kind("animal"))

    def _alone(self, link: str, relation: Relation) -> bool:
        """Whether another noun in this place makes a positive false though the rest stays.

        A caption names the people, animals, vehicles and dishes that are there, so another is not; and what is ridden
        or eaten, where somebody sits, what something lies in is one. What somebody has, wears or is beside may be
        several things at once.
        """
        if _subject_after(relation) is not None:
            return False
        graph = self._graph
        if link == SUBJECTS:
            return self._is_of(graph.entities[relation.subject], ALONE_KINDS)
        is_verb = _relation_class(relation) == 0
        verb, _, preposition = relation.lemma.partition(" ") if is_verb else ("", "", relation.text.lower())
        if preposition == "in":
            return self._is_of(graph.entities[relation.object], HOLDING_KINDS)
        if is_verb and self._is_body(graph.entities[relation.subject]):
            return (verb in RESTING and preposition in ON_ONE) or (verb in ONE_OBJECT and not preposition)
        return preposition in ONE_PLACE

    def _is_of(self, entity: Entity, kinds: tuple[str, ...]) -> bool:
        """Whether it is a thing of one of some kinds, each named by one of its terms."""
        objects = self._lexicons.objects
        last = entity.lemma.rpartition(" ")[2]
        found = objects.kind(entity.lemma) or objects.kind(last)
        return last in PEOPLE or (found != 0 and any(found == objects.kind(kind) for kind in kinds))

    def _likely_at(self, slot: Slot) -> bool:
        """Whether captions have another attribute there; even draws do not ask."""
        return self._likely is None or (slot.place is not None and bool(slot.place.close))

    def _add(self, element: Attribute | Entity | Relation, text: str) -> tuple[str, int]:
        """The element's text as it stands in the positive, and where it starts."""
        if (
            text[:1].isupper()
            and element.tag[:3] != "NNP"
            and _starts_sentence(self._caption, element.start, text)
        ):
            text = text[:1].lower() + text[1:]
        start = self._length + 1
        self._pieces.append(text)
        self._length = start + len(text)
        return text, start

    def _excluded_objects(self) -> int:
        """Terms related to any entity of the caption: a negative must not name what is there, either."""
        excluded = 0
        objects = self._lexicons.objects
        for entity in self._graph.entities:
            excluded |= excluded_by_entity(objects, entity.lemma, entity.head)
        return excluded

    def _excluded_attributes(self) -> int:
        """Terms related to any attribute, and those that go without saying for an entity ("feathered" of a bird)."""
        excluded = 0
        attributes = self._lexicons.attributes
        for entity in self._graph.entities:
            excluded |= attributes.excluded(entity.lemma)
            for attribute in entity.attributes:
                excluded |= excluded_by_attribute(attributes, attribute.text, attribute.lemma)
        return excluded

    def _excluded_relations(self, chosen: Relation, first: Entity, second: Entity) -> int:
        """Terms related to any relation of the caption; "on" for "in" where one may be both ("in the grass");
        postures of what has no body.
        """
        relations = self._lexicons.relations
        excluded = 0 if _is_plural(second) else self._pools.need_plural  # "between cars", not "between car"
        for relation in self._graph.relations:
            excluded |= excluded_by_relation(relations, relation.lemma, relation.text, relation.tag)
        if chosen.lemma.partition(" ")[0] in POSTURES and not self._is_body(first):
            excluded |= self._pools.postures
        if self._likely is not None and (self._is_body(first) or first.lemma in PEOPLE):
            excluded |= self._pools.may_be_done
        if chosen.tag[:1] != "V":
            excluded |= relations.excluded(f"{chosen.lemma} {second.lemma.rpartition(' ')[2]}")
        return excluded


def agreeing(relation: Relation, first: Entity) -> tuple[str, str]:
    """A relation's text and tag as its noun wants them: of "a bunch of bananas hangs", "bananas hang"."""
    verb, _, rest = relation.text.partition(" ")
    tag = relation.tag
    if tag == "VBZ" and _is_plural(first):
        base = relation.lemma.partition(" ")[0]
        verb, tag = PLURAL_FORMS.get(base, base), "VBP"
    elif (
        tag == "VBP"
        and first.tag == "NN"
        and first.lemma not in PEOPLE
        and _NUMBERLESS.isdisjoint((first.lemma,))
    ):
        verb, tag = third_person(verb.lower()), "VBZ"
    else:
        return relation.text, tag
    return (f"{verb} {rest}" if rest else verb), tag


def third_person(verb: str) -> str:
    """ "take" -> "takes"."""
    if verb in IRREGULAR:
        return IRREGULAR[verb]
    if verb.endswith(("s", "x", "z", "ch", "sh", "o")):
        return verb + "es"
    if verb.endswith("y") and verb[-2:-1] not in "aeiou":
        return verb[:-1] + "ies"
    return verb + "s"


def ends_of(graph: SceneGraph, relation: Relation) -> tuple[Entity, Entity]:
    """What stands before and after a relation: "elephants ridden by men" has men as its subject, behind it."""
    first, second = graph.entities[relation.subject], graph.entities[relation.object]
    return (second, first) if _subject_after(relation) else (first, second)


def relation_key(relation: Relation) -> str:
    """What a relation is counted as: a verb's lemma, a participle as it stands ("parked on"), a preposition "@in"."""
    link = _subject_after(relation)
    text = relation.text.lower() if relation.tag == "VBN" else relation.lemma
    if link and not text.endswith(f" {link}"):
        text += f" {link}"
    return text if relation.tag[:1] in ("V", "T", "M") else BARE + text


def _subject_after(relation: Relation) -> str | None:
    """The word between an object and the subject behind it, where the relation's rule says that they stand so."""
    rule = RULES_BY_NAME.get(relation.rule)
    return None if rule is None else rule.subject_after


def describes(attribute: Attribute, relation: Relation | None, head_start: int) -> bool:
    """Whether an attribute goes into the positive: one word or compound word, no number and no determiner.

    Where the relation is a verb, another verb after the noun ("man walking and holding a drink") is no adjective.
    """
    tag = attribute.tag
    if tag in _NO_ATTRIBUTES or attribute.lemma in QUANTITIES or attribute.lemma in PREDICATIVE:
        return False
    if tag[:1] == "V" and relation is not None and relation.tag[:1] == "V" and attribute.start > head_start:
        return False
    return attribute.text.isalpha() or attribute.text.replace("-", "").isalpha()


def is_behind(attribute: Attribute, head_start: int) -> bool:
    """Whether an attribute is a participle that the caption has behind its noun: "a dog running"."""
    return attribute.tag == "VBG" and attribute.start > head_start


def _starts_sentence(caption: str, start: int, text: str) -> bool:
    """Whether a capital at `start` is there because a sentence begins, in a caption not Written Like A Title."""
    before = caption[:start].rstrip(" \"'(“‘")
    if before and before[-1] not in ".!?:":
        return False
    first = text.split(" ", 1)[0]
    if len(first) > 1 and first.isupper():
        return False
    words = caption.split()
    return sum(word[:1].isupper() for word in words) * 2 <= len(words) or len(words) <= 2


def _is_plural(entity: Entity) -> bool:
    if entity.tag not in ("NNS", "NNPS"):
        return False
    head = entity.head.lower()
    return head.endswith("s") or head != entity.lemma or head.rpartition(" ")[2] in PLURALS_WITHOUT_S


@lru_cache(maxsize=50_000)
def _relation_pool(pools: Pools, text: str, tag: str, *, has_object: bool) -> tuple[Pool, str, str] | None:
    """The pool whose forms agree with a relation, and what stays before and after the term.

    None for a relation that no picture shows ("of", "about"): replacing it makes nothing false.
    """
    words = text.lower().split()
    if tag == "MD" and len(words) > 1:  # "can ride"
        if has_object:
            return pools.verbs[BASE], text.split(maxsplit=1)[0] + " ", ""
        return _phrases(words[2:], pools)[BASE], text.split(maxsplit=1)[0] + " ", ""
    form = _VERB_FORMS.get(tag)
    if form is None:
        return None if words[-1] in UNSEEN else (pools.prepositions, "", "")
    if form == PARTICIPLE and len(words) > 1 and words[-1] in ("by", "with"):
        return pools.verbs[PARTICIPLE], "", " " + text.rsplit(maxsplit=1)[-1]
    if len(words) == 1 or has_object:
        return pools.verbs[form], "", ""
    # "parked in" and "carved into": the past tense reads well for verbs that have no passive
    return _phrases(words[1:], pools)[PAST if form == PARTICIPLE else form], "", ""


def _phrases(preposition: list[str], pools: Pools) -> tuple[Pool, ...]:
    """Verb phrases with this very preposition where there are enough: then the verb alone is replaced."""
    return pools.verb_phrases.get(" ".join(preposition)) or pools.verb_phrases[""]
