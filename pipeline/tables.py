"""Arrow schemas of the records in `schema.py`, and rows to tables and back.

The column names and types here are the contract that `docs/format.md` tells users; a test holds the schemas to
the dataclasses' fields.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from pipeline.schema import (
    SCHEMA_VERSION,
    Attribute,
    Caption,
    Edit,
    Entity,
    Negative,
    Relation,
    SceneGraph,
    Subcaption,
)


def _struct(**fields: pa.DataType) -> pa.DataType:
    return pa.struct([pa.field(name, kind, nullable=False) for name, kind in fields.items()])


def _schema(*fields: pa.Field) -> pa.Schema:
    return pa.schema(fields, metadata={"tool": "cleanerclip", "schema_version": str(SCHEMA_VERSION)})


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


_TEXT_SPAN = {
    "text": pa.string(),
    "lemma": pa.string(),
    "tag": pa.string(),
    "start": pa.int32(),
    "end": pa.int32(),
}
ATTRIBUTE = _struct(**_TEXT_SPAN)
ENTITY = _struct(
    head=pa.string(),
    lemma=pa.string(),
    tag=pa.string(),
    start=pa.int32(),
    end=pa.int32(),
    attributes=pa.list_(ATTRIBUTE),
)
RELATION = _struct(subject=pa.int32(), object=pa.int32(), **_TEXT_SPAN, rule=pa.string())
EDIT = _struct(
    start=pa.int32(),
    end=pa.int32(),
    original=pa.string(),
    replacement=pa.string(),
    lexicon=pa.string(),
    term_id=pa.string(),
)
NEGATIVE = _struct(text=pa.string(), kind=pa.string(), edits=pa.list_(EDIT))

CAPTIONS = _schema(
    _required("key", pa.string()),
    _required("caption", pa.string()),
    pa.field("image", pa.string()),
    _required("source", pa.string()),
)
SCENE_GRAPHS = _schema(
    _required("key", pa.string()),
    _required("caption", pa.string()),
    _required("entities", pa.list_(ENTITY)),
    _required("relations", pa.list_(RELATION)),
    _required("status", pa.string()),
)
SUBCAPTIONS = _schema(
    _required("key", pa.string()),
    _required("caption", pa.string()),
    _required("positive", pa.string()),
    _required("negatives", pa.list_(NEGATIVE)),
    _required("views", pa.list_(pa.string())),
    _required("status", pa.string()),
)
SAMPLES = _schema(
    _required("key", pa.string()),
    _required("caption", pa.string()),
    pa.field("image", pa.string()),
    _required("source", pa.string()),
    _required("status", pa.string()),
    _required("image_status", pa.string()),
)
"""`shards/00000.parquet`: one row per sample of `00000.tar`."""


def captions_table(captions: Iterable[Caption]) -> pa.Table:
    """The rows of `captions/`."""
    rows = list(captions)
    columns = [[getattr(row, name) for row in rows] for name in CAPTIONS.names]
    return pa.Table.from_arrays(
        [pa.array(column, field.type) for column, field in zip(columns, CAPTIONS, strict=True)],
        schema=CAPTIONS,
    )


def read_captions(table: pa.Table) -> list[Caption]:
    """The inverse of `captions_table`."""
    return [Caption(**row) for row in table.select(CAPTIONS.names).to_pylist()]


def _attribute(item: Attribute) -> dict[str, Any]:
    return {
        "text": item.text,
        "lemma": item.lemma,
        "tag": item.tag,
        "start": item.start,
        "end": item.end,
    }


def _entity(item: Entity) -> dict[str, Any]:
    return {
        "head": item.head,
        "lemma": item.lemma,
        "tag": item.tag,
        "start": item.start,
        "end": item.end,
        "attributes": [_attribute(attribute) for attribute in item.attributes],
    }


def _relation(item: Relation) -> dict[str, Any]:
    return {name: getattr(item, name) for name in item.__dataclass_fields__}


def scene_graphs_table(captions: Sequence[Caption], graphs: Sequence[SceneGraph]) -> pa.Table:
    """The rows of `scene_graphs/`: `graphs[i]` is the graph of `captions[i]`."""
    rows = [
        {
            "key": caption.key,
            "caption": caption.caption,
            "entities": [_entity(entity) for entity in graph.entities],
            "relations": [_relation(relation) for relation in graph.relations],
            "status": graph.status,
        }
        for caption, graph in zip(captions, graphs, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=SCENE_GRAPHS)


def read_scene_graphs(table: pa.Table) -> list[SceneGraph]:
    """The inverse of `scene_graphs_table`."""
    return [
        SceneGraph(
            entities=tuple(
                Entity(**entity | {"attributes": tuple(Attribute(**a) for a in entity["attributes"])})
                for entity in row["entities"]
            ),
            relations=tuple(Relation(**relation) for relation in row["relations"]),
            status=row["status"],
        )
        for row in table.select(["entities", "relations", "status"]).to_pylist()
    ]


def edit_row(edit: Edit) -> dict[str, Any]:
    """The edit as a plain dict, as Arrow and the shards' JSON hold it."""
    return {
        "start": edit.start,
        "end": edit.end,
        "original": edit.original,
        "replacement": edit.replacement,
        "lexicon": edit.lexicon,
        "term_id": edit.term_id,
    }


def negative_row(negative: Negative) -> dict[str, Any]:
    """The negative as a plain dict, as Arrow and the shards' JSON hold it."""
    return {
        "text": negative.text,
        "kind": negative.kind,
        "edits": [edit_row(edit) for edit in negative.edits],
    }


def subcaptions_table(subcaptions: Iterable[Subcaption]) -> pa.Table:
    """The rows of `subcaptions/`."""
    rows = [
        {
            "key": row.key,
            "caption": row.caption,
            "positive": row.positive,
            "negatives": [negative_row(negative) for negative in row.negatives],
            "views": list(row.views),
            "status": row.status,
        }
        for row in subcaptions
    ]
    return pa.Table.from_pylist(rows, schema=SUBCAPTIONS)
