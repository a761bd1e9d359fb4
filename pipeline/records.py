"""`parts/00017.json`: size and hash of each file that a stage made of a part, written when the stage is done with it.

A rerun compares what is there with what was made; a file that has its name may have been cut, changed or exchanged
since. A record that is missing or damaged vouches for nothing: its part is made again.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pipeline.storage import (
    describe_file,
    read_bytes,
    sha256_file,
    size_if_file,
    take_made,
    write_json,
)

FOLDER: Final = "parts"


def record_file(out: Path, number: int) -> Path:
    """Where the record of a part stands."""
    return out / FOLDER / f"{number:05d}.json"


def read_record(out: Path, number: int) -> dict[str, dict[str, Any]]:
    """For each stage that is done with the part: `made_with`, a hash, and `files`, name to bytes and sha256."""
    try:
        return _entries(read_bytes(record_file(out, number)))
    except OSError:
        return {}


def _entries(record: bytes) -> dict[str, dict[str, Any]]:
    try:
        content = json.loads(record.decode())
    except (ValueError, RecursionError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {stage: entry for stage, entry in content.items() if _is_entry(entry)}


def recorded_parts(out: Path) -> frozenset[int]:
    """The numbers of the parts that have a record, by one look at their folder."""
    return frozenset(int(file.stem) for file in (out / FOLDER).glob("*.json") if file.stem.isdigit())


def described_files(out: Path, number: int) -> dict[str, dict[str, Any]]:
    """The part's files by their names in `out`, described as its record does, and the record itself."""
    try:
        content = read_bytes(record_file(out, number))
    except OSError:
        return {}
    found = {
        f"{stage}/{name}": file
        for stage, entry in _entries(content).items()
        for name, file in entry["files"].items()
    }
    itself = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return found | {f"{FOLDER}/{number:05d}.json": itself}


def _is_entry(entry: object) -> bool:
    if (
        not isinstance(entry, dict)
        or set(entry) != {"made_with", "files"}
        or not isinstance(entry["files"], dict)
    ):
        return False
    return all(
        isinstance(file, dict) and set(file) == {"bytes", "sha256"} for file in entry["files"].values()
    )


def describe_made(file: Path) -> dict[str, Any]:
    """Size and hash of a file that was just made: what was sent to a store need not be fetched to be hashed."""
    made = take_made(file)
    return describe_file(file) if made is None else {"bytes": made[0], "sha256": made[1]}


def describe_named(file: Path) -> tuple[Path, dict[str, Any]]:
    """The path and `describe_made` of its file, for results that come in any order."""
    return file, describe_made(file)


def keep_record(
    out: Path,
    number: int,
    stage: str,
    record: dict[str, dict[str, Any]],
    *,
    made_with: str,
    names: Sequence[str],
    order: Sequence[str],
) -> dict[str, Any]:
    """Write down in the part's `record` that `stage` made the files `names` of its folder; returns these described."""
    files = {name: describe_made(out / stage / name) for name in names}
    record[stage] = {"made_with": made_with, "files": files}
    write_json(record_file(out, number), {name: record[name] for name in order if name in record})
    return files


def forget_stages(out: Path, stages: Sequence[str]) -> None:
    """Take stages out of every record."""
    for file in sorted((out / FOLDER).glob("*.json")):
        record = read_record(out, int(file.stem)) if file.stem.isdigit() else {}
        left = {stage: entry for stage, entry in record.items() if stage not in stages}
        if left:
            write_json(file, left)
        else:
            file.unlink()


def hash_identity(identity: Mapping[str, Any]) -> str:
    """A hash of what decides a stage's bytes."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def compare_part(
    out: Path,
    number: int,
    stage: str,
    record: Mapping[str, Mapping[str, Any]],
    *,
    made_with: str,
    names: Sequence[str],
    check: bool,
) -> list[str] | None:
    """What is wrong with the files that a stage made of a part, a line each; None where it is not done with it.

    `record` is the part's. Sizes are compared always, hashes of Parquet files and tars where `check` asks for it.
    """
    entry = record.get(stage)
    if entry is None or sorted(entry["files"]) != sorted(names):
        return None
    if entry["made_with"] != made_with:
        return [f"{stage}: part {number:05d} was made with other options"]
    told = (
        compare_file(out, f"{stage}/{name}", entry["files"][name], check=check or name.endswith(".json"))
        for name in names
    )
    return [line for line in told if line is not None]


def compare_file(out: Path, name: str, expected: Mapping[str, Any], *, check: bool) -> str | None:
    """What is wrong with a file of the folder; None where it is what it should be."""
    file = out / name
    if (found := size_if_file(file)) is None:
        return f"{name} is missing"
    if found != expected["bytes"]:
        return f"{name} has {found} bytes instead of {expected['bytes']}"
    if check and sha256_file(file) != expected["sha256"]:
        return f"{name} has other bytes than its sha256 says"
    return None
