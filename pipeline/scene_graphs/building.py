"""Dependency tree -> scene graph: entities, their attributes, and the relations the rules find, with offsets."""

from collections.abc import Iterator, Sequence

from pipeline import schema
from pipeline.scene_graphs import words as known_words
from pipeline.scene_graphs.dependency_trees import Tree
from pipeline.scene_graphs.rules import RULES_BY_LABEL, Rule, subjects_of
from pipeline.schema import Attribute, Entity, Relation, SceneGraph


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
        and not is_absent(tree, index)
    ]


def is_absent(tree: Tree, index: int) -> bool:
    """Whether the caption says that there is none: "a man with no shirt", "no sidewalks or pathways"."""
    if any(tree.lowers[child] == "no" for child in tree.having(index, "det")):
        return True
    first = tree.heads[index]
    return (
        tree.labels[index] == "conj"
        and first < index
        and any(tree.lowers[child] in ("or", "nor") for child in tree.having(first, "cc"))
        and is_absent(tree, first)
    )


def is_colour_object(tree: Tree, index: int) -> bool:
    """Whether a word is a colour that something is "in": "a woman dressed in red"."""
    return (
        tree.labels[index] == "pobj"
        and tree.lowers[index] in known_words.COLOURS
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
        or (tree.lowers[first - 1] in known_words.SHADES and tree.lowers[first - 1] != "very")
        or (tree.labels[first - 1] in ("npadvmod", "compound") and tree.lowers[index].endswith("ed"))
        or (first < index and tree.labels[first - 1] in ("npadvmod", "amod", "advmod", "compound", "nmod"))
    ):  # fmt: skip
        first -= 1
    while tree.tags[first] in ("HYPH", ":") and first < index:
        first += 1
    return list(range(first, index + 1))


def attributes_of(tree: Tree, noun: int) -> list[int]:
    """The adjectives, participles and numbers that stand with a noun, left to right."""
    found = []
    first = head_words(tree, noun)[0]
    for child in tree.children[noun]:
        label, tag = tree.labels[child], tree.tags[child]
        if label == "amod" or (label in ("nmod", "compound") and is_adjective(tree, child) and child < first):
            if not has_preposition(tree, child):
                found += list(tree.conjuncts(child))
        elif label == "nummod" and tag == "CD" and tree.lowers[child] != "one":
            found.append(child)
    return [word for word in found if tree.lowers[word] not in known_words.QUANTIFIERS]


def is_adjective(tree: Tree, index: int) -> bool:
    """Whether a word before a noun describes it, whatever the parser calls it: an adjective, a colour, a material."""
    return (
        tree.tags[index].startswith("JJ")
        or tree.lowers[index] in known_words.COLOURS
        or tree.lowers[index] in known_words.MATERIALS
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
        elif (
            tree.tags[index] in ("VBG", "VBN")
            and tree.lowers[index] not in known_words.TRANSITIVE_PARTICIPLES
            and is_bare_verb(tree, index)
        ):
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
                            rule,
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
    tree: Tree, rule: Rule, words: Sequence[int], *, subject: int, other: int, offset: int
) -> Relation:
    """The record of one relation; its lemma leaves articles out, where the rule has none of its own."""
    text, start, end = span_text(tree, words)
    lemma = rule.lemma or " ".join(tree.lemmas[word] for word in words if tree.labels[word] != "det")
    return Relation(
        subject=subject, object=other, text=text, lemma=lemma, tag=tree.tags[words[0]],
        start=start + offset, end=end + offset, rule=rule.name,
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
