"""300 plausible negatives read one by one: false of what the caption shows, well formed, of some photograph?

The captions stand beside the judgements, so what is judged is what the code makes of them today: a negative that is no
longer made has no judgement, and counts as bad until somebody reads what is made in its stead.

Judged on the words alone, by one reader. Not "false": what may well be true of the same image ("monkeys eating
bananas" -> "monkeys holding bananas"). Not "well_formed": no noun phrase of English, whether the
positive was one or not. "plausible": could be the caption of some photograph. The captions are of COCO, Conceptual
Captions and Flickr30k; `key` is what their negatives were drawn with.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.lexicons.loading import load_lexicons
from pipeline.scene_graphs.parser import CaptionParser
from pipeline.schema import Caption, Subcaption
from pipeline.subcaptions.making import SubcaptionOptions, make_subcaption
from tests.places import ROOT

JUDGED: list[dict[str, Any]] = json.loads(
    Path(__file__).with_name("judged_negatives.json").read_text("utf-8")
)


@pytest.fixture(scope="module")
def made() -> list[Subcaption]:
    """What today's parser, rules and lexicons make of the judged captions."""
    options, lexicons = SubcaptionOptions(num_views=0, num_negatives=3, draw="plausible"), load_lexicons()
    captions = [Caption(key=row["key"], caption=row["caption"], image=None, source="") for row in JUDGED]
    graphs = CaptionParser().parse(caption.caption for caption in captions)
    return [
        make_subcaption(caption, graph, lexicons, options)
        for caption, graph in zip(captions, graphs, strict=True)
    ]


def still_made(made: list[Subcaption]) -> list[dict[str, Any]]:
    """The judged rows whose negative is still made of the same positive."""
    return [
        row
        for row, subcaption in zip(JUDGED, made, strict=True)
        if row["positive"] == subcaption.positive
        and any((row["negative"], row["kind"]) == (each.text, each.kind) for each in subcaption.negatives)
    ]


def test_negatives_that_todays_code_makes_are_false_and_well_formed(made: list[Subcaption]) -> None:
    judged = still_made(made)
    gone = [(row["positive"], row["negative"]) for row in JUDGED if row not in judged]
    unread = f"read what is made in the stead of these, and judge it: {gone}"
    assert sum(row["false"] for row in judged) >= 0.93 * len(JUDGED), unread
    assert sum(row["well_formed"] for row in judged) >= 0.96 * len(JUDGED), unread
    assert sum(row["plausible"] for row in judged) >= 0.51 * len(JUDGED), unread


def test_every_kind_was_judged() -> None:
    assert len(JUDGED) == len({row["key"] for row in JUDGED}) == 300
    assert all(
        sum(row["kind"] == kind for row in JUDGED) >= 30 for kind in ("attribute", "relation", "object")
    )


def test_every_judged_caption_still_gives_negatives(made: list[Subcaption]) -> None:
    assert [each.caption for each in made if not each.negatives or each.status != "ok"] == []


def test_the_example_of_the_readme_is_what_is_made() -> None:
    """Its key is that of the caption in a CSV of nothing else."""
    rows = [
        line.split(" | ")
        for line in (ROOT / "README.md").read_text("utf-8").split("\n")
        if line.startswith("| ")
    ]
    shown = {row[0].removeprefix("| "): [cell.strip(" |") for cell in row[1:]] for row in rows}
    caption = Caption(
        key="7f15750659628d7f494da2aa333e75bd", caption=shown["caption"][0], image=None, source=""
    )
    (graph,) = CaptionParser().parse([caption.caption])
    even = SubcaptionOptions(num_views=0, num_negatives=10)
    for place, options in enumerate((even, replace(even, draw="plausible"))):
        made = make_subcaption(caption, graph, load_lexicons(), options)
        assert made.positive == shown["positive sub-caption"][0]
        for name, kind in (("attributes", "attribute"), ("relation", "relation"), ("objects", "object")):
            told = shown[f"negative, {name}"][place]
            assert not told or (kind, told) in {(each.kind, each.text) for each in made.negatives}, told
