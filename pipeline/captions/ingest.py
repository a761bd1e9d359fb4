"""The captions stage over a whole input: parts of rows with unique keys, and `captions/_index.json` that lists them.

A part is the rows of one input tar (so that shard and input tar stay aligned), or up to `rows_per_part` rows of
another file. The index is written last: it exists = the stage is complete.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from pipeline.captions.readers import Source
from pipeline.engine import map_parts
from pipeline.errors import UserError
from pipeline.schema import Caption
from pipeline.storage import (
    MAX_NAMED_FAULTS,
    find_repeated,
    hash_named,
    read_json,
    read_table,
    size_of,
    write_json,
    write_table,
)
from pipeline.tables import captions_table

INDEX: Final = "_index.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A file's worth of rows."""

    number: int
    """Of the part's file, in every stage's folder."""
    source: str
    """The input file that its rows came from."""
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFile:
    """One file of the input."""

    path: str
    bytes: int
    sha256: str
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionsIndex:
    """What `captions/` holds, and what it was made of: the content of its `_index.json`, field by field."""

    format: str
    caption_column: str | None
    image_column: str | None
    image_root: str | None
    split: str | None
    rows_per_part: int | None
    """None of tars: a part is one."""
    rows: int
    duplicate_keys: int
    """Rows whose key was another's before, and got a number behind it."""
    parts: tuple[Part, ...]
    inputs: tuple[InputFile, ...]
    faults: tuple[str, ...]
    """The first of them."""
    fault_count: int


def read_index(folder: Path) -> CaptionsIndex:
    """The index of a `captions/` folder; UserError where it is none."""
    content: Any = read_json(folder / INDEX)
    try:
        return CaptionsIndex(
            **content
            | {
                "parts": tuple(Part(**part) for part in content["parts"]),
                "inputs": tuple(InputFile(**item) for item in content["inputs"]),
                "faults": tuple(content["faults"]),
            }
        )
    except (TypeError, KeyError) as error:
        raise UserError(
            f"{folder / INDEX} is no index of captions ({error}): choose another --out, or --overwrite"
        ) from error


def ingest(source: Source, folder: Path, *, rows_per_part: int, workers: int) -> CaptionsIndex:
    """Write the rows of `source` to `folder` and return the index; what is already there is not read again."""
    if (folder / INDEX).exists():
        index = read_index(folder)
        _check_unchanged(index, source, rows_per_part, folder)
        return index
    for stale in folder.glob("*.parquet"):
        stale.unlink()
    faults: list[str] = []
    if source.format == "webdataset":
        parts = _read_tars(source, folder, workers, faults)
    else:
        parts = list(_read_files(source, folder, rows_per_part, faults))
    duplicates = make_keys_unique(folder)
    index = CaptionsIndex(
        format=source.format,
        caption_column=source.caption_column,
        image_column=source.image_column,
        image_root=_text(source.image_root),
        split=source.split,
        rows_per_part=None if source.format == "webdataset" else rows_per_part,
        rows=sum(part.rows for part in parts),
        duplicate_keys=duplicates,
        parts=tuple(parts),
        inputs=tuple(_describe_inputs(source, parts, workers)),
        faults=tuple(faults[:MAX_NAMED_FAULTS]),
        fault_count=len(faults),
    )
    write_json(folder / INDEX, asdict(index))
    return index


def _check_unchanged(index: CaptionsIndex, source: Source, rows_per_part: int, folder: Path) -> None:
    found = [(str(file), size_of(file)) for file in source.files]
    known = [(item.path, item.bytes) for item in index.inputs]
    if found != known:
        raise UserError(
            f"{folder} was read from {_names(known)}, this call names {_names(found)}: "
            "choose another --out, or --overwrite"
        )
    parts = None if source.format == "webdataset" else rows_per_part
    asked_for = (
        ("caption_column", index.caption_column, source.caption_column),
        ("image_column", index.image_column, source.image_column),
        ("image_root", index.image_root, _text(source.image_root)),
        ("split", index.split, source.split),
        ("rows_per_part", index.rows_per_part, parts),
    )
    for name, was, asked in asked_for:
        if was != asked:
            raise UserError(
                f"{folder} was read with {name} {was}, this call asks for {asked}: "
                "choose another --out, or --overwrite"
            )


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _names(files: list[tuple[str, int]]) -> str:
    shown = ", ".join(f"{path} ({size} bytes)" for path, size in files[:3])
    return shown + (f" and {len(files) - 3} more" if len(files) > 3 else "")


def _read_tars(source: Source, folder: Path, workers: int, faults: list[str]) -> list[Part]:
    numbered = list(enumerate(source.files))
    results = map_parts(
        partial(_read_tar_part, source, folder), numbered, workers=workers, label="reading captions"
    )
    parts = []
    for part, part_faults in sorted(results, key=lambda result: result[0].number):
        parts.append(part)
        faults.extend(part_faults)
    return parts


def _read_tar_part(source: Source, folder: Path, numbered: tuple[int, Path]) -> tuple[Part, list[str]]:
    number, file = numbered
    faults: list[str] = []
    rows = list(source.rows(file, faults=faults))
    write_table(folder / f"{number:05d}.parquet", captions_table(rows))
    return Part(number=number, source=str(file), rows=len(rows)), faults


def _read_files(source: Source, folder: Path, rows_per_part: int, faults: list[str]) -> Iterator[Part]:
    number = 0
    for file in source.files:
        rows: Iterator[Caption] = iter(source.rows(file, faults=faults))
        while chunk := list(islice(rows, rows_per_part)):
            write_table(folder / f"{number:05d}.parquet", captions_table(chunk))
            yield Part(number=number, source=str(file), rows=len(chunk))
            number += 1


def make_keys_unique(folder: Path) -> int:
    """Append -2, -3, ... to the second and later rows of a key, and return how many rows that were.

    Repeated rows are common on the web (one image and caption, listed twice); joins need a key each.
    """
    total = 0
    while repeated := find_repeated(folder, "key"):
        total += len(repeated)
        by_file: dict[str, dict[int, str]] = {}
        for file, row, key, occurrence in repeated:
            by_file.setdefault(file, {})[row] = f"{key}-{occurrence}"
        for file, renamed in by_file.items():
            table = read_table(Path(file))
            keys = table["key"].to_pylist()
            for row, key in renamed.items():
                keys[row] = key
            write_table(Path(file), table.set_column(0, table.schema.field("key"), pa.array(keys)))
    return total


def _describe_inputs(source: Source, parts: list[Part], workers: int) -> Iterator[InputFile]:
    files = list(source.files)
    hashes = dict(map_parts(hash_named, files, workers=workers, label="hashing the input"))
    rows: dict[str, int] = {}
    for part in parts:
        rows[part.source] = rows.get(part.source, 0) + part.rows
    for file in files:
        yield InputFile(path=str(file), bytes=size_of(file), sha256=hashes[file], rows=rows.get(str(file), 0))
