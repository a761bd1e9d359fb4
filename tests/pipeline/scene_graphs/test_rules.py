"""The rules' own examples are tests: each stands in the table in `pipeline/scene_graphs/rules.py`."""

import pytest

from pipeline.scene_graphs.building import build_graph, join_graphs
from pipeline.scene_graphs.dependency_trees import Tree
from pipeline.scene_graphs.parser import CaptionParser
from pipeline.scene_graphs.rules import RULES, RULES_BY_NAME
from pipeline.schema import NO_ENTITY
from tests.pipeline.scene_graphs.triples import triples

EXAMPLES = [
    pytest.param(rule.name, caption, expected, id=f"{rule.name}: {caption}")
    for rule in RULES
    for caption, expected in rule.examples
]
COUNTEREXAMPLES = [
    pytest.param(caption, expected, id=f"{rule.name}: {caption}")
    for rule in RULES
    for caption, expected in rule.counterexamples
]


@pytest.mark.parametrize(("name", "caption", "expected"), EXAMPLES)
def test_example_of_rule(
    parser: CaptionParser, name: str, caption: str, expected: tuple[tuple[str, str, str], ...]
) -> None:
    (graph,) = parser.parse([caption])
    assert set(expected) <= triples(graph)
    assert name in {relation.rule for relation in graph.relations}


@pytest.mark.parametrize(("caption", "expected"), COUNTEREXAMPLES)
def test_counterexample_of_rule(
    parser: CaptionParser, caption: str, expected: tuple[tuple[str, str, str], ...]
) -> None:
    (graph,) = parser.parse([caption])
    assert triples(graph) == set(expected)


@pytest.mark.parametrize(
    ("caption", "heads"),
    [
        ("a trash can on a sidewalk", ["trash can", "sidewalk"]),
        ("a drink can be opened", ["drink"]),
        ("the soda can not be seen", ["soda"]),
        ("a can of beans", ["can", "beans"]),
        ("a man with no shirt on a bench", ["man", "bench"]),
    ],
)
def test_entities(parser: CaptionParser, caption: str, heads: list[str]) -> None:
    (graph,) = parser.parse([caption])
    assert [entity.head for entity in graph.entities] == heads


def hand_made(text: str, *words: tuple[str, str, str, int]) -> Tree:
    """A tree from (word, tag, label, head); lemmas are the words."""
    starts, position = [], 0
    for word, _, _, _ in words:
        position = text.index(word, position)
        starts.append(position)
        position += len(word)
    names = [word for word, _, _, _ in words]
    return Tree(
        text=text, words=names, lemmas=[name.lower() for name in names], tags=[tag for _, tag, _, _ in words],
        labels=[label for _, _, label, _ in words], heads=[head for _, _, _, head in words], starts=starts,
    )  # fmt: skip


def test_rules_need_no_spacy() -> None:
    tree = hand_made(
        "A dog on grass",
        ("A", "DT", "det", 1), ("dog", "NN", "ROOT", 1), ("on", "IN", "prep", 1), ("grass", "NN", "pobj", 2),
    )  # fmt: skip
    graph = build_graph(tree, offset=10)
    assert triples(graph) == {("dog", "on", "grass")}
    assert graph.relations[0].start == 16


def test_pronouns_are_no_entities() -> None:
    tree = hand_made(
        "he rides it", ("he", "PRP", "nsubj", 1), ("rides", "VBZ", "ROOT", 1), ("it", "PRP", "dobj", 1)
    )
    assert build_graph(tree).status == NO_ENTITY


def test_a_circle_of_heads_ends() -> None:
    tree = hand_made("on in on", ("on", "IN", "prep", 1), ("in", "IN", "prep", 0), ("on", "NN", "pobj", 1))
    assert build_graph(tree).relations == ()


def test_joined_graphs_keep_their_own_relations() -> None:
    tree = hand_made(
        "dog on grass", ("dog", "NN", "ROOT", 0), ("on", "IN", "prep", 0), ("grass", "NN", "pobj", 1)
    )
    joined = join_graphs([build_graph(tree), build_graph(tree, offset=20)])
    assert [(relation.subject, relation.object) for relation in joined.relations] == [(0, 1), (2, 3)]


def test_the_table_says_what_else_is_known_of_a_rule() -> None:
    assert list(RULES_BY_NAME) == [rule.name for rule in RULES]
    assert {rule.name for rule in RULES if rule.has_object} == {"verb_object", "copula", "relative_object"}
    assert RULES_BY_NAME["passive_agent"].subject_after == "by"
    assert RULES_BY_NAME["possessive"].lemma == "have"
