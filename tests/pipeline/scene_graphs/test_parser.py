import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import schema
from pipeline.errors import UserError
from pipeline.scene_graphs.parser import CaptionParser, split_batches, split_sentences
from pipeline.schema import Attribute, Entity

BUNDLED = CaptionParser()


@pytest.fixture(scope="module")
def reference() -> CaptionParser:
    return CaptionParser(rules="sng")


@pytest.mark.parametrize(
    ("caption", "status"),
    [
        ("", schema.NO_CAPTION),
        (" \t\n", schema.NO_CAPTION),
        ("?!... --", schema.NO_LETTERS),
        ("🐕🐕 2024", schema.NO_LETTERS),
        ("собака на траве", schema.NOT_ENGLISH),
        ("草地上的狗", schema.NOT_ENGLISH),
        ("word " * 10_000, schema.TOO_LONG),
        ("she is here", schema.NO_ENTITY),
        ("a dog on the grass 🐕", schema.OK),
    ],
)
def test_status_says_why_there_is_no_graph(caption: str, status: str) -> None:
    (graph,) = BUNDLED.parse([caption])
    assert graph.status == status
    assert bool(graph.entities) == (status == schema.OK)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=60), max_size=4))
def test_any_strings_give_one_graph_each(captions: list[str]) -> None:
    assert len(list(BUNDLED.parse(captions))) == len(captions)


@pytest.mark.parametrize("rules", ["default", "sng"])
@pytest.mark.parametrize(
    "caption", ["\ud83d dog", "a\x00dog", "dog\u200b on \u202e mat", "\r\n dog \n\n on  mat", "#dog @cat"]
)
def test_odd_characters_are_survived(caption: str, rules: str) -> None:
    parser = BUNDLED if rules == "default" else CaptionParser(rules=rules)
    (graph,) = parser.parse([caption])
    assert graph.status in schema.GRAPH_STATUSES


def test_offsets_are_characters_of_the_caption() -> None:
    caption = "Photo: two  men  in red hats. A t-shirt hangs next to the old stop sign!"
    (graph,) = BUNDLED.parse([caption])
    elements: list[tuple[str, Entity | Attribute]] = [
        *((entity.head, entity) for entity in graph.entities),
        *((a.text, a) for e in graph.entities for a in e.attributes),
    ]
    assert len(elements) >= 6
    for text, element in elements:
        assert caption[element.start : element.end] == text
    for relation in graph.relations:
        assert caption[relation.start : relation.end].startswith(relation.text.split()[0])


def test_order_is_kept_and_duplicates_are_equal() -> None:
    captions = [
        f"a {colour} {thing} on the table" for colour in ("red", "blue") for thing in ("cup", "dog")
    ] * 3
    random.Random(0).shuffle(captions)
    together = list(BUNDLED.parse(captions))
    assert together == [next(BUNDLED.parse([caption])) for caption in captions]


def test_parsing_is_lazy() -> None:
    stream = BUNDLED.parse(iter(["a dog on the grass"] * 2_000))
    assert next(stream).status == schema.OK


def test_batches_are_small_in_captions_and_characters() -> None:
    captions = ["x"] * 3_000 + ["y" * 300_000] * 3
    batches = list(split_batches(captions))
    assert [caption for batch in batches for caption in batch] == captions
    assert [len(batch) for batch in batches] == [2_048, 954, 1]


def test_sentences_are_split_but_abbreviations_are_not() -> None:
    assert [text for _, text in split_sentences("A dog runs. The cat sits!  fun")] == [
        "A dog runs.",
        "The cat sits!",
        "fun",
    ]
    assert split_sentences("mr. bean on st . james street") == [(0, "mr. bean on st . james street")]


def test_sentences_are_joined_with_offsets() -> None:
    caption = "a dog runs on grass. a cat sits on a mat."
    (graph,) = BUNDLED.parse([caption])
    assert [relation.text for relation in graph.relations] == ["runs on", "sits on"]
    assert caption[graph.relations[1].start : graph.relations[1].end] == "sits on"


def test_unknown_parser_or_rules_are_refused(tmp_path: Path) -> None:
    for spec in ("no_such_pipeline", "../nowhere", str(tmp_path)):
        with pytest.raises(UserError, match=r"Parser .*"):
            CaptionParser(spec)
    with pytest.raises(UserError, match="default, sng"):
        CaptionParser(rules="best")


def test_identity_names_the_bytes_of_the_parser() -> None:
    identity = BUNDLED.identity()
    assert identity == CaptionParser().identity()
    assert len(identity["sha256"]) == 64
    assert (identity["name"], identity["rules"]) == ("bundled", "default")


def test_sng_rules_keep_their_faults(reference: CaptionParser) -> None:
    (graph,) = reference.parse(["a cat hiding under a chair"])
    assert [relation.text for relation in graph.relations] == ["under"]
    (graph,) = BUNDLED.parse(["a cat hiding under a chair"])
    assert [relation.text for relation in graph.relations] == ["hiding under"]
