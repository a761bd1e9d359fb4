"""`--rules sng` against SceneGraphParser itself, loaded with the same spaCy pipeline and given the same captions."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.caption_parser.corpus import read_cc3m, read_factual
from pipeline.scene_graphs.identity import BUNDLED_FOLDER
from pipeline.scene_graphs.parser import CaptionParser, caption_status
from pipeline.schema import OK, SceneGraph
from tests.places import REAL_DATA

NUM_CAPTIONS = 300
CAPTIONS = [
    "two men and a woman sitting next to a red car in front of a house",
    "A piano is played by a woman in the room.",
    "he walks his dog on the side of the road",
    "a man looking up at the sky on a cold day",
    "the woman is a pianist. the dogs are black and tired",
    "a group of people watch the man who is riding a big brown horse near trees",
    "nothing here", "3 dogs , 2 cats", "a toilet next to sink", "",
]  # fmt: skip


def expected_graph(found: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """SceneGraphParser's graph: entities with their modifiers but determiners, and relations with their lemma."""
    entities = [
        (each["head"], each["lemma_head"].lower(),
         sorted(one["span"] for one in each["modifiers"] if one["dep"] != "det"))
        for each in found["entities"]
    ]  # fmt: skip
    relations = [
        (each["subject"], each["relation"], each["lemma_relation"].lower(), each["object"])
        for each in found["relations"]
    ]
    return entities, relations


def own_graph(graph: SceneGraph) -> tuple[list[Any], list[Any]]:
    entities = [
        (each.head, each.lemma, sorted(attribute.text for attribute in each.attributes))
        for each in graph.entities
    ]
    relations = [(each.subject, each.text, each.lemma, each.object) for each in graph.relations]
    return entities, relations


def differences(captions: Sequence[str], pipeline: Path) -> list[tuple[str, Any, Any]]:
    """The captions whose graphs differ, with both."""
    import sng_parser  # noqa: TID251 - what our use of it is compared with

    reference = sng_parser.Parser("spacy", model=str(pipeline))
    found = []
    for caption, graph in zip(
        captions, CaptionParser(str(pipeline), rules="sng").parse(captions), strict=True
    ):
        if caption_status(caption) == OK:
            own, expected = own_graph(graph), expected_graph(reference.parse(caption))
            if own != expected:
                found.append((caption, own, expected))
    return found


def test_graphs_are_scenegraphparsers_own() -> None:
    assert differences(CAPTIONS, BUNDLED_FOLDER) == []


@pytest.mark.data
@pytest.mark.skipif(not REAL_DATA.exists(), reason="the real data is not beside the project")
def test_graphs_of_real_captions_are_scenegraphparsers_own() -> None:
    captions = [each.text for read in (read_cc3m, read_factual) for each in read(REAL_DATA)]
    chosen = random.Random(0).sample(captions, NUM_CAPTIONS)
    assert differences(chosen, REAL_DATA / "en_core_web_sm") == []
    assert differences(chosen, BUNDLED_FOLDER) == []
