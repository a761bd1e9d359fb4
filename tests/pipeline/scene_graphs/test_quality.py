"""The benchmarks' scorer, and the hand-checked captions as a test set: precision and coverage may not fall."""

from pathlib import Path

import pytest

from benchmarks import graph_scores as scores
from benchmarks.judged_captions import judge, read_judged
from pipeline.scene_graphs.parser import CaptionParser
from pipeline.schema import Attribute, Entity, Relation, SceneGraph

JUDGED = Path(__file__).parent / "judged_relations.json"


def test_gold_tuples_are_normalised() -> None:
    gold = scores.gold_tuples(
        "( two dogs , standing next to , the red cars ) , ( cars , is , red ) , ( tree )"
    )
    assert gold == {("2 dog", "stand next to", "red car"), ("car", "is", "red"), ("tree",)}
    assert scores.gold_tuples("") == set()


@pytest.mark.parametrize(
    ("written", "normal"),
    [("is standing on", "stand on"), ("'s", "have"), ("has", "have"), ("in front of", "in front of"),
     ("riding", "ride"), ("to catch", "catch"), ("on the side of", "on side of"), ("left of", "left of")],
)  # fmt: skip
def test_relation_is_lemmatised(written: str, normal: str) -> None:
    assert scores.relation(written) == normal


def test_graph_and_gold_of_one_caption_are_equal() -> None:
    red = Attribute(text="red", lemma="red", tag="JJ", start=0, end=3)
    entities = (
        Entity(head="hats", lemma="hat", tag="NNS", start=4, end=8, attributes=(red,)),
        Entity(head="table", lemma="table", tag="NN", start=12, end=17),
    )
    lying = Relation(
        subject=0, object=1, text="lying on", lemma="lie on", tag="VBG", start=9, end=11, rule="preposition"
    )
    found = scores.graph_tuples(SceneGraph(entities=entities, relations=(lying,)))
    assert found == scores.gold_tuples("( hat , lie on , table ) , ( hat , is , red )")


def test_score_is_micro_averaged() -> None:
    total = scores.score([({("a",), ("b",)}, {("a",)}), ({("c",)}, {("c",), ("d",), ("e",)})])
    assert (total.precision, total.recall, total.f1) == (2 / 4, 2 / 3, 4 / 7)


def test_hand_checked_captions() -> None:
    found = judge(read_judged(JUDGED), CaptionParser())
    assert found.num_captions == 200
    assert found.num_with_relation >= 0.85 * found.num_captions
    assert found.precision >= 0.83, str(found)
    assert found.num_unjudged <= 10, str(found)
