"""`manifest.json`: what an output folder holds, what it was made of and with, and the hash of every file.

Written last, by `stages`: it exists = the folder is complete. `looking.verify` holds the folder to it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from pipeline import __version__
from pipeline.captions.ingest import CaptionsIndex
from pipeline.engine import map_parts
from pipeline.errors import UserError
from pipeline.records import describe_named
from pipeline.schema import OK, SCHEMA_VERSION
from pipeline.storage import MAX_NAMED_FAULTS, read_json, read_table, write_json

MANIFEST: Final = "manifest.json"


def write_manifest(
    out: Path,
    index: CaptionsIndex,
    *,
    made: Mapping[str, Mapping[str, Any]],
    told_by: str | None,
    files: Sequence[str],
    made_before: Mapping[str, Mapping[str, Any]],
    workers: int,
) -> dict[str, Any]:
    """Write `out/manifest.json` and return its content.

    Args:
        out: The output folder.
        index: What its captions were read from.
        made: What each stage was made with.
        told_by: The stage whose rows say what became of each caption.
        files: What the manifest vouches for, by its names in `out`.
        made_before: Those of them whose size and hash were taken when they were made.
        workers: Processes that hash the others.
    """
    image_status: Counter[str] = Counter()
    faults, fault_count = list(index.faults), index.fault_count
    for file in sorted((out / "shards").glob("*_stats.json")):
        stats = read_json(file)
        image_status.update(stats["image_status"])
        faults += stats["faults"]
        fault_count += stats["fault_count"]
    status = _count_status(None if told_by is None else out / told_by)
    manifest = {
        "tool": f"cleanerclip {__version__}",
        "schema_version": SCHEMA_VERSION,
        "versions": {name: version(name) for name in ("spacy", "SceneGraphParser", "pyarrow")},
        "inputs": [asdict(item) for item in index.inputs],
        "stages": made,
        "rows": {
            "in": index.rows,
            "ok": status.get(OK, 0),
            "status": dict(sorted(status.items())),
            "image_status": dict(sorted(image_status.items())),
            "duplicate_keys": index.duplicate_keys,
        },
        "faults": faults[:MAX_NAMED_FAULTS],
        "fault_count": fault_count,
        "files": _describe(files, made_before, out, workers),
    }
    write_json(out / MANIFEST, manifest)
    return manifest


def _count_status(folder: Path | None) -> Counter[str]:
    status: Counter[str] = Counter()
    for file in sorted(folder.glob("*.parquet")) if folder else ():
        status.update(read_table(file, ["status"])["status"].to_pylist())
    return status


def _describe(
    names: Sequence[str], known: Mapping[str, Mapping[str, Any]], out: Path, workers: int
) -> dict[str, Mapping[str, Any]]:
    files = [out / name for name in names if name not in known]
    workers = workers if len(files) > 200 else 1
    described = dict(map_parts(describe_named, files, workers=workers, label="hashing the output"))
    return {name: known.get(name) or described[out / name] for name in names}


def read_files(file: Path) -> dict[str, dict[str, Any]]:
    """The files that a manifest names, with bytes and sha256; none where it is missing or damaged."""
    try:
        content = read_json(file)
    except (UserError, OSError):
        return {}
    files = content.get("files") if isinstance(content, dict) else None
    if not isinstance(files, dict):
        return {}
    return {
        name: entry
        for name, entry in files.items()
        if isinstance(entry, dict) and set(entry) == {"bytes", "sha256"} and ".." not in Path(name).parts
    }
