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
    draw,
    draw_near,
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
UNSEEN: Final = frozenset(
    ("of", "for", "about", "as", "during", "like", "than", "per", "since", "until", "'s", "full")
)
"""Prepositions for what no picture shows."""
QUANTITIES: Final = frozenset(
    re.findall(
        r"\w+",
        "many several few more most much some any all both other others another same own such only various",
    )
)
"""Adjectives that count or point, as determiners do: they stay out of a positive."""
_NO_ATTRIBUTES: Final = frozenset(("CD", "DT", "_SP", "IN", "PDT", "WDT"))
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
    positive, status = "", graph.status
    negatives: tuple[Negative, ...] = ()
    if status == schema.OK:
        drafted = _Draft(text, graph, lexicons, near=options.hardness != "random")
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


class _Plan:
    """The slots of one kind in a positive, and the text between them."""

    __slots__ = ("excluded", "parts", "rest")

    def __init__(self, positive: str, slots: list[Slot], excluded: int) -> None:
        self.excluded = excluded
        """Terms that must not stand in any of them, as bits; grows with every term used."""
        ends = [0, *(slot.end for slot in slots)]
        self.parts = [
            (positive[end : slot.start], slot, slot.bands) for end, slot in zip(ends, slots, strict=False)
        ]
        """For each slot: what stands before it, and what it draws from."""
        self.rest = positive[ends[-1] :]


class _Draft:
    """A positive and what can be changed in it."""

    __slots__ = (
        "_graph",
        "_length",
        "_lexicons",
        "_near",
        "_pieces",
        "_pools",
        "_slots",
        "caption",
        "lowered",
        "plans",
        "positive",
    )

    def __init__(self, caption: str, graph: SceneGraph, lexicons: Lexicons, *, near: bool) -> None:
        self.caption = caption
        self._near = near
        self.lowered = caption.lower()
        self._graph = graph
        self._lexicons = lexicons
        self._pools = pools_of(lexicons)
        self._pieces: list[str] = []
        self._length = -1
        self._slots: dict[Kind, list[Slot]] = {}
        relation = choose_relation(graph)
        if relation is None:
            self._add_entity(graph.entities[0], None)
        else:
            first, second = graph.entities[relation.subject], graph.entities[relation.object]
            if relation.rule == "passive_agent":  # "elephants ridden by men" has men as its subject
                first, second = second, first
            self._add_entity(first, relation)
            self._add_relation(relation)
            self._add_entity(second, relation)
        self.positive = " ".join(self._pieces)
        excluded = {"attribute": self._excluded_attributes, "object": self._excluded_objects}
        excluded["relation"] = self._excluded_relations
        if relation is not None and not _is_plural(second):  # "between cars", not "between car"
            needs_plural = self._pools.need_plural
            excluded["relation"] = lambda: self._excluded_relations() | needs_plural
        self.plans = {
            kind: _Plan(self.positive, slots, excluded[kind]()) for kind, slots in self._slots.items()
        }

    def _add_entity(self, entity: Entity, relation: Relation | None) -> None:
        for attribute in entity.attributes:
            if _describes(attribute, relation, entity.start):
                text, start = self._add(attribute)
                near = self._lexicons.attributes.near(text.lower()) if self._near else 0
                self._slots.setdefault("attribute", []).append(
                    Slot(start, text, self._pools.attributes, near=near)
                )
        text, start = self._add(entity)
        objects, pools = self._lexicons.objects, self._pools
        pool = pools.objects[PLURAL if _is_plural(entity) else SINGULAR]
        near = self._near and (objects.near(entity.lemma) or objects.near(entity.lemma.rpartition(" ")[2]))
        self._slots.setdefault("object", []).append(Slot(start, text, pool, near=near))

    def _add_relation(self, relation: Relation) -> None:
        text, start = self._add(relation)
        relations = self._lexicons.relations
        found = _relation_pool(relation, text, self._pools)
        if found is None:
            return
        pool, before, tail = found
        near = self._near and (
            relations.near(relation.lemma) or relations.near(relation.lemma.partition(" ")[0])
        )
        self._slots["relation"] = [Slot(start, text, pool, near=near, before=before, tail=tail)]

    def _add(self, element: Attribute | Entity | Relation) -> tuple[str, int]:
        """The element's text as it stands in the positive, and where it starts."""
        text = element.head if isinstance(element, Entity) else element.text
        if isinstance(element, Relation) and element.rule == "passive_agent" and not text.endswith(" by"):
            text += " by"
        if (
            text[:1].isupper()
            and element.tag[:3] != "NNP"
            and _starts_sentence(self.caption, element.start, text)
        ):
            text = text[:1].lower() + text[1:]
        start = self._length + 1
        self._pieces.append(text)
        self._length = start + len(text)
        return text, start

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

    def _excluded_attributes(self) -> int:
        """Terms related to any attribute, and those that go without saying for an entity ("feathered" of a bird)."""
        excluded = 0
        lookup = self._lexicons.attributes.excluded
        for entity in self._graph.entities:
            excluded |= lookup(entity.lemma)
            for attribute in entity.attributes:
                text = attribute.text.lower()
                excluded |= lookup(text)
                if attribute.lemma != text:
                    excluded |= lookup(attribute.lemma)
        return excluded

    def _excluded_relations(self) -> int:
        """Terms related to any relation of the caption."""
        excluded = 0
        for relation in self._graph.relations:
            excluded |= _excluded_by_relation(self._lexicons.relations, relation)
        return excluded


def _describes(attribute: Attribute, relation: Relation | None, head_start: int) -> bool:
    """Whether an attribute goes into the positive: one word or compound word, no number and no determiner.

    Where the relation is a verb, another verb after the noun ("man walking and holding a drink") is no adjective.
    """
    tag = attribute.tag
    if tag in _NO_ATTRIBUTES or attribute.lemma in QUANTITIES:
        return False
    if tag[:1] == "V" and relation is not None and relation.tag[:1] == "V" and attribute.start > head_start:
        return False
    return attribute.text.isalpha() or attribute.text.replace("-", "").isalpha()


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


def _excluded_by_relation(relations: Lexicon, relation: Relation) -> int:
    lemma = relation.lemma
    excluded = relations.excluded(lemma) | relations.excluded(relation.text.lower())
    verb, _, rest = lemma.partition(" ")
    if relation.tag[:1] == "V" or relation.tag == "TO":
        excluded |= relations.excluded(verb)
        if rest:  # "sitting on" says "on", "standing in front of" says "in front of" and "of"
            excluded |= relations.excluded("+" + rest) | relations.excluded("+" + rest.rpartition(" ")[2])
    elif rest:
        excluded |= relations.excluded(verb) | relations.excluded(lemma.rpartition(" ")[2])
    return excluded


def _relation_pool(relation: Relation, text: str, pools: Pools) -> tuple[Pool, str, str] | None:
    """The pool whose forms agree with a relation, and what stays before and after the term.

    None for a relation that no picture shows ("of", "about"): replacing it makes nothing false.
    """
    words = text.lower().split()
    if relation.tag in ("TO", "MD") and len(words) > 1:
        if relation.rule in _OBJECT_RULES:
            return pools.verbs[BASE], text.split(maxsplit=1)[0] + " ", ""
        return _phrases(words[2:], pools)[BASE], text.split(maxsplit=1)[0] + " ", ""
    form = _VERB_FORMS.get(relation.tag)
    if form is None:
        return None if words[-1] in UNSEEN else (pools.prepositions, "", "")
    if form == PARTICIPLE and len(words) > 1 and words[-1] in ("by", "with"):
        return pools.verbs[PARTICIPLE], "", " " + text.rsplit(maxsplit=1)[-1]
    if len(words) == 1 or relation.rule in _OBJECT_RULES:
        return pools.verbs[form], "", ""
    # "parked in" and "carved into": the past tense reads well for verbs that have no passive
    return _phrases(words[1:], pools)[PAST if form == PARTICIPLE else form], "", ""


def _phrases(preposition: list[str], pools: Pools) -> tuple[Pool, ...]:
    """Verb phrases with this very preposition where there are enough: then the verb alone is replaced."""
    return pools.verb_phrases.get(" ".join(preposition)) or pools.verb_phrases[""]


# ------------------------------------------------------------ what is not said: negatives
def _negatives(draft: _Draft, options: SubcaptionOptions, key: str) -> tuple[Negative, ...]:
    """Up to `num_negatives` negatives, all different; each changes one kind of element, drawn among those possible."""
    numbers = draw_numbers(options.seed, key)
    kinds: list[Kind] = [kind for kind in schema.KINDS if kind in draft.plans]
    negatives: list[Negative] = []
    seen = {draft.positive}
    hardness, wanted = options.hardness, options.num_negatives
    articles = bool(_ARTICLE.search(draft.positive))
    near = hardness == "near"
    while len(negatives) < wanted and kinds:
        kind = kinds[next(numbers) % len(kinds)]
        if hardness == "mixed":
            near = next(numbers) % 2 == 0
        drafted = _replace(draft.plans[kind], numbers, draft.lowered, near=near)
        if drafted is None:
            kinds.remove(kind)
            continue
        text, edits = drafted
        if text in seen:
            continue
        seen.add(text)
        negative = _make_negative(text, kind, edits)
        negatives.append(_mend_articles(draft.positive, negative) if articles else negative)
    return tuple(negatives)


def _replace(
    plan: _Plan, numbers: Iterator[int], caption: str, *, near: bool
) -> tuple[str, tuple[Edit, ...]] | None:
    """The positive with every slot of a plan replaced, and the edits; None where a slot has no term left."""
    text = ""
    edits = []
    excluded = plan.excluded
    for before, slot, bands in plan.parts:
        # The first draw nearly always fits; it stands here, and not in `draw`, for speed.
        number = next(numbers)
        band, size, centre, width = bands[number % len(bands)]
        row, word, term, term_id = band[
            (centre + (((number >> 8 & 4095) - (number >> 20)) * width >> 12)) % size
        ]
        if near or excluded >> row & 1 or word in caption or term in caption:
            entry = draw_near(slot, excluded, numbers, caption) if near and slot.near else None
            entry = entry or draw(slot, excluded, numbers, caption)
            if entry is None:
                return None
            row, word, _, term_id = entry
        excluded |= 1 << row  # no term serves twice in one caption's negatives of a kind
        if not slot.plain:
            word = slot.dress(word)
        text += before + word
        edit = _new(
            Edit
        )  # filled through its slots: two fifths of the time of the frozen class's constructor
        _set_start(edit, slot.start)
        _set_end(edit, slot.end)
        _set_original(edit, slot.original)
        _set_replacement(edit, word)
        _set_lexicon(edit, slot.pool.lexicon)
        _set_term_id(edit, term_id)
        edits.append(edit)
    plan.excluded = excluded
    return text + plan.rest, tuple(edits)


def _make_negative(text: str, kind: Kind, edits: tuple[Edit, ...]) -> Negative:
    negative = _new(Negative)
    _set_text(negative, text)
    _set_kind(negative, kind)
    _set_edits(negative, edits)
    return negative


_new: Final = object.__new__
_set_start, _set_end, _set_original, _set_replacement, _set_lexicon, _set_term_id = (
    getattr(Edit, name).__set__ for name in ("start", "end", "original", "replacement", "lexicon", "term_id")
)
_set_text, _set_kind, _set_edits = (getattr(Negative, name).__set__ for name in ("text", "kind", "edits"))


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
