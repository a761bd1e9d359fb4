"""What holds for any input: readers, edits and writers, by hypothesis; and a few hundred damaged files of each run."""

import csv
import io
import json
import tarfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.captions.columns import clean
from pipeline.captions.csv_records import read_records
from pipeline.lexicons.loading import Lexicons, load_lexicons
from pipeline.scene_graphs.parser import CaptionParser
from pipeline.schema import Caption, Edit, Negative, Subcaption
from pipeline.shards import sample_json
from pipeline.storage import TarWriter, own_key, parse_json, read_tar, readable, row_key, split_name, tars
from pipeline.subcaptions.making import SubcaptionOptions, make_subcaption
from tests.fuzzing import fuzz

ANY = st.text(st.characters(exclude_categories=()))  # lone surrogates, too
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | ANY,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY, inner, max_size=3),
    max_leaves=8,
)
quick = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@quick
@given(ANY | st.binary() | st.none() | st.integers())
def test_a_clean_caption_is_one_line_that_can_be_written(value: Any) -> None:
    found = clean(value)
    assert clean(found) == found
    assert found.encode().decode() == found
    assert found == " ".join(found.split())


@quick
@given(ANY | st.integers() | st.floats() | st.binary() | st.lists(st.integers()) | st.none())
def test_a_key_is_a_samples_name(value: Any) -> None:
    key = own_key(value) or row_key(readable(str(value)), "")
    assert split_name(f"{key}.txt") == (key, "txt")


@quick
@given(JSON)
def test_json_that_was_read_can_be_written(value: Any) -> None:
    assert parse_json(json.dumps(value)) == value
    sample = sample_json(row_of("1", "a dog"), json.dumps({"x": value}).encode("ascii"))
    assert json.loads(sample.decode())["x"] == value


def row_of(key: str, caption: str) -> Subcaption:
    return Subcaption(key=key, caption=caption, status="ok", positive="", negatives=(), views=())


@quick
@given(ANY, ANY, ANY, st.lists(ANY, max_size=3), JSON)
def test_a_samples_json_is_what_json_makes_of_it(
    caption: str, positive: str, word: str, views: list[str], value: Any
) -> None:
    edits = (Edit(2, 5, word, caption, "objects", "obj:x"), Edit(0, 1, "a", "an", "", ""))
    negatives = (Negative(word, "object", edits), Negative(caption, "relation", edits[:1]))
    row = Subcaption(
        key=word, caption=caption, status="ok", positive=positive, negatives=negatives, views=tuple(views)
    )
    fields = {
        "x": value,
        "key": word,
        "caption": caption,
        "subcaption_status": "ok",
        "positive": positive,
        "negatives": [
            each._asdict() | {"edits": [edit._asdict() for edit in each.edits]} for each in negatives
        ],
        "views": views,
        "pos_0": positive or caption,
        "neg_0": word,
        "neg_1": caption,
    }
    try:
        expected = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        expected = json.dumps(fields, separators=(",", ":")).encode()
    assert sample_json(row, json.dumps({"x": value}).encode("ascii")) == expected


@quick
@given(
    st.text(st.characters(exclude_categories=("Cs", "Co")), min_size=1, max_size=130),
    st.binary(max_size=1500),
)
def test_a_tar_is_what_tarfile_writes(key: str, data: bytes) -> None:
    written, expected = io.BytesIO(), io.BytesIO()
    tar = TarWriter(written)
    tar.write(key, {"txt": data, "json": b"{}"})
    tar.close()
    with tarfile.open(fileobj=expected, mode="w", format=tarfile.PAX_FORMAT) as reference:
        for extension, content in (("json", b"{}"), ("txt", data)):
            info = tarfile.TarInfo(f"{key}.{extension}")
            info.size, info.mode = len(content), 0o644
            reference.addfile(info, io.BytesIO(content))
    assert written.getvalue() == expected.getvalue()


@quick
@given(
    st.text(max_size=120),
    st.integers(0, 2**34),
    st.sampled_from("0567gx\0"),
    st.integers(0, 511),
    st.booleans(),
)
def test_a_header_is_read_as_tarfile_reads_it(
    name: str, size: int, kind: str, place: int, damaged: bool
) -> None:
    info = tarfile.TarInfo("x")
    info.name, info.size, info.type = name.encode("utf-8", "replace").decode(), size, kind.encode()
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")[-512:])
    if damaged:
        block[place] ^= 1
    found = [_read_header(each, bytes(block)) for each in (tars._Header, tarfile.TarInfo)]
    assert found[0] == found[1]


def _read_header(kind: type[tarfile.TarInfo], block: bytes) -> object:
    try:
        header = kind.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        return type(error)
    return header.name, header.size, header.type


@quick
@given(st.binary(max_size=200))
def test_any_bytes_of_a_samples_json_are_survived(data: bytes) -> None:
    assert json.loads(sample_json(row_of("1", "a dog"), data).decode())["key"] == "1"


LINE = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=12)


@quick
@given(st.lists(st.lists(LINE, min_size=2, max_size=2), min_size=1, max_size=6))
def test_csv_that_was_written_is_read(rows: list[list[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows([["a", "b"], *rows])
    faults: list[str] = []
    found = list(
        read_records(iter(text.getvalue().splitlines(keepends=True)), form={}, name="x", faults=faults)
    )
    if not faults:  # splitlines knows more ends of lines than csv
        assert found == [["a", "b"], *rows]
    assert found[0] == ["a", "b"]


@quick
@given(st.text(max_size=300))
def test_any_csv_gives_records_of_one_length(text: str) -> None:
    found = list(read_records(iter(io.StringIO(text, newline="")), form={}, name="x", faults=[]))
    assert len({len(record) for record in found}) <= 1


NAME = st.text(st.characters(categories=("L", "N")), min_size=1, max_size=100)


@settings(quick, max_examples=25)
@given(
    st.dictionaries(
        NAME, st.dictionaries(st.sampled_from(["txt", "json", "png"]), st.binary(max_size=600), min_size=1)
    )
)
def test_a_tar_gives_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, samples: dict[str, Any]
) -> None:
    path = tmp_path_factory.mktemp("tar") / "0.tar"
    with path.open("wb") as file:
        tar = TarWriter(file)
        for key, members in samples.items():
            tar.write(key, members)
        tar.close()
    faults: list[str] = []
    assert {sample.key: sample.members for sample in read_tar(path, wanted=None, faults=faults)} == samples
    assert faults == []


@cache
def tools() -> tuple[CaptionParser, Lexicons]:
    return CaptionParser("bundled"), load_lexicons()


WORDS = st.sampled_from(
    (
        *(
            "a",
            "the",
            "two",
            "black",
            "old",
            "wooden",
            "dog",
            "cats",
            "men",
            "ball",
            "chasing",
            "holding",
            "on",
        ),
        *("behind", ",", "of", "and", "é", "🐶", "it's"),
    )
)


@settings(quick, max_examples=40)
@given(st.lists(WORDS, min_size=1, max_size=14), st.integers(0, 9))
def test_edits_lead_from_the_positive_to_the_negative(words: list[str], seed: int) -> None:
    parser, lexicons = tools()
    caption = Caption(key="k", caption=" ".join(words), image=None, source="s")
    (graph,) = parser.parse([caption.caption])
    made = make_subcaption(caption, graph, lexicons, SubcaptionOptions(seed=seed))
    assert len({negative.text for negative in made.negatives} | {made.positive}) == len(made.negatives) + 1
    for negative in made.negatives:
        text = made.positive
        for edit in sorted(negative.edits, reverse=True):
            assert text[edit.start : edit.end] == edit.original
            text = text[: edit.start] + edit.replacement + text[edit.end :]
        assert text == negative.text


def test_damaged_inputs_crash_nothing_and_lose_no_row(tmp_path: Path) -> None:
    counts, found = fuzz(120, seed=1)
    assert found == []
    assert counts["rows"] > 100
