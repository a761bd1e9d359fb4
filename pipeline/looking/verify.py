"""Whether an output folder is what its manifest says: each file and byte, the rows, one key for a row everywhere."""

import contextlib
import json
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

from pipeline.captions.ingest import INDEX, read_index
from pipeline.errors import UserError
from pipeline.manifest import MANIFEST
from pipeline.records import compare_file
from pipeline.stages import STAGES, files_of
from pipeline.storage import find_repeated, read_json, read_table, read_tar


def verify(folder: Path) -> list[str]:
    """What is wrong with `folder`: the first of each kind in each of its folders, a line each; empty where all is well.

    A line says how many more of its kind there are.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    if not (folder / MANIFEST).exists():
        raise UserError(f"{folder} has no {MANIFEST}: the run was not finished; run the same command again")
    first: dict[tuple[str, str], str] = {}
    more: dict[tuple[str, str], int] = {}
    for name, what in _wrong(folder):
        kind = (name.partition("/")[0], what.partition(" ")[0])
        if kind in first:
            more[kind] = more.get(kind, 0) + 1
        else:
            first[kind] = f"{name} {what}"
    return [f"{line} (and {more[kind]} more)" if kind in more else line for kind, line in first.items()]


def _wrong(folder: Path) -> Iterator[tuple[str, str]]:
    """(file, what is wrong with it) for everything that is."""
    expected = _expected(folder)
    damaged = set()
    for name, entry in expected.items():
        line = compare_file(folder, name, entry, check=True)
        if line is not None:
            damaged.add(name)
            yield name, line.removeprefix(f"{name} ")
    for file in files_of(folder):
        name = file.relative_to(folder).as_posix()
        if name not in expected:
            yield name, "is not in the manifest"
    if INDEX not in damaged:
        yield from _wrong_rows(folder, damaged)


def _expected(folder: Path) -> dict[str, dict[str, Any]]:
    content = read_json(folder / MANIFEST)
    files = content.get("files") if isinstance(content, dict) else None
    if not isinstance(files, dict):
        raise UserError(f"{folder / MANIFEST} is no manifest of this program: run `pipeline repair {folder}`")
    for name, entry in files.items():
        inside = not Path(name).is_absolute() and ".." not in Path(name).parts
        if not (inside and isinstance(entry, dict) and {"bytes", "sha256"} <= set(entry)):
            raise UserError(f"{folder / MANIFEST} is damaged at {name!r}: run `pipeline repair {folder}`")
    return files


def _wrong_rows(folder: Path, damaged: set[str]) -> Iterator[tuple[str, str]]:
    """Where rows or keys of a part differ between the folders; what is damaged has been named already."""
    with contextlib.suppress(UserError):
        for file, row, key, _ in find_repeated(folder / "captions", "key")[:1]:
            yield f"captions/{Path(file).name}", f"repeats the key {key!r} in row {row}"
    for part in read_index(folder / "captions").parts:
        keys: list[str] | None = None
        for stage in STAGES:
            name = f"{stage}/{part.number:05d}.parquet"
            if name in damaged or not (folder / name).is_file():
                continue
            try:
                found = read_table(folder / name)["key"].to_pylist()
            except (UserError, KeyError) as error:
                yield name, f"unreadable: {error}"
                continue
            keys = found if keys is None else keys
            yield from ((name, what) for what in _differences(found, keys, part.rows))
        tar = f"shards/{part.number:05d}.tar"
        if keys is not None and tar not in damaged and (folder / tar).is_file():
            found = [
                _key(sample.members)
                for sample in read_tar(folder / tar, wanted=frozenset(("json",)), faults=[])
            ]
            yield from ((tar, what) for what in _differences(found, keys, part.rows))


def _key(members: dict[str, bytes]) -> str:
    try:
        return str(json.loads(members["json"])["key"])
    except (KeyError, ValueError, TypeError, RecursionError):
        return ""


def _differences(found: list[str], keys: list[str], rows: int) -> Iterator[str]:
    if len(found) != rows:
        yield f"holds {len(found)} rows, {INDEX} says {rows}"
    elif found != keys:
        number, (here, there) = next(
            (n, pair) for n, pair in enumerate(zip_longest(found, keys)) if pair[0] != pair[1]
        )
        yield f"joins no more: row {number} has the key {here!r} where captions/ has {there!r}"
