"""Dependency tree -> scene graph: the default rules, as a table of named rules whose examples are the tests.

No spaCy here: `Tree` is plain lists, so a rule can be tried on a tree written by hand. The rules start from what
SceneGraphParser does (rules "sng") and repair it; each rule is called for the words whose dependency label is among
its triggers, and gives (subject noun, words, object noun). Nouns are resolved afterwards: "a group of people" to
people, "a photo of a dog" to the dog, a coordination to each of its members.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from pipeline import graph_words, schema
from pipeline.schema import Attribute, Entity, Relation, SceneGraph


@dataclass(slots=True, kw_only=True)
class Tree:
    """A parsed sentence: parallel lists over its words."""

    text: str
    words: Sequence[str]
    lemmas: Sequence[str]
    tags: list[str]
    """Penn Treebank tags."""
    labels: list[str]
    """ClearNLP dependency labels."""
    heads: list[int]
    """Index of each word's head; the root's is its own."""
    starts: Sequence[int]
    """First character of each word in `text`."""
    lowers: list[str] = field(init=False)
    children: list[list[int]] = field(init=False)
    passed_through: dict[int, int] = field(init=False, default_factory=dict)
    """Nouns that stand for another: a measure or a scene word -> the noun after its "of"."""
    places: set[int] = field(init=False, default_factory=set)
    """Nouns that are part of a relation: "front" of "in front of"."""

    def __post_init__(self) -> None:
        """Derive what every rule asks for."""
        self.lowers = [word.lower() for word in self.words]
        self.children = [[] for _ in self.words]
        self.passed_through = {}
        self.places = set()
        repair(self)
        for index, head in enumerate(self.heads):
            if head != index:
                self.children[head].append(index)
        for index, label in enumerate(self.labels):
            if label == "pobj":
                self._mark(index)

    def _mark(self, index: int) -> None:
        """Note a place noun or a noun that stands for the object of its "of"."""
        preposition = self.heads[index]
        noun = self.heads[preposition]
        if self.labels[preposition] != "prep" or not self.is_noun(noun) or noun >= preposition:
            return
        word = self.lowers[noun]
        if (
            word in graph_words.PLACE_NOUNS
            and self.labels[noun] == "pobj"
            and self.lowers[preposition] in graph_words.PLACE_PREPOSITIONS
        ):
            self.places.add(noun)
        elif (
            self.lowers[preposition] == "of"
            and self.is_noun(index)
            and (word in graph_words.MEASURE_NOUNS or word in graph_words.SCENE_NOUNS)
        ):
            self.passed_through[noun] = index

    def is_noun(self, index: int) -> bool:
        """Whether a word is a noun, a pronoun never."""
        word = self.lowers[index]
        return (
            self.tags[index].startswith("NN")
            and word not in graph_words.INDEFINITE_PRONOUNS
            and any(character.isalpha() for character in word)
        )

    def is_verb(self, index: int) -> bool:
        """Whether a word is a verb, by its tag."""
        return self.tags[index].startswith("VB")

    def having(self, index: int, *labels: str) -> list[int]:
        """The children of a word with one of these labels, left to right."""
        return [child for child in self.children[index] if self.labels[child] in labels]

    def conjuncts(self, index: int) -> Iterator[int]:
        """A word and everything coordinated to it."""
        yield index
        for child in self.having(index, "conj"):
            yield from self.conjuncts(child)

    def nouns(self, index: int) -> list[int]:
        """The entity nouns a word stands for: resolved, with its conjuncts."""
        found = []
        for each in self.conjuncts(index):
            if each in self.passed_through:
                found += self.nouns(self.passed_through[each])
            elif self.is_noun(each) and each not in self.places:
                found.append(each)
        return found


def repair(tree: Tree) -> None:
    """Mend two mistakes that parsers trained on news make in captions, in place.

    "toilet next to sink": the noun after "next to" is no infinitive. "lid on a stove": a bare verb that opens a
    caption without an object is no order, but a noun.
    """
    for index, tag in enumerate(tree.tags):
        if tag not in ("VB", "VBP"):
            continue
        if index >= 2 and tree.lowers[index - 1] == "to" and tree.lowers[index - 2] in ("next", "close"):
            tree.tags[index], tree.labels[index], tree.heads[index] = "NN", "pobj", index - 1
            tree.labels[index - 1], tree.heads[index - 1] = "prep", index - 2
        elif (
            index == 0
            and tree.labels[0] == "ROOT"
            and tree.labels[1:2] != ["dobj"]
            and "dobj" not in tree.labels
        ):
            tree.tags[0] = "NN"


class Found(NamedTuple):
    """What a rule found: words by index, the object possibly a coordination."""

    subjects: list[int]
    words: list[int]
    object: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One named rule: which dependency labels call it, what it finds, and examples that are its tests."""

    name: str
    triggers: tuple[str, ...]
    find: Callable[[Tree, int], Iterator[Found]]
    repairs: str
    """What SceneGraphParser does instead."""
    examples: tuple[tuple[str, tuple[tuple[str, str, str], ...]], ...]
    """(caption, relations as (subject, text, object)) that must be in the caption's graph."""


# ---------------------------------------------------------------- who does it
def subjects_of(tree: Tree, verb: int, depth: int = 0) -> list[int]:
    """The nouns that a verb says something about, [] where the caption does not name them.

    Its own subject; for "there is" the noun it introduces; for a participle or a relative clause the noun it
    stands behind; for a coordinated, infinitive or adverbial verb the subject of the verb it depends on.
    """
    if depth > 8:
        return []
    for child in tree.having(verb, "nsubj", "nsubjpass"):
        if tree.lowers[child] in graph_words.RELATIVE_PRONOUNS and tree.labels[verb] == "relcl":
            return tree.nouns(tree.heads[verb])
        return tree.nouns(child)
    if tree.having(verb, "expl"):
        return [noun for child in tree.having(verb, "attr", "dobj") for noun in tree.nouns(child)]
    return inherited_subjects(tree, verb, depth)


def inherited_subjects(tree: Tree, verb: int, depth: int) -> list[int]:
    """The subject a verb without one of its own has from its head."""
    head, label = tree.heads[verb], tree.labels[verb]
    if head == verb:
        return []
    if tree.labels[head] == "prep" and label == "pcomp":
        head = tree.heads[head]
    if tree.is_noun(head):
        if label == "acl" and tree.tags[verb] == "VBG":
            while tree.labels[head] == "conj" and tree.is_noun(tree.heads[head]):
                head = tree.heads[head]
        return tree.nouns(head) if label in ("acl", "relcl", "amod", "advcl", "pcomp", "conj") else []
    if label in ("conj", "xcomp", "advcl", "acl", "pcomp", "dep", "ccomp"):
        if (
            label == "xcomp"
            and (objects := tree.having(head, "dobj"))
            and tree.lemmas[head] in ("see", "watch")
        ):
            return tree.nouns(objects[0])
        return subjects_of(tree, head, depth + 1)
    return []


def verb_words(tree: Tree, verb: int) -> list[int]:
    """A verb with its particle, and the verb before it where that only leads to it ("trying to catch")."""
    words = [verb, *tree.having(verb, "prt")]
    to = [child for child in tree.having(verb, "aux") if tree.tags[child] == "TO" and child == verb - 1]
    if to:
        words.insert(0, to[0])
        leading = tree.heads[verb]
        if leading == to[0] - 1 and tree.is_verb(leading) and tree.labels[verb] in ("xcomp", "advcl"):
            words.insert(0, leading)
    return words


def is_copula(tree: Tree, verb: int) -> bool:
    """Whether a verb is a form of "be" that links, not an auxiliary."""
    return tree.lemmas[verb] == "be" and tree.is_verb(verb)


# ---------------------------------------------------------------- the rules
def find_object(tree: Tree, index: int) -> Iterator[Found]:
    """A verb's direct object."""
    verb = tree.heads[index]
    if tree.is_verb(verb) and not is_copula(tree, verb) and not tree.having(verb, "nsubjpass"):
        yield Found(subjects_of(tree, verb), verb_words(tree, verb), index)


def find_attribute_noun(tree: Tree, index: int) -> Iterator[Found]:
    """A noun after "is"."""
    verb = tree.heads[index]
    if is_copula(tree, verb) and not tree.having(verb, "expl"):
        yield Found(subjects_of(tree, verb), [verb], index)


def find_agent(tree: Tree, index: int) -> Iterator[Found]:
    """The doer of a passive verb: subject and object change places."""
    by = tree.heads[index]
    if tree.labels[by] != "agent":
        return
    verb = tree.heads[by]
    patients = subjects_of(tree, verb)
    for patient in patients:
        yield Found(tree.nouns(index), [verb], patient)


def find_preposition(tree: Tree, index: int) -> Iterator[Found]:
    """The object of a preposition, whatever the preposition depends on."""
    if index in tree.places or tree.labels[tree.heads[index]] == "agent":
        return
    words, anchor = preposition_path(tree, index)
    if anchor is None:
        return
    if tree.is_noun(anchor):
        if anchor not in tree.passed_through or tree.passed_through[anchor] != index:
            yield Found(
                tree.nouns(anchor)[:1] if tree.labels[anchor] == "conj" else tree.nouns(anchor), words, index
            )
    elif tree.is_verb(anchor):
        yield from find_verb_preposition(tree, index, words, anchor)


def find_verb_preposition(tree: Tree, index: int, words: list[int], verb: int) -> Iterator[Found]:
    """A preposition on a verb: with the verb where it has no object, else alone."""
    subjects = subjects_of(tree, verb)
    objects = tree.having(verb, "dobj")
    if is_copula(tree, verb):
        yield Found(subjects, words, index)
    elif objects and not tree.having(verb, "nsubjpass"):
        moved = tree.lowers[words[0]] in graph_words.MOTION_PREPOSITIONS
        placed = tree.lemmas[verb] in graph_words.PLACING_VERBS and tree.lowers[words[0]] != "with"
        yield Found(tree.nouns(objects[0]) if moved or placed else subjects, words, index)
    else:
        yield Found(subjects, sorted(verb_words(tree, verb) + words), index)


def preposition_path(tree: Tree, index: int) -> tuple[list[int], int | None]:
    """The words of the preposition above a noun ("next to", "in front of", "out of") and what they depend on."""
    preposition = tree.heads[index]
    words = [preposition]
    anchor = tree.heads[preposition]
    for _ in range(6):
        label = tree.labels[anchor]
        if anchor in words:
            return words, None
        if tree.labels[words[0]] == "conj" and tree.tags[anchor] == "IN":
            words, anchor = [words[0]], tree.heads[anchor]
        elif anchor in tree.places:
            before = tree.heads[anchor]
            articles = [child for child in tree.having(anchor, "det") if child > before]
            words = [before, *articles, anchor, *words]
            anchor = tree.heads[before]
        elif (
            tree.tags[anchor] in ("IN", "TO", "RP") and label in ("prep", "pcomp", "advmod", "prt")
        ) or is_adjective_before(tree, anchor, words[0]):
            words = [anchor, *words]
            anchor = tree.heads[anchor]
        else:
            break
    return words, anchor


def is_adjective_before(tree: Tree, index: int, preposition: int) -> bool:
    """Whether a word is the adjective or adverb of "next to", "close to", "full of", right before the preposition."""
    return (
        tree.labels[index] in ("amod", "advmod", "acomp", "oprd")
        and not tree.is_verb(index)
        and index == preposition - 1
        and tree.heads[index] != index
        and (tree.heads[index] < index)
    )


def find_relative_object(tree: Tree, index: int) -> Iterator[Found]:
    """A relative clause whose subject is another noun: "shoes the woman is wearing"."""
    noun = tree.heads[index]
    subjects = [child for child in tree.having(index, "nsubj") if tree.is_noun(child)]
    if not tree.is_noun(noun) or not subjects or not tree.is_verb(index) or is_copula(tree, index):
        return
    objects = tree.having(index, "dobj")
    if objects and tree.lowers[objects[0]] not in graph_words.RELATIVE_PRONOUNS:
        return
    dangling = [child for child in tree.having(index, "prep") if not tree.having(child, "pobj", "pcomp")]
    if not dangling and tree.having(index, "prep", "acomp", "ccomp"):
        return
    yield Found(tree.nouns(subjects[0]), verb_words(tree, index) + dangling[:1], noun)


def find_possessor(tree: Tree, index: int) -> Iterator[Found]:
    """A noun with 's before another noun."""
    marks = tree.having(index, "case")
    if marks and tree.is_noun(index):
        yield Found(tree.nouns(index), marks[:1], tree.heads[index])


def find_prepositional_verb(tree: Tree, index: int) -> Iterator[Found]:
    """The object of a verb after a preposition: "a machine for cutting grass"."""
    verb = tree.heads[index]
    if tree.labels[verb] == "pcomp" and tree.is_noun(tree.heads[tree.heads[verb]]):
        yield Found(
            tree.nouns(tree.heads[tree.heads[verb]]), [tree.heads[verb], *verb_words(tree, verb)], index
        )


RULES: Final[tuple[Rule, ...]] = (
    Rule(
        name="verb_object", triggers=("dobj",), find=find_object,
        repairs="misses the second of two coordinated verbs, adverbial and infinitive verbs, and particles",
        examples=(
            ("a woman is playing the piano", (("woman", "playing", "piano"),)),
            ("a man standing and reading a book", (("man", "reading", "book"),)),
            ("a dog trying to catch a frisbee", (("dog", "trying to catch", "frisbee"),)),
            ("two men and a woman riding horses", (("men", "riding", "horses"), ("woman", "riding", "horses"))),
            ("a boy eating an apple and a banana", (("boy", "eating", "apple"), ("boy", "eating", "banana"))),
            ("a man who is riding a horse", (("man", "riding", "horse"),)),
        ),
    ),
    Rule(
        name="copula", triggers=("attr",), find=find_attribute_noun,
        repairs="keeps this one as it is",
        examples=(("the woman is a pianist", (("woman", "is", "pianist"),)),),
    ),
    Rule(
        name="passive_agent", triggers=("pobj",), find=find_agent,
        repairs="finds it only for a finite passive, not for a participle behind its noun",
        examples=(
            ("the piano is played by a woman", (("woman", "played", "piano"),)),
            ("a house surrounded by trees", (("trees", "surrounded", "house"),)),
        ),
    ),
    Rule(
        name="preposition", triggers=("pobj",), find=find_preposition,
        repairs="drops the verb of a verb with a preposition, and cuts phrasal prepositions off by one",
        examples=(
            ("a piano in the room", (("piano", "in", "room"),)),
            ("a woman standing next to a piano", (("woman", "standing next to", "piano"),)),
            ("a cat sitting on a chair", (("cat", "sitting on", "chair"),)),
            ("a car parked in front of a house", (("car", "parked in front of", "house"),)),
            ("a woman playing the piano in the room", (("woman", "playing", "piano"), ("woman", "in", "room"))),
            ("a group of people on a beach", (("people", "on", "beach"),)),
            ("a photo of a dog on a sofa", (("dog", "on", "sofa"),)),
            ("there is a dog on the bed", (("dog", "on", "bed"),)),
            ("the dog is on the bed", (("dog", "on", "bed"),)),
            ("a street full of cars", (("street", "full of", "cars"),)),
            ("a man throwing a ball to a dog", (("man", "throwing", "ball"), ("ball", "to", "dog"))),
            ("a plate covered with food", (("plate", "covered with", "food"),)),
        ),
    ),
    Rule(
        name="relative_object", triggers=("relcl",), find=find_relative_object,
        repairs="does not look for it",
        examples=(("the shoes that the woman is wearing", (("woman", "wearing", "shoes"),)),),
    ),
    Rule(
        name="possessive", triggers=("poss",), find=find_possessor,
        repairs="does not look for it",
        examples=(("the man's hat", (("man", "'s", "hat"),)),),
    ),
)  # fmt: skip

RULES_BY_LABEL: Final = {
    label: tuple(rule for rule in RULES if label in rule.triggers)
    for label in sorted({label for rule in RULES for label in rule.triggers})
}


# ---------------------------------------------------------------- entities and attributes
def entity_nouns(tree: Tree) -> list[int]:
    """The nouns that are things in the picture, left to right."""
    return [
        index
        for index, label in enumerate(tree.labels)
        if label not in ("compound", "npadvmod", "nmod", "punct", "amod")
        and index not in tree.places
        and index not in tree.passed_through
        and tree.is_noun(index)
        and not is_colour_object(tree, index)
    ]


def is_colour_object(tree: Tree, index: int) -> bool:
    """Whether a word is a colour that something is "in": "a woman dressed in red"."""
    return (
        tree.labels[index] == "pobj"
        and tree.lowers[index] in graph_words.COLOURS
        and tree.lowers[tree.heads[index]] == "in"
        and not tree.children[index]
    )


def head_words(tree: Tree, noun: int) -> list[int]:
    """A noun with the compounds that stand right before it: "stop sign", "t-shirt"."""
    first = noun
    while first > 0 and (
        (tree.labels[first - 1] in ("compound", "nmod") and noun >= tree.heads[first - 1] >= first)
        or (tree.tags[first - 1] == "HYPH" and tree.heads[first - 1] >= first - 1)
    ):
        first -= 1
    while first < noun and (
        tree.tags[first] in ("HYPH", "CD", "DT", "PRP$")
        or (is_adjective(tree, first) and tree.heads[first] == noun and tree.tags[first + 1] != "HYPH")
    ):
        first += 1
    return list(range(first, noun + 1))


def attribute_words(tree: Tree, index: int) -> list[int]:
    """An adjective with what belongs to it: "light blue", "snow-covered"."""
    first = index
    while first > 0 and first - 1 in tree.children[index] and (
        tree.tags[first - 1] == "HYPH"
        or tree.lowers[first - 1] == "-"
        or (tree.lowers[first - 1] in graph_words.SHADES and tree.lowers[first - 1] != "very")
        or (first < index and tree.labels[first - 1] in ("npadvmod", "amod", "advmod", "compound", "nmod"))
    ):  # fmt: skip
        first -= 1
    while tree.tags[first] in ("HYPH", ":") and first < index:
        first += 1
    return list(range(first, index + 1))


def attributes_of(tree: Tree, noun: int) -> list[int]:
    """The adjectives, participles and numbers that stand with a noun, left to right."""
    found = []
    for child in tree.children[noun]:
        label, tag = tree.labels[child], tree.tags[child]
        if label == "amod" or (label in ("nmod", "compound") and is_adjective(tree, child)):
            if not has_preposition(tree, child):
                found += list(tree.conjuncts(child))
        elif label == "nummod" and tag == "CD" and tree.lowers[child] != "one":
            found.append(child)
    return [word for word in found if tree.lowers[word] not in graph_words.QUANTIFIERS]


def is_adjective(tree: Tree, index: int) -> bool:
    """Whether a word before a noun describes it, whatever the parser calls it: an adjective, a colour, a material."""
    return (
        tree.tags[index].startswith("JJ")
        or tree.lowers[index] in graph_words.COLOURS
        or tree.lowers[index] in graph_words.MATERIALS
    )


def has_preposition(tree: Tree, index: int) -> bool:
    """Whether a modifier behind its noun leads to a preposition, which makes it a relation."""
    return index > tree.heads[index] and bool(tree.having(index, "prep", "agent", "dobj"))


def predicate_attributes(tree: Tree) -> Iterator[tuple[int, int]]:
    """(noun, word) where a verb says what the noun is like: "the dog is black", "a fence painted white"."""
    for index, label in enumerate(tree.labels):
        head = tree.heads[index]
        described: list[int] = []
        if label in ("acomp", "oprd") and tree.tags[index].startswith(("JJ", "VB")):
            if tree.is_verb(head) and not tree.having(index, "prep"):
                described = subjects_of(tree, head)
        elif is_colour_object(tree, index):
            described = coloured(tree, index)
        elif tree.tags[index] in ("VBG", "VBN") and is_bare_verb(tree, index):
            described = subjects_of(tree, index)
        for noun in described:
            for each in tree.conjuncts(index):
                yield noun, each


def coloured(tree: Tree, index: int) -> list[int]:
    """What wears the colour of "in red"."""
    anchor = tree.heads[tree.heads[index]]
    if tree.is_verb(anchor):
        return subjects_of(tree, anchor)
    return tree.nouns(anchor) if tree.is_noun(anchor) else []


def is_bare_verb(tree: Tree, verb: int) -> bool:
    """Whether a participle stands behind or under its noun with nothing after it: "a dog running"."""
    if tree.labels[verb] not in ("acl", "ROOT", "relcl", "conj"):
        return False
    return not any(
        tree.labels[child]
        in ("dobj", "prep", "agent", "attr", "acomp", "xcomp", "ccomp", "oprd", "advcl", "dative")
        for child in tree.children[verb]
    )


# ---------------------------------------------------------------- the graph
def build_graph(tree: Tree, *, offset: int = 0) -> SceneGraph:
    """The scene graph of one sentence; `offset` is added to every character position."""
    nouns = entity_nouns(tree)
    if not nouns:
        return SceneGraph(status=schema.NO_ENTITY)
    number = {noun: position for position, noun in enumerate(nouns)}
    attributes: dict[int, list[int]] = {noun: attributes_of(tree, noun) for noun in nouns}
    for noun, word in predicate_attributes(tree):
        if noun in attributes and word not in attributes[noun]:
            attributes[noun].append(word)
    entities = tuple(make_entity(tree, noun, attributes[noun], offset=offset) for noun in nouns)
    relations = tuple(make_relations(tree, number, offset=offset))
    return SceneGraph(entities=entities, relations=relations, status=schema.OK)


def make_relations(tree: Tree, number: dict[int, int], *, offset: int) -> Iterator[Relation]:
    """Each relation once, in the order of the words that called the rules."""
    seen: set[tuple[int, int, tuple[int, ...]]] = set()
    for index, label in enumerate(tree.labels):
        for rule in RULES_BY_LABEL.get(label, ()):
            for found in rule.find(tree, index):
                for subject in found.subjects:
                    for other in tree.nouns(found.object):
                        key = (subject, other, tuple(found.words))
                        if subject == other or key in seen or subject not in number or other not in number:
                            continue
                        seen.add(key)
                        yield make_relation(
                            tree,
                            rule.name,
                            found.words,
                            subject=number[subject],
                            other=number[other],
                            offset=offset,
                        )


def span_text(tree: Tree, words: Sequence[int]) -> tuple[str, int, int]:
    """Words as written, with first and last character; words apart are joined by one space."""
    start = tree.starts[words[0]]
    end = tree.starts[words[-1]] + len(tree.words[words[-1]])
    if words[-1] - words[0] == len(words) - 1:
        return tree.text[start:end], start, end
    return " ".join(tree.words[word] for word in words), start, end


def make_relation(
    tree: Tree, rule: str, words: Sequence[int], *, subject: int, other: int, offset: int
) -> Relation:
    """The record of one relation; its lemma leaves articles out and reads "'s" as "have"."""
    text, start, end = span_text(tree, words)
    lemma = " ".join(tree.lemmas[word] for word in words if tree.labels[word] != "det")
    if rule == "possessive":
        lemma = "have"
    return Relation(
        subject=subject, object=other, text=text, lemma=lemma, tag=tree.tags[words[0]],
        start=start + offset, end=end + offset, rule=rule,
    )  # fmt: skip


def make_entity(tree: Tree, noun: int, attributes: Sequence[int], *, offset: int) -> Entity:
    """The record of one entity."""
    words = head_words(tree, noun)
    text, start, end = span_text(tree, words)
    lemma = "".join(
        tree.lemmas[word] + (" " if follows_space(tree, word) and word != noun else "") for word in words
    )
    return Entity(
        head=text, lemma=lemma, tag=tree.tags[noun], start=start + offset, end=end + offset,
        attributes=tuple(make_attribute(tree, word, offset=offset) for word in sorted(attributes)),
    )  # fmt: skip


def follows_space(tree: Tree, word: int) -> bool:
    """Whether white space follows a word."""
    end = tree.starts[word] + len(tree.words[word])
    return tree.text[end : end + 1].isspace()


def make_attribute(tree: Tree, word: int, *, offset: int) -> Attribute:
    """The record of one attribute."""
    words = attribute_words(tree, word)
    text, start, end = span_text(tree, words)
    lemma = text.lower() if len(words) > 1 else tree.lemmas[word]
    return Attribute(text=text, lemma=lemma, tag=tree.tags[word], start=start + offset, end=end + offset)


def join_graphs(graphs: Sequence[SceneGraph]) -> SceneGraph:
    """The graphs of a caption's sentences as one."""
    if len(graphs) == 1:
        return graphs[0]
    entities: list[Entity] = []
    relations: list[Relation] = []
    for graph in graphs:
        shift = len(entities)
        entities += graph.entities
        relations += [
            Relation(
                subject=relation.subject + shift, object=relation.object + shift, text=relation.text,
                lemma=relation.lemma, tag=relation.tag, start=relation.start, end=relation.end, rule=relation.rule,
            )
            for relation in graph.relations
        ]  # fmt: skip
    status = schema.OK if entities else schema.NO_ENTITY
    return SceneGraph(entities=tuple(entities), relations=tuple(relations), status=status)
