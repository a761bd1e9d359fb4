"""The captions stage over a whole input: parts of rows with unique keys, and `captions/index.json` that lists them.

A part is the rows of one input tar (so that shard and input tar stay aligned), or up to `rows_per_part` rows of
another file. The index is written last: it exists = the stage is complete.
"""

from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import duckdb  # noqa: TID251  (keys are made unique out of core)
import pyarrow as pa

from pipeline.captions.readers import Source
from pipeline.engine import map_parts
from pipeline.errors import UserError
from pipeline.schema import Caption
from pipeline.storage import read_json, read_table, sha256_file, write_json, write_table
from pipeline.tables import captions_table

MAX_NAMED_FAULTS = 100


def ingest(source: Source, folder: Path, *, rows_per_part: int, workers: int) -> dict[str, Any]:
    """Write the rows of `source` to `folder` and return the index; what is already there is not read again."""
    index_file = folder / "index.json"
    if index_file.exists():
        index: dict[str, Any] = read_json(index_file)
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
    inputs = _describe_inputs(source, parts, workers)
    index = {
        "format": source.format,
        "caption_column": source.caption_column,
        "rows_per_part": None if source.format == "webdataset" else rows_per_part,
        "rows": sum(part["rows"] for part in parts),
        "duplicate_keys": duplicates,
        "parts": parts,
        "inputs": inputs,
        "faults": faults[:MAX_NAMED_FAULTS],
        "fault_count": len(faults),
    }
    write_json(index_file, index)
    return index


def _check_unchanged(index: dict[str, Any], source: Source, rows_per_part: int, folder: Path) -> None:
    found = [(str(file), file.stat().st_size) for file in source.files]
    known = [(item["path"], item["bytes"]) for item in index["inputs"]]
    if found != known:
        raise UserError(
            f"{folder} was read from {_names(known)}, this call names {_names(found)}: "
            "choose another --out, or --overwrite"
        )
    parts = None if source.format == "webdataset" else rows_per_part
    for name, asked in (("caption_column", source.caption_column), ("rows_per_part", parts)):
        if index[name] != asked:
            raise UserError(
                f"{folder} was read with {name} {index[name]}, this call asks for {asked}: "
                "choose another --out, or --overwrite"
            )


def _names(files: list[tuple[str, int]]) -> str:
    shown = ", ".join(f"{path} ({size} bytes)" for path, size in files[:3])
    return shown + (f" and {len(files) - 3} more" if len(files) > 3 else "")


def _read_tars(source: Source, folder: Path, workers: int, faults: list[str]) -> list[dict[str, Any]]:
    numbered = list(enumerate(source.files))
    results = map_parts(
        partial(_read_tar_part, source, folder), numbered, workers=workers, label="reading captions"
    )
    parts = []
    for part, part_faults in sorted(results, key=lambda result: int(result[0]["number"])):
        parts.append(part)
        faults.extend(part_faults)
    return parts


def _read_tar_part(
    source: Source, folder: Path, numbered: tuple[int, Path]
) -> tuple[dict[str, Any], list[str]]:
    number, file = numbered
    faults: list[str] = []
    rows = list(source.rows(file, faults=faults))
    write_table(folder / f"{number:05d}.parquet", captions_table(rows))
    return {"number": number, "source": str(file), "rows": len(rows)}, faults


def _read_files(
    source: Source, folder: Path, rows_per_part: int, faults: list[str]
) -> Iterator[dict[str, Any]]:
    number = 0
    for file in source.files:
        rows: Iterator[Caption] = iter(source.rows(file, faults=faults))
        while chunk := list(islice(rows, rows_per_part)):
            write_table(folder / f"{number:05d}.parquet", captions_table(chunk))
            yield {"number": number, "source": str(file), "rows": len(chunk)}
            number += 1


def make_keys_unique(folder: Path) -> int:
    """Append -2, -3, ... to the second and later rows of a key, and return how many rows that were.

    Repeated rows are common on the web (one image and caption, listed twice); joins need a key each.
    """
    total = 0
    while repeated := _repeated_keys(folder):
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


def _repeated_keys(folder: Path) -> list[tuple[str, int, str, int]]:
    if not any(folder.glob("*.parquet")):
        return []
    query = """
        SELECT filename, file_row_number, key, occurrence
        FROM (SELECT *, row_number() OVER (PARTITION BY key ORDER BY filename, file_row_number) AS occurrence
              FROM (SELECT key, filename, file_row_number
                    FROM read_parquet(?, filename = true, file_row_number = true)))
        WHERE occurrence > 1 ORDER BY filename, file_row_number
    """
    with duckdb.connect() as connection:
        rows: list[tuple[str, int, str, int]] = connection.execute(
            query, [str(folder / "*.parquet")]
        ).fetchall()
        return rows


def _describe_inputs(source: Source, parts: list[dict[str, Any]], workers: int) -> list[dict[str, Any]]:
    files = list(source.files)
    hashes = dict(map_parts(_hash_file, files, workers=workers, label="hashing the input"))
    rows: dict[str, int] = {}
    for part in parts:
        rows[part["source"]] = rows.get(part["source"], 0) + part["rows"]
    return [
        {
            "path": str(file),
            "bytes": file.stat().st_size,
            "sha256": hashes[file],
            "rows": rows.get(str(file), 0),
        }
        for file in files
    ]


def _hash_file(file: Path) -> tuple[Path, str]:
    return file, sha256_file(file)
