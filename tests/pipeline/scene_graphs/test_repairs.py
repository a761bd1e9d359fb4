"""What parsers trained on news get wrong in captions, mended: the sentences that the repairs are for."""

import pytest

from pipeline.scene_graphs.parser import CaptionParser
from tests.pipeline.scene_graphs.triples import triples


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A toilet next to sink in a bathroom", ("toilet", "next to", "sink")),
        ("A woman posing for the camera standing on skis.", ("woman", "standing on", "skis")),
        ("A seagull standing on the sand near the water.", ("seagull", "standing on", "sand")),
        ("a smiling bride in a bedroom putting on her earrings", ("bride", "putting on", "earrings")),
        ("a male skateboarder in a black jacket doing a trick", ("skateboarder", "doing", "trick")),
        ("A man at a table standing near a wall", ("man", "standing near", "wall")),
        ("musical artist performs live on stage", ("artist", "performs on", "stage")),
        ("a yellow bus travels through snow", ("bus", "travels through", "snow")),
        ("A green boat floating on top of a body of water.", ("boat", "floating on top of", "water")),
    ],
)
def test_a_relation_is_read(parser: CaptionParser, caption: str, expected: tuple[str, str, str]) -> None:
    (graph,) = parser.parse([caption])
    assert expected in triples(graph)


@pytest.mark.parametrize(
    ("caption", "heads"),
    [
        ("string bean leaves on a plate", ["string bean leaves", "plate"]),
        ("Two brown teddy bears sitting side by side.", ["teddy bears"]),
        ("with no sidewalks or pathways on the rough airfield", ["airfield"]),
        ("still life with a banana", ["still life", "banana"]),
        ("A stop sign by a polar bear", ["stop sign", "polar bear"]),
        ("a trash can next to a sofa", ["trash can", "sofa"]),
    ],
)
def test_things_are_read(parser: CaptionParser, caption: str, heads: list[str]) -> None:
    (graph,) = parser.parse([caption])
    assert [each.head for each in graph.entities] == heads
