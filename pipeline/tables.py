"""Arrow schemas of the records in `schema.py`, and rows to tables and back.

The column names and types here are the contract that `docs/format.md` tells users; a test holds the schemas to
the dataclasses' fields.
"""

from collections.abc import Iterable, Sequence
from itertools import accumulate, chain
from typing import Any, Final

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


ROWS_AT_A_TIME: Final = 2_000
"""Rows whose fields stand in lists of Python's while they become columns: these take several times the room."""


def scene_graphs_table(captions: Sequence[Caption], graphs: Sequence[SceneGraph]) -> pa.Table:
    """The rows of `scene_graphs/`: `graphs[i]` is the graph of `captions[i]`."""
    starts = range(0, max(1, len(captions)), ROWS_AT_A_TIME)
    slices = (slice(start, start + ROWS_AT_A_TIME) for start in starts)
    return pa.concat_tables(
        [_scene_graphs_table(captions[rows], graphs[rows]) for rows in slices]
    ).combine_chunks()


def _scene_graphs_table(captions: Sequence[Caption], graphs: Sequence[SceneGraph]) -> pa.Table:
    entities = [entity for graph in graphs for entity in graph.entities]
    attributes = _lists([entity.attributes for entity in entities], ATTRIBUTE)
    columns = [
        pa.array([caption.key for caption in captions], pa.string()),
        pa.array([caption.caption for caption in captions], pa.string()),
        _lists([graph.entities for graph in graphs], ENTITY, last=attributes),
        _lists([graph.relations for graph in graphs], RELATION),
        pa.array([graph.status for graph in graphs], pa.string()),
    ]
    return pa.Table.from_arrays(columns, schema=SCENE_GRAPHS)


def _lists(
    lists: Sequence[Sequence[tuple[Any, ...]]], kind: pa.StructType, *, last: pa.Array | None = None
) -> pa.Array:
    """Lists of records of `kind`, whose fields stand in its order; `last` stands for the column of their last one.

    Column by column, since Arrow takes several times as long for records.
    """
    records = list(chain.from_iterable(lists))
    columns = list(zip(*records, strict=True)) if records else [()] * kind.num_fields
    if last is not None:
        columns[-1] = last
    arrays = [pa.array(column, field.type) for column, field in zip(columns, kind, strict=True)]
    offsets = pa.array(chain((0,), accumulate(map(len, lists))), pa.int32())
    values = pa.StructArray.from_arrays(arrays, fields=list(kind))
    return pa.ListArray.from_arrays(offsets, values, type=pa.list_(kind))


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


def subcaptions_table(subcaptions: Iterable[Subcaption]) -> pa.Table:
    """The rows of `subcaptions/`."""
    rows = list(subcaptions)
    starts = range(0, max(1, len(rows)), ROWS_AT_A_TIME)
    return pa.concat_tables(
        [_subcaptions_table(rows[start : start + ROWS_AT_A_TIME]) for start in starts]
    ).combine_chunks()


def _subcaptions_table(rows: Sequence[Subcaption]) -> pa.Table:
    edits = _lists([negative.edits for row in rows for negative in row.negatives], EDIT)
    columns = [
        pa.array([row.key for row in rows], pa.string()),
        pa.array([row.caption for row in rows], pa.string()),
        pa.array([row.positive for row in rows], pa.string()),
        _lists([row.negatives for row in rows], NEGATIVE, last=edits),
        pa.array([row.views for row in rows], pa.list_(pa.string())),
        pa.array([row.status for row in rows], pa.string()),
    ]
    return pa.Table.from_arrays(columns, schema=SUBCAPTIONS)


def read_subcaptions(table: pa.Table) -> list[Subcaption]:
    """The inverse of `subcaptions_table`."""
    return [
        Subcaption(
            **row
            | {
                "negatives": tuple(
                    Negative(**negative | {"edits": tuple(Edit(**edit) for edit in negative["edits"])})
                    for negative in row["negatives"]
                ),
                "views": tuple(row["views"]),
            }
        )
        for batch in table.select(SUBCAPTIONS.names).to_batches(max_chunksize=500)
        for row in batch.to_pylist()
    ]
