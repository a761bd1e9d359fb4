"""The benchmarks' scorer, and the hand-checked captions as a test set: precision and coverage may not fall."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from pipeline.schema import Attribute, Entity, Relation, SceneGraph
from tests.places import REAL_DATA, ROOT

JUDGED = Path(__file__).parent / "judged_relations.json"
NEEDS_DATA = pytest.mark.skipif(not REAL_DATA.exists(), reason="the real data is not beside the project")


def load_benchmark(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


scores = load_benchmark("graph_scores")
judged_captions = load_benchmark("judged_captions")


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


@pytest.mark.data
@NEEDS_DATA
def test_hand_checked_captions() -> None:
    captions = judged_captions.read_judged(JUDGED, data=REAL_DATA)
    found = judged_captions.judge(captions, judged_captions.CaptionParser())
    assert found.num_captions == 200
    assert found.num_with_relation >= 0.85 * found.num_captions
    assert found.precision >= 0.83, str(found)
    assert found.num_unjudged <= 10, str(found)
