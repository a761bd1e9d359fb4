"""Scene graphs -> sub-captions: one positive and several counterfactual negatives per caption, as traceable edits.

The stage after `scene_graphs`, before `shards` (CleanerCLIP, its section on sub-captions). The positive is
"adjectives subject relation adjectives object", its pieces as the caption writes them. A negative changes one kind
of element of it: the adjectives, the relation, or the nouns. Everything is drawn from (seed, key) alone.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from pipeline import schema
from pipeline.eda import make_views
from pipeline.errors import UserError
from pipeline.inflection import article
from pipeline.lexicons import Lexicon, Lexicons
from pipeline.replacements import (
    BASE,
    GERUND,
    PARTICIPLE,
    PAST,
    PLURAL,
    SINGULAR,
    THIRD_PERSON,
    Pool,
    Pools,
    Slot,
    draw_numbers,
    pools_of,
)
from pipeline.schema import Attribute, Caption, Edit, Entity, Kind, Negative, Relation, SceneGraph, Subcaption

Hardness = Literal["random", "near", "mixed"]
HARDNESSES: Final = ("random", "near", "mixed")
SPATIAL: Final = frozenset(
    re.findall(
        r"\S+",
        "on in at under over above below behind beside between near inside outside against across along around through "
        "beneath underneath beyond onto into atop opposite toward towards past up down off among",
    )
)
_VERB_FORMS: Final = {
    "VBG": GERUND,
    "VBZ": THIRD_PERSON,
    "VBD": PAST,
    "VBN": PARTICIPLE,
    "VBP": BASE,
    "VB": BASE,
}
_ARTICLE: Final = re.compile(r"\b[Aa]n?\b ")
_ARTICLE_BEFORE: Final = re.compile(r"\b([Aa]n?) $")
_OBJECT_RULES: Final = frozenset(("verb_object", "relative_object", "copula"))
_SAME_IN_THE_PLURAL: Final = frozenset(
    re.findall(
        r"\S+",
        "people men women children feet teeth geese mice sheep deer fish cattle police clothes oxen lice",
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SubcaptionOptions:
    """How many sub-captions are made, and how."""

    num_negatives: int = 10
    """Negatives per caption; as many as there are where fewer are possible."""
    num_views: int = 4
    """Augmented captions (EDA) for CleanCLIP's text view."""
    hardness: Hardness = "random"
    """random: any term; near: co-hyponyms and antonyms first; mixed: half and half."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("num_negatives", "num_views"):
            if getattr(self, name) < 0:
                raise UserError(f"--{name.removeprefix('num_')} {getattr(self, name)}: give 0 or more")
        if self.hardness not in HARDNESSES:
            raise UserError(f"--hardness {self.hardness!r}: use one of {', '.join(HARDNESSES)}")


def make_subcaption(
    caption: Caption, graph: SceneGraph, lexicons: Lexicons, options: SubcaptionOptions
) -> Subcaption:
    """The positive, negatives and views of one caption; its status where it has none."""
    text = caption.caption
    views: tuple[str, ...] = ()
    if text and options.num_views:
        views = make_views(
            text, lexicons.synonyms, num_views=options.num_views, seed=options.seed, key=caption.key
        )
    positive, negatives, status = "", (), graph.status
    if status == schema.OK:
        drafted = _Draft(text, graph, lexicons)
        positive = drafted.positive
        negatives = _negatives(drafted, options, caption.key)
        if options.num_negatives and not negatives:
            status = schema.NO_NEGATIVE
    return Subcaption(
        key=caption.key, caption=text, positive=positive, negatives=negatives, views=views, status=status
    )


# ------------------------------------------------------------ what is said: positive
def choose_relation(graph: SceneGraph) -> Relation | None:
    """The relation a positive is made of.

    Verbs first, then spatial prepositions, then other prepositions, then "has", "is" and possession; among equals
    the first in the caption.
    """
    best: Relation | None = None
    best_rank = (9, 0)
    for relation in graph.relations:
        if relation.subject != relation.object:
            rank = (_relation_class(relation), relation.start)
            if rank < best_rank:
                best, best_rank = relation, rank
    return best


def _relation_class(relation: Relation) -> int:
    if relation.tag[:1] == "V":
        return 3 if relation.lemma in ("have", "be") else 0
    if relation.tag == "POS":
        return 3
    return 1 if relation.text.rpartition(" ")[2].lower() in SPATIAL else 2


class _Draft:
    """A positive and the slots in it."""

    def __init__(self, caption: str, graph: SceneGraph, lexicons: Lexicons) -> None:
        self.caption = caption
        self.lowered = caption.lower()
        self._graph = graph
        self._lexicons = lexicons
        self._pools = pools_of(lexicons)
        self._pieces: list[str] = []
        self._length = 0
        self._places: list[tuple[int, int, str, Attribute | Entity | Relation]] = []
        relation = choose_relation(graph)
        if relation is None:
            self._add_entity(graph.entities[0])
        else:
            self._add_entity(graph.entities[relation.subject])
            self._add(relation.text, relation)
            self._add_entity(graph.entities[relation.object])
        self.positive = " ".join(self._pieces)
        self.slots = self._slots()

    def _add_entity(self, entity: Entity) -> None:
        for attribute in entity.attributes:
            if _describes(attribute):
                self._add(attribute.text, attribute)
        self._add(entity.head, entity)

    def _add(self, text: str, element: Attribute | Entity | Relation) -> None:
        if (
            text[:1].isupper()
            and element.tag[:3] != "NNP"
            and _starts_sentence(self.caption, element.start, text)
        ):
            text = text[:1].lower() + text[1:]
        start = self._length + (1 if self._pieces else 0)
        self._pieces.append(text)
        self._length = start + len(text)
        self._places.append((start, self._length, text, element))

    def _slots(self) -> dict[Kind, list[Slot]]:
        slots: dict[Kind, list[Slot]] = {}
        for start, end, text, element in self._places:
            if isinstance(element, Entity):
                slots.setdefault("object", []).append(self._object_slot(start, end, text, element))
            elif isinstance(element, Attribute):
                slots.setdefault("attribute", []).append(self._attribute_slot(start, end, text, element))
            else:
                slots.setdefault("relation", []).append(self._relation_slot(start, end, text, element))
        return slots

    def _object_slot(self, start: int, end: int, text: str, entity: Entity) -> Slot:
        objects, pools = self._lexicons.objects, self._pools
        pool, form = (pools.plural_objects, PLURAL) if _is_plural(entity) else (pools.objects, SINGULAR)
        near = objects.near(entity.lemma) or objects.near(entity.lemma.rpartition(" ")[2])
        return Slot(
            start=start,
            end=end,
            original=text,
            options=((pool, form),),
            excluded=self._excluded_objects(),
            near=near,
        )

    def _excluded_objects(self) -> int:
        """Terms related to any entity of the caption: a negative must not name what is there, either."""
        excluded = 0
        lookup = self._lexicons.objects.excluded
        for entity in self._graph.entities:
            lemma = entity.lemma
            excluded |= lookup(lemma)
            head = entity.head.lower()
            if head != lemma:
                excluded |= lookup(head)
            if " " in lemma:
                excluded |= lookup(lemma.rpartition(" ")[2])
        return excluded

    def _attribute_slot(self, start: int, end: int, text: str, attribute: Attribute) -> Slot:
        attributes = self._lexicons.attributes
        excluded = 0
        for entity in self._graph.entities:
            excluded |= attributes.excluded(entity.lemma)
            for other in entity.attributes:
                excluded |= attributes.excluded(other.text.lower()) | attributes.excluded(other.lemma)
        return Slot(
            start=start,
            end=end,
            original=text,
            options=((self._pools.attributes, 0),),
            excluded=excluded,
            near=attributes.near(text.lower()),
        )

    def _relation_slot(self, start: int, end: int, text: str, relation: Relation) -> Slot:
        relations = self._lexicons.relations
        excluded = 0
        for other in self._graph.relations:
            excluded |= _excluded_relations(relations, other)
        options, before, tail = _relation_options(relation, text, self._pools)
        return Slot(
            start=start,
            end=end,
            original=text,
            options=options,
            excluded=excluded,
            near=relations.near(relation.lemma) or relations.near(relation.lemma.partition(" ")[0]),
            before=before,
            tail=tail,
        )


def _describes(attribute: Attribute) -> bool:
    """Whether an attribute goes into the positive: a word or compound word, no number and no determiner."""
    return (
        attribute.tag not in ("CD", "DT", "_SP", "IN", "PDT", "WDT")
        and attribute.text.replace("-", "").isalpha()
    )


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
    return head.endswith("s") or head != entity.lemma or head.rpartition(" ")[2] in _SAME_IN_THE_PLURAL


def _excluded_relations(relations: Lexicon, relation: Relation) -> int:
    lemma = relation.lemma
    excluded = relations.excluded(lemma) | relations.excluded(relation.text.lower())
    verb, _, rest = lemma.partition(" ")
    if relation.tag[:1] == "V" or relation.tag == "TO":
        excluded |= relations.excluded(verb)
        if rest:  # "sitting on" says "on", "standing in front of" says "in front of" and "of"
            excluded |= relations.excluded("+" + rest) | relations.excluded("+" + rest.rpartition(" ")[2])
    elif rest:
        excluded |= relations.excluded(lemma.rpartition(" ")[2])
    return excluded


def _relation_options(
    relation: Relation, text: str, pools: Pools
) -> tuple[tuple[tuple[Pool, int], ...], str, str]:
    """The pools and forms that agree with a relation, and what stays before and after the term."""
    words = text.split()
    if relation.tag in ("TO", "MD") and len(words) > 1:
        pool = pools.verbs if relation.rule in _OBJECT_RULES else pools.verb_phrases
        return ((pool, BASE),), words[0] + " ", ""
    form = _VERB_FORMS.get(relation.tag)
    if form is None:
        return ((pools.prepositions, BASE), (pools.actions, GERUND)), "", ""
    if form == PARTICIPLE and len(words) > 1 and words[-1].lower() in ("by", "with"):
        return ((pools.verbs, PARTICIPLE),), "", " " + words[-1]
    if len(words) == 1 or relation.rule in _OBJECT_RULES:
        return ((pools.verbs, form),), "", ""
    # "parked in" and "carved into": the past tense reads well for verbs that have no passive
    return ((pools.verb_phrases, PAST if form == PARTICIPLE else form),), "", ""


# ------------------------------------------------------------ what is not said: negatives
def _negatives(draft: _Draft, options: SubcaptionOptions, key: str) -> tuple[Negative, ...]:
    """Up to `num_negatives` negatives, all different; each changes one kind of element, drawn among those possible."""
    numbers = draw_numbers(options.seed, key)
    kinds: list[Kind] = [kind for kind in schema.KINDS if kind in draft.slots]
    negatives: list[Negative] = []
    seen = {draft.positive.lower()}
    while len(negatives) < options.num_negatives and kinds:
        kind = kinds[next(numbers) % len(kinds)]
        near = options.hardness == "near" or (options.hardness == "mixed" and next(numbers) % 2 == 0)
        negative = _negative(draft, kind, numbers, near=near)
        if negative is None:
            kinds.remove(kind)
        elif negative.text.lower() not in seen:
            seen.add(negative.text.lower())
            negatives.append(negative)
    return tuple(negatives)


def _negative(draft: _Draft, kind: Kind, numbers: Iterator[int], *, near: bool) -> Negative | None:
    """The positive with every slot of one kind replaced; None where a slot has no term left."""
    positive = draft.positive
    slots = draft.slots[kind]
    edits: list[Edit] = []
    text = ""
    done = 0
    for slot in slots:
        drawn = slot.draw(numbers, draft.lowered, near=near)
        if drawn is None:
            return None
        row, replacement, pool = drawn
        used = 1 << row
        for each in slots:  # no term serves twice in one caption's negatives of a kind
            each.excluded |= used
        text += positive[done : slot.start] + replacement
        done = slot.end
        edits.append(
            Edit(
                start=slot.start,
                end=slot.end,
                original=slot.original,
                replacement=replacement,
                lexicon=pool.lexicon,
                term_id=pool.term_ids[row],
            )
        )
    text += positive[done:]
    negative = Negative(text=text, kind=kind, edits=tuple(edits))
    return _mend_articles(positive, negative) if _ARTICLE.search(positive) else negative


def _mend_articles(positive: str, negative: Negative) -> Negative:
    """The negative with "a" and "an" before its replacements right, each change an edit of its own."""
    edits: list[Edit] = []
    for edit in negative.edits:
        found = _ARTICLE_BEFORE.search(positive, 0, edit.start)
        if found is not None:
            right = article(edit.replacement)
            right = right.capitalize() if found[1][0].isupper() else right
            if right != found[1]:
                start, end = found.span(1)
                edits.append(
                    Edit(start=start, end=end, original=found[1], replacement=right, lexicon="", term_id="")
                )
        edits.append(edit)
    return Negative(text=apply_edits(positive, tuple(edits)), kind=negative.kind, edits=tuple(edits))


def apply_edits(positive: str, edits: tuple[Edit, ...]) -> str:
    """`positive` with the edits made; they stand in order and do not overlap."""
    text, done = "", 0
    for edit in edits:
        text += positive[done : edit.start] + edit.replacement
        done = edit.end
    return text + positive[done:]
