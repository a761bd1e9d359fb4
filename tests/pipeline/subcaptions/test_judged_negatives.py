"""300 negatives read one by one: is each false of what its caption shows, and is it well formed?

Captions are not kept here: `row` counts those of `benchmarks/subcaptions.py`'s `read_captions(REAL_DATA, 20_000)`, and
`caption_sha256` says that it is the same one. Judged on the words alone, by one reader. Not "false": what may well
be true of the same image ("relaxing at home" -> "nibbling at home"). Drawn and read once, after everything that
decides a negative was settled; nothing was tuned on them. Not "well_formed": no noun phrase of English, whether the
positive was one or not.
"""

import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.lexicons.loading import load_lexicons
from pipeline.scene_graphs.parser import CaptionParser
from pipeline.schema import Caption
from pipeline.subcaptions.making import SubcaptionOptions, make_subcaption
from tests.places import REAL_DATA, ROOT

JUDGED = Path(__file__).with_name("judged_negatives.json")
BENCHMARK = ROOT / "benchmarks" / "subcaptions.py"


@pytest.fixture(scope="module")
def judged() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(JUDGED.read_text())
    return rows


def test_shares_judged_good(judged: list[dict[str, Any]]) -> None:
    assert len(judged) == 300
    assert sum(row["false"] for row in judged) >= 0.97 * len(judged)
    assert sum(row["well_formed"] for row in judged) >= 0.95 * len(judged)


def test_every_kind_was_judged_with_terms_that_exist(judged: list[dict[str, Any]]) -> None:
    lexicons = load_lexicons()
    ids = {
        kind: {term.term_id for term in lexicon.terms}
        for kind, lexicon in (
            ("object", lexicons.objects),
            ("attribute", lexicons.attributes),
            ("relation", lexicons.relations),
        )
    }
    for row in judged:
        assert all(term_id in ids[row["kind"]] for _, _, term_id in row["edits"])
    assert all(sum(row["kind"] == kind for row in judged) >= 40 for kind in ids)


@pytest.fixture(scope="module")
def captions(judged: list[dict[str, Any]]) -> list[Caption]:
    """The judged rows' captions."""
    if not (REAL_DATA / "cc3m").is_dir():
        pytest.skip("the real captions are not beside the project")
    spec = importlib.util.spec_from_file_location("subcaptions_benchmark", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    found = benchmark.read_captions(REAL_DATA, 20_000)
    return [found[row["row"]] for row in judged]


@pytest.mark.data
def test_captions_are_those_that_were_judged(judged: list[dict[str, Any]], captions: list[Caption]) -> None:
    for row, caption in zip(judged, captions, strict=True):
        assert hashlib.sha256(caption.caption.encode()).hexdigest() == row["caption_sha256"]


@pytest.mark.data
def test_parser_rules_and_lexicons_still_make_what_was_judged(
    judged: list[dict[str, Any]], captions: list[Caption]
) -> None:
    options, lexicons = SubcaptionOptions(num_views=0, num_negatives=3), load_lexicons()
    graphs = CaptionParser().parse(caption.caption for caption in captions)
    gone = []
    for row, caption, graph in zip(judged, captions, graphs, strict=True):
        negatives = make_subcaption(caption, graph, lexicons, options).negatives
        made = [[[e.start, e.end, e.term_id] for e in negative.edits] for negative in negatives]
        if row["edits"] not in made:
            gone.append(row["row"])
    assert gone == [], "read what is made in their stead, and judge it"
