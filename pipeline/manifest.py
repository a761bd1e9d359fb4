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
from pipeline.croissant import CROISSANT, describe_tables
from pipeline.engine import map_parts
from pipeline.schema import OK, SCHEMA_VERSION
from pipeline.storage import MAX_NAMED_FAULTS, hash_named, read_json, read_table, size_of, write_json

MANIFEST: Final = "manifest.json"


def write_manifest(
    out: Path,
    index: CaptionsIndex,
    *,
    made: Mapping[str, Mapping[str, Any]],
    told_by: str | None,
    files: Sequence[Path],
    workers: int,
) -> dict[str, Any]:
    """Write `out/manifest.json`, and before it `croissant.json`; return the manifest's content.

    Args:
        out: The output folder.
        index: What its captions were read from.
        made: What each stage was made with.
        told_by: The stage whose rows say what became of each caption.
        files: What the manifest vouches for.
        workers: Processes that hash the files.
    """
    write_json(out / CROISSANT, describe_tables(("captions", *made), version=__version__))
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
        "files": _describe([*files, out / CROISSANT], out, workers),
    }
    write_json(out / MANIFEST, manifest)
    return manifest


def _count_status(folder: Path | None) -> Counter[str]:
    status: Counter[str] = Counter()
    for file in sorted(folder.glob("*.parquet")) if folder else ():
        status.update(read_table(file)["status"].to_pylist())
    return status


def _describe(files: Sequence[Path], out: Path, workers: int) -> dict[str, dict[str, Any]]:
    hashes = dict(
        map_parts(
            hash_named, list(files), workers=workers if len(files) > 50 else 1, label="hashing the output"
        )
    )
    return {
        file.relative_to(out).as_posix(): {"bytes": size_of(file), "sha256": hashes[file]} for file in files
    }
