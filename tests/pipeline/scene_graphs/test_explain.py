from xml.etree import ElementTree

import pytest

from pipeline.scene_graphs.explain import arc_levels, explain_svg, explain_text
from pipeline.scene_graphs.parser import CaptionParser


def test_text_shows_tree_graph_and_rule(parser: CaptionParser) -> None:
    text = explain_text("a black dog sitting on a chair", parser)
    assert "└─ chair  NN pobj" in text
    assert "dog (black)" in text
    assert "dog --sitting on--> chair  preposition" in text


@pytest.mark.parametrize(
    "caption", ["", "!!!", "собака", "he is", "a < b & dog\x00 \u202e on mat", "a dog. a cat runs on grass."]
)
def test_any_caption_is_explained(parser: CaptionParser, caption: str) -> None:
    assert explain_text(caption, parser)
    ElementTree.fromstring(explain_svg(caption, parser))


def test_drawing_has_each_word_and_arc(parser: CaptionParser) -> None:
    drawing = explain_svg("a man riding a horse", parser)
    assert all(f">{word}</text>" in drawing for word in ("man", "riding", "horse", "dobj"))
    assert "man --riding--&gt; horse" in drawing


def test_longer_arcs_rise_above_those_inside() -> None:
    levels = arc_levels([(0, 1), (2, 1), (3, 0)])
    assert levels[3] > levels[0] >= 1
