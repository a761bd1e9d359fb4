"""The Arrow schemas are the records of schema.py, and tables give the records back."""

import dataclasses
from typing import Any

import pyarrow as pa
import pytest

from pipeline import schema, tables

GRAPH = schema.SceneGraph(
    entities=(
        schema.Entity(
            head="dog",
            lemma="dog",
            tag="NN",
            start=8,
            end=11,
            attributes=(schema.Attribute(text="black", lemma="black", tag="JJ", start=2, end=7),),
        ),
        schema.Entity(head="ball", lemma="ball", tag="NN", start=22, end=26),
    ),
    relations=(
        schema.Relation(
            subject=0,
            object=1,
            text="chasing",
            lemma="chase",
            tag="VBG",
            start=12,
            end=19,
            rule="verb-object",
        ),
    ),
)
CAPTION = schema.Caption(key="1", caption="a black dog chasing a ball", image=None, source="a.tsv")


@pytest.mark.parametrize(
    ("names", "record"),
    [
        (tables.CAPTIONS.names, schema.Caption),
        (["key", "caption", *schema.SceneGraph.__dataclass_fields__], None),
        (tables.SUBCAPTIONS.names, schema.Subcaption),
        ([field.name for field in tables.ENTITY], schema.Entity),
        ([field.name for field in tables.ATTRIBUTE], schema.Attribute),
        ([field.name for field in tables.RELATION], schema.Relation),
        ([field.name for field in tables.NEGATIVE], schema.Negative),
        ([field.name for field in tables.EDIT], schema.Edit),
    ],
)
def test_columns_are_the_records_fields(names: list[str], record: type | None) -> None:
    fields: Any = getattr(record, "__dataclass_fields__", None) or getattr(record, "_fields", ())
    expected = tables.SCENE_GRAPHS.names if record is None else list(fields)
    assert sorted(names) == sorted(expected)


def test_scene_graphs_come_back() -> None:
    table = tables.scene_graphs_table([CAPTION, CAPTION], [GRAPH, schema.SceneGraph(status="no_letters")])
    assert table.schema.equals(tables.SCENE_GRAPHS)
    assert tables.read_scene_graphs(table) == [GRAPH, schema.SceneGraph(status="no_letters")]


def test_captions_come_back() -> None:
    assert tables.read_captions(tables.captions_table([CAPTION])) == [CAPTION]
    assert tables.captions_table([]).schema.equals(tables.CAPTIONS)


def test_subcaptions_have_the_schema() -> None:
    edit = schema.Edit(
        start=0, end=5, original="black", replacement="red", lexicon="attributes", term_id="a1"
    )
    negative = schema.Negative(text="red dog chasing ball", kind="attribute", edits=(edit,))
    row = schema.Subcaption(
        key="1",
        caption="x",
        positive="black dog chasing ball",
        negatives=(negative,),
        views=("x",),
        status="ok",
    )
    table = tables.subcaptions_table([row])
    assert isinstance(table, pa.Table)
    assert table.schema.equals(tables.SUBCAPTIONS)
    assert table.to_pylist()[0]["negatives"][0]["edits"][0]["term_id"] == "a1"
    without = dataclasses.replace(row, negatives=(), views=())
    assert tables.read_subcaptions(tables.subcaptions_table([row, without, row])) == [row, without, row]
    assert tables.read_subcaptions(tables.subcaptions_table([])) == []
