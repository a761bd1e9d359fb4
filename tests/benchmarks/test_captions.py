"""The pipeline's benchmarks on a few captions; the bundled parser stands for its teacher, so the two agree."""

import pytest

from benchmarks import augment_captions, caption_parser, scene_graphs
from pipeline.caption_parser.corpus import SourceCaption
from pipeline.scene_graphs.identity import BUNDLED, BUNDLED_FOLDER
from pipeline.scene_graphs.parser import CaptionParser
from pipeline.scene_graphs.reference_rules import load_reference

TEACHER = str(BUNDLED_FOLDER)
CAPTIONS = (
    "a black dog chasing a red ball",
    "a man in a hat sits on a bench",
    "two cats",
    "sunset over the sea",
)


def test_augment_captions() -> None:
    load_reference()  # reads SceneGraphParser's word lists, whose own reader leaves the files open
    lines = [f"{caption}\thttp://x/{n}.jpg" for n, caption in enumerate(CAPTIONS)]
    found = augment_captions.measure(lines, model=TEACHER, num_rounds=1)
    assert found["ratio"] == [found["ours"][0] / found["reference"][0]]
    assert found["ours"][0] > 0


def test_caption_parser_speed() -> None:
    found = caption_parser.measure_speed(CAPTIONS, TEACHER, parser=BUNDLED, num_rounds=1, num_one_at_a_time=2)
    assert len(found) == 5
    assert caption_parser.OURS in found
    assert all(seconds > 0 for seconds in found.values())


def test_caption_parser_agreement() -> None:
    captions = [SourceCaption(source="coco", row="1", part="test", text=text) for text in CAPTIONS]
    trained_on = SourceCaption(source="coco", row="2", part="train", text="seen in training")
    found = caption_parser.measure_agreement(
        [*captions, trained_on], CaptionParser(TEACHER), CaptionParser(BUNDLED)
    )
    same = {"tag": 1, "head": 1, "head and label": 1, "noun chunk F1": 1, "triple F1": 1}
    assert found == {"coco": {"captions": len(CAPTIONS), **same}}


@pytest.mark.slow
def test_caption_parser_memory() -> None:
    assert 20 < caption_parser.measure_memory(10, 1, BUNDLED) < 2_000


def test_scene_graphs() -> None:
    gold = [("a black dog chasing a red ball", "( dog , is , black ) , ( dog , chase , red ball )")]
    found = scene_graphs.measure(CaptionParser(), gold=gold, captions={"all": CAPTIONS})
    assert found["tuple precision"] == pytest.approx(1 / 3)  # dog black; not: ball red, dog chases ball
    assert found["tuple recall"] == pytest.approx(1 / 2)
    assert found["attribute F1"] == pytest.approx(2 / 3)
    assert found["relation F1"] == 0
    assert found["CC3M captions with a relation, all"] == 3 / 4


def test_scene_graphs_compares_two_parsers_with_two_sets_of_rules() -> None:
    parsers = scene_graphs.systems(TEACHER)
    assert len(parsers) == 4
    assert all(len(list(parser.parse(CAPTIONS))) == len(CAPTIONS) for parser in parsers.values())
    assert scene_graphs.JUDGED.is_file()
