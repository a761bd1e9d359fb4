"""`docs/format.md` says what the code declares and what a small run writes."""

import json
import re
import tarfile
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import schema, tables
from pipeline.captions import images
from pipeline.captions.columns import CAPTION_NAMES, IMAGE_NAMES, KEY_NAMES
from pipeline.captions.delimited import SEPARATORS
from pipeline.captions.places import FORMATS, SUFFIXES
from pipeline.captions.readers import InputOptions
from pipeline.lexicons.loading import BANDS, COLUMNS, LEXICONS, LINKS
from pipeline.shards import OWN_FIELDS
from pipeline.stages import PipelineOptions, run_stages
from tests.pipeline.captions.test_found_formats import OWNED
from tests.places import ROOT
from tests.small_inputs import image_bytes, write_tar
from trainer.attacks import KINDS
from trainer.evals import loose_sets
from trainer.evals.retrieval import Retrieval
from trainer.manifests import FIELDS
from trainer.scores import ClassScore, Evaluation, Share

DOCUMENT = (ROOT / "docs" / "format.md").read_text("utf-8")
CAPTION = b"a black dog chasing a red ball on a beach"
TYPES = {pa.string(): "string", pa.int32(): "int32"}
Row = tuple[list[str], list[str]]
"""The names in a table row's first cell, and its other cells."""


def section(title: str) -> str:
    """The document's text under this heading."""
    return DOCUMENT.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def table(title: str, header: str) -> list[Row]:
    """The rows of the section's table whose first column is called `header`."""
    text = section(title).split(f"\n| {header} |", 1)[1].split("\n\n", 1)[0]
    rows = [line.strip("| ").split(" | ") for line in text.splitlines()[2:]]
    return [(re.findall(r"`([^`]+)`", cells[0]) or cells[:1], cells[1:]) for cells in rows]


def names(title: str, header: str) -> list[str]:
    return [name for found, _ in table(title, header) for name in found]


def described(title: str) -> list[tuple[str, str]]:
    """Each column of the section with its type, as the document has them."""
    return [(name, cells[0]) for found, cells in table(title, "column") for name in found]


def flattened(columns: Any, *, before: str = "") -> list[tuple[str, str]]:
    """Each column of an Arrow schema with its type, in the document's words; a struct's fields follow it."""
    found = []
    for field in columns:
        kind, inner = field.type, ()
        if pa.types.is_list(kind):
            inner = kind.value_type if pa.types.is_struct(kind.value_type) else ()
            word = f"list of {'struct' if inner else TYPES[kind.value_type]}"
        else:
            word = TYPES[kind]
        found.append((before + field.name, word + (", may be null" if field.nullable else "")))
        found += flattened(inner, before=f"{before}{field.name}.")
    return found


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `augment-captions` writes of a tar with a good image, a broken one, none, and no caption."""
    folder = tmp_path_factory.mktemp("format")
    members = {
        "a.jpg": image_bytes(),
        "a.txt": CAPTION,
        "a.json": b'{"url": "http://x", "caption": "other", "pos_9": "stale"}',
        "a.cls": b"3",
        "a.npy": b"never copied",
        "b.jpg": b"no image",
        "b.txt": b"running quickly",
        "c.txt": b"123",
        "d.png": image_bytes(),
    }
    file = write_tar(folder / "input.tar", members)
    run_stages(PipelineOptions(source=InputOptions(input=str(file)), out=folder / "out"))
    return folder / "out"


def test_formats_and_columns_of_captions() -> None:
    title = "Captions that are read"
    assert [found[0] for found, _ in table(title, "format")] == list(FORMATS)
    of = {found[0]: re.findall(r"`(\w+)`", cells[0]) for found, cells in table(title, "column")}
    assert {name: tuple(words) for name, words in of.items()} == {
        "caption": CAPTION_NAMES,
        "image": IMAGE_NAMES,
        "key": KEY_NAMES,
    }
    told = {suffix for suffix in SUFFIXES if f"`{suffix}`" in section(title)}
    assert told == set(SUFFIXES)
    assert all(word in section(title) for word in SEPARATORS.values())


@pytest.mark.parametrize(
    ("folder", "declared"),
    [
        ("captions", tables.CAPTIONS),
        ("scene_graphs", tables.SCENE_GRAPHS),
        ("subcaptions", tables.SUBCAPTIONS),
        ("shards", tables.SAMPLES),
    ],
)
def test_columns_types_and_nulls(out: Path, folder: str, declared: pa.Schema) -> None:
    written = pq.ParquetFile(out / folder / "00000.parquet").schema_arrow
    assert flattened(written) == flattened(declared) == described(f"{folder}/")
    assert f"`SCHEMA_VERSION` is {schema.SCHEMA_VERSION};" in DOCUMENT
    assert written.metadata[b"schema_version"] == str(schema.SCHEMA_VERSION).encode()


def test_status_words(out: Path) -> None:
    assert names("Status", "status") == [*schema.GRAPH_STATUSES, schema.NO_NEGATIVE]
    assert f"more than {schema.MAX_CAPTION_CHARACTERS:,} characters" in section("Status")
    words = {value for name, value in vars(images).items() if name.startswith("IMAGE_")}
    assert set(names("shards/", "image status")) == {word for word in words if isinstance(word, str)}
    found = pq.read_table(out / "shards/00000.parquet").to_pylist()
    assert [(row["status"], row["image_status"]) for row in found] == [
        ("ok", "ok"),
        ("no_entity", "broken"),
        ("no_letters", "none"),
        ("no_caption", "ok"),
    ]


def test_kinds_of_negatives(out: Path) -> None:
    (row, *_) = pq.read_table(out / "subcaptions/00000.parquet").to_pylist()
    kinds = re.search(r"\| `negatives.text`, `negatives.kind` \| string \| (.*):", DOCUMENT)
    assert kinds is not None
    assert {each["kind"] for each in row["negatives"]} == set(re.findall(r"`(\w+)`", kinds[1]))


def test_members_of_the_shards(out: Path) -> None:
    with tarfile.open(out / "shards/00000.tar") as tar:
        members = [(member.name, member.mtime, member.uname) for member in tar]
    expected = ["a.cls", "a.json", "a.png", "a.txt", "b.json", "b.txt", "c.json", "c.txt", "d.json", "d.png"]
    assert members == [(name, 0, "") for name in expected]
    extensions = set(images.EXTENSION_OF_FORMAT.values())
    shown = {name.removeprefix("key.") for name in names("shards/", "member")} - {"others"}
    assert shown == extensions | {"txt", "json"}


def test_fields_of_a_sample(out: Path) -> None:
    with tarfile.open(out / "shards/00000.tar") as tar:
        file = tar.extractfile("a.json")
        assert file is not None
        content = json.load(file)
    ours = re.findall(r"`(\w+)`", section("shards/").split("\nOurs: ")[1].split(" as in ")[0])
    assert sorted(ours) == sorted(OWN_FIELDS)
    flat = [name for name in content if name.startswith(("pos_", "neg_"))]
    assert flat == ["pos_0", *(f"neg_{n}" for n in range(10))]
    assert set(content) == {"url", *ours, *flat}
    assert content["caption"].encode() == CAPTION


@pytest.mark.parametrize(("words", "cells"), table("JSON beside the data", "file"))
def test_fields_of_the_json_files(out: Path, words: list[str], cells: list[str]) -> None:
    value = json.loads((out / words[0]).read_text("utf-8"))
    if words[0].endswith("sizes.json"):
        assert value == {"00000.tar": 4}
        return
    for part in words[1:]:
        name = part.rstrip("[]{}")
        value = (
            value[name] if part == name else next(iter(value[name] if "[" in part else value[name].values()))
        )
    assert sorted(value) == sorted(re.findall(r"`(@?\w+)`", cells[0]))


def test_the_folder_is_the_one_drawn(out: Path) -> None:
    drawing = section("An output folder").split("```")[1]
    shown = set(re.findall(r"DIR/(\S+)", drawing))
    assert shown == {f"{path.name}/" if path.is_dir() else path.name for path in out.iterdir()}
    for line in drawing.strip().splitlines():
        folder, *files = re.split(r"\s{2,}", line)[0].split()[:1] + re.findall(r"\b[\w]+\.\w+", line)
        assert all(
            (out / folder.removeprefix("DIR/") / name).is_file() for name in files if folder.endswith("/")
        )


def test_columns_and_words_of_a_lexicon() -> None:
    rows = table("A lexicon folder", "column")
    columns = {name for found, _ in rows for name in found}
    assert columns == {name for lexicon in LEXICONS for name in COLUMNS[lexicon]}
    of = {name: re.findall(r"`([\w+]+)`", cells[0]) for found, cells in rows for name in found}
    counts = json.loads((ROOT / "lexicons/manifest.json").read_text("utf-8"))["counts"].values()
    assert set(of["kind"]) == {kind for count in counts for kind in count["kind"]}
    assert tuple(of["band"]) == BANDS
    assert {source for count in counts for source in count["source"]} <= set(of["source"])
    assert set(LINKS) <= set(re.findall(r"`(\w+)`", section("A lexicon folder")))


def test_kinds_of_triggers() -> None:
    assert sorted(found[0] for found, _ in table("A trigger file", "kind")) == sorted(KINDS)


def test_fields_of_a_data_manifest() -> None:
    assert set(names("A data manifest", "field")) == set(FIELDS)


def test_layouts_of_labelled_images() -> None:
    title = "A data manifest"
    assert sorted(found[0] for found, _ in table(title, "layout")) == sorted(get_args(loose_sets.Layout))
    of_tables = section(title).split("Columns of tables: ")[1].split(".\n")[0]
    told = re.findall(r"`(\w+)`", of_tables)
    assert told == [*loose_sets.IMAGE_COLUMNS, *loose_sets.LABEL_COLUMNS]
    assert all(f"`{name}`" in section(title) for name in (*loose_sets.CLASS_FILES, loose_sets.TABLE))


@pytest.mark.parametrize("record", [Share, ClassScore, Evaluation, Retrieval])
def test_fields_of_the_evaluations(record: type) -> None:
    told = re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", section("What evaluations write"))))
    assert {field.name for field in fields(record)} <= set(told)


@pytest.mark.parametrize(
    ("what", "least"),
    [("checkpoint read", 10), ("checkpoint written", 4), ("captions read", 12), ("labelled images read", 4)],
)
def test_each_format_that_is_counted_is_held_by_a_test(what: str, least: int) -> None:
    rows = [
        cells
        for found, cells in table("What is read and written, and the test that holds it", "what")
        if found == [what]
    ]
    assert len({cells[1] for cells in rows}) == len(rows) >= least
    for _, cell in rows:
        path, _, name = cell.strip("`").partition("::")
        function, _, case = name.removesuffix("]").partition("[")
        text = (ROOT / path).read_text("utf-8")
        assert f"def {function}(" in text, cell
        assert case in text, cell


def test_the_captions_that_are_counted_are_those_of_the_test() -> None:
    told = re.findall(r"of_what_people_own\[(.*?)\]", DOCUMENT)
    assert sorted(told) == sorted(OWNED)
