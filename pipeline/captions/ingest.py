"""The captions stage over a whole input: parts of rows with unique keys, and `stages/captions.json` that lists them.

A part is the rows of one input tar (so that shard and input tar stay aligned), or up to `rows_per_part` rows of
another file. The index is written last: it exists = the stage is complete.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from pipeline.captions.readers import Source
from pipeline.engine import map_parts
from pipeline.errors import BadInput, UserError
from pipeline.records import compare_file, describe_made
from pipeline.schema import Caption
from pipeline.storage import (
    MAX_NAMED_FAULTS,
    find_named,
    find_repeated,
    hash_named,
    named,
    place,
    read_json,
    read_table,
    remove_folder,
    size_of,
    write_json,
    write_table,
)
from pipeline.tables import captions_table

INDEX: Final = "stages/captions.json"
"""Beside `captions/`: in it, pandas and polars would read it as a table."""
_FILE_NAME: Final = re.compile(r"\S+\.(?:jpe?g|png|webp|gif|bmp|tiff?)$|https?://\S+$", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A file's worth of rows."""

    number: int
    """Of the part's file, in every stage's folder."""
    source: str
    """The input file that its rows came from."""
    image_root: str | None = None
    """Folder that its images lie in, where that is not the input file's; none may lead out of it."""
    rows: int
    bytes: int = 0
    """Of its file in `captions/`."""
    sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFile:
    """One file of the input."""

    path: str
    bytes: int
    sha256: str
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionsIndex:
    """What `captions/` holds, and what it was made of: the content of `stages/captions.json`, field by field."""

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
    content: Any = read_json(folder.parent / INDEX)
    try:
        return CaptionsIndex(
            **content
            | {
                "parts": tuple(Part(**part) for part in content["parts"]),
                "inputs": tuple(InputFile(**item) for item in content["inputs"]),
                "faults": tuple(content["faults"]),
            }
        )
    except (TypeError, KeyError, ValueError) as error:
        raise UserError(
            f"{folder.parent / INDEX} is no index of captions ({error}): choose another --out, or --overwrite"
        ) from error


def ingest(
    source: Source,
    folder: Path,
    *,
    rows_per_part: int,
    workers: int,
    tell: Callable[[str], None] = lambda _: None,
) -> CaptionsIndex:
    """Write the rows of `source` to `folder` and return the index; what is there and as it was is not read again.

    Raises:
        UserError: The folder was read from something else, or from the same files before they were changed.
    """
    index = _known_index(folder, tell)
    if index is not None:
        _check_unchanged(index, source, rows_per_part, folder, workers)
        _mend(index, source, folder, workers, tell)
        return index
    index = _ingest(source, folder, rows_per_part=rows_per_part, workers=workers)
    write_json(folder.parent / INDEX, asdict(index))
    return index


def _known_index(folder: Path, tell: Callable[[str], None]) -> CaptionsIndex | None:
    """The index; None where it is missing or damaged: it cannot say what was read then, so all is read again."""
    if not (folder.parent / INDEX).exists():
        return None
    try:
        return read_index(folder)
    except UserError:
        tell(f"{INDEX} is damaged; made again")
        return None


def damaged_parts(index: CaptionsIndex, folder: Path) -> list[tuple[Part, str]]:
    """The parts whose file is not what the index says, and what is wrong with each."""
    told = ((part, _compare(part, folder)) for part in index.parts)
    return [(part, line) for part, line in told if line is not None]


def _compare(part: Part, folder: Path) -> str | None:
    expected = {"bytes": part.bytes, "sha256": part.sha256}
    return compare_file(folder.parent, f"{folder.name}/{part.number:05d}.parquet", expected, check=True)


def _mend(
    index: CaptionsIndex, source: Source, folder: Path, workers: int, tell: Callable[[str], None]
) -> None:
    """Make the damaged parts again: the whole input is read beside them, since keys are unique over all of it."""
    damaged = damaged_parts(index, folder)
    if not damaged:
        return
    again = folder / "again"
    remove_folder(again)
    rows_per_part = index.rows_per_part or max(1, index.rows)
    made = {
        part.number: part
        for part in _ingest(source, again, rows_per_part=rows_per_part, workers=workers).parts
    }
    for part, line in damaged:
        if made.get(part.number) != part:
            raise UserError(
                f"{line}, and cannot be made again from the same input: --overwrite makes all anew"
            )
        name = f"{part.number:05d}.parquet"
        (again / name).replace(folder / name)
        tell(f"{line}; made again")
    remove_folder(again)


def _ingest(source: Source, folder: Path, *, rows_per_part: int, workers: int) -> CaptionsIndex:
    for stale in folder.glob("*.parquet"):
        stale.unlink()
    faults: list[str] = []
    if source.format == "webdataset":
        parts = _read_tars(source, folder, workers, faults)
    else:
        parts = list(_read_files(source, folder, rows_per_part, faults))
    _refuse_the_useless(source, folder, faults)
    duplicates = make_keys_unique(folder)
    parts = [_with_hash(part, folder) for part in parts]
    return CaptionsIndex(
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


def _with_hash(part: Part, folder: Path) -> Part:
    return replace(part, **describe_made(folder / f"{part.number:05d}.parquet"))


def check_inputs(index: CaptionsIndex, *, workers: int) -> None:
    """UserError where a file of the input has other bytes than when it was read; one that is gone is none of it."""
    known = {item.path: item.sha256 for item in index.inputs}
    files = [file for item in index.inputs if (file := find_named(item.path)).is_file()]
    for file, digest in map_parts(hash_named, files, workers=workers, label="hashing the input"):
        if digest != known[named(file)]:
            raise UserError(
                f"{file} has other content than when its captions were read: choose another --out, or --overwrite"
            )


def _check_unchanged(
    index: CaptionsIndex, source: Source, rows_per_part: int, folder: Path, workers: int
) -> None:
    found = [(named(file), size_of(file)) for file in source.files]
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
    check_inputs(index, workers=workers)


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
    rows = list(_undamaged(source.rows(file, faults=faults), faults))
    write_table(folder / f"{number:05d}.parquet", captions_table(rows))
    return Part(number=number, source=named(file), rows=len(rows)), faults


def _read_files(source: Source, folder: Path, rows_per_part: int, faults: list[str]) -> Iterator[Part]:
    number = 0
    for file in source.files:
        root, found = source.located(file, faults=faults)
        rows = _undamaged(found, faults)
        image_root = None if root == file.parent else named(root)
        while chunk := list(islice(rows, rows_per_part)):
            write_table(folder / f"{number:05d}.parquet", captions_table(chunk))
            yield Part(number=number, source=named(file), image_root=image_root, rows=len(chunk))
            number += 1


def _undamaged(rows: Iterator[Caption], faults: list[str]) -> Iterator[Caption]:
    """The rows of a file up to where it is damaged."""
    try:
        yield from rows
    except BadInput as error:
        faults.append(str(error))


def _refuse_the_useless(source: Source, folder: Path, faults: list[str]) -> None:
    """UserError where no row has a caption, or what captions should be are names of files."""
    rows = captions = 0
    for part in sorted(folder.glob("*.parquet")):
        for caption in read_table(part)["caption"].to_pylist():
            rows += 1
            captions += bool(caption)
            if caption and not _FILE_NAME.match(caption):
                return
    found = (
        f"{rows} rows, but no caption"
        if not captions
        else f"names of files and no captions ({captions} of them)"
    )
    files = f"{source.files[0]}{f' and {len(source.files) - 1} more' if len(source.files) > 1 else ''}"
    raise UserError(
        f"nothing in {files} can be used: read as {source.format} it holds {found if rows else 'no rows'}; looked for "
        f"{source.looked_for}; give --format or --caption-column{f' ({faults[0]})' if faults else ''}"
    )


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
            table = read_table(place(file))
            keys = table["key"].to_pylist()
            for row, key in renamed.items():
                keys[row] = key
            write_table(place(file), table.set_column(0, table.schema.field("key"), pa.array(keys)))
    return total


def _describe_inputs(source: Source, parts: list[Part], workers: int) -> Iterator[InputFile]:
    files = list(source.files)
    hashes = dict(map_parts(hash_named, files, workers=workers, label="hashing the input"))
    rows: dict[str, int] = {}
    for part in parts:
        rows[part.source] = rows.get(part.source, 0) + part.rows
    for file in files:
        path = named(file)
        yield InputFile(path=path, bytes=size_of(file), sha256=hashes[file], rows=rows.get(path, 0))
