"""Whether an output folder is what its manifest says: every file there, every byte the same, nothing besides."""

from pathlib import Path

from pipeline.errors import UserError
from pipeline.manifest import MANIFEST
from pipeline.stages import files_of
from pipeline.storage import read_json, sha256_file, size_of


def verify(folder: Path) -> list[str]:
    """What is wrong with `folder`, one line each, the first bad file first; empty where all is well."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    if not (folder / MANIFEST).exists():
        raise UserError(f"{folder} has no {MANIFEST}: the run was not finished; run the same command again")
    expected = read_json(folder / MANIFEST)["files"]
    wrong = []
    for name, entry in expected.items():
        file = folder / name
        if not file.is_file():
            wrong.append(f"{name} is missing")
        elif size_of(file) != entry["bytes"]:
            wrong.append(f"{name} has {size_of(file)} bytes, the manifest says {entry['bytes']}")
        elif sha256_file(file) != entry["sha256"]:
            wrong.append(f"{name} differs from the manifest's sha256")
    found = {file.relative_to(folder).as_posix() for file in files_of(folder)}
    return wrong + [f"{name} is not in the manifest" for name in sorted(found - set(expected))]
