"""Parquet, tar and JSON files: the only code of the pipeline that opens data files.

Whatever is written is written to `NAME.part` and renamed, so a file that has its name is whole. Same rows, same
bytes: no times, no host names, tar headers with mtime 0 and no owner.
"""

import contextlib
import gzip
import hashlib
import io
import json
import os
import re
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import UserError

if sys.platform != "win32":
    import fcntl

MAX_TEXT_BYTES = 16 * 2**20
"""A caption or JSON member above this is refused: no caption is that long."""
MAX_MEMBER_BYTES = 512 * 2**20
ROW_GROUP_ROWS = 50_000
PICKLE_SUFFIXES = ("pkl", "pickle", "pyd", "pt", "pth", "ckpt", "npy", "npz", "joblib")
"""Members that a reader may unpickle: never read, never copied."""
_WEBDATASET_NAME = re.compile(r"^((?:.*/|)[^.]+)[.]([^/]*)$")


@contextlib.contextmanager
def write_atomically(path: Path) -> Iterator[IO[bytes]]:
    """A binary file to write `path` through; it gets its name only when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Keeps others that `hold` this folder from writing there while the block runs; makes the folder if absent.

    The lock goes with its process, however that ends: nothing is left to clean up. Where a file system has no
    locks, and on Windows, the folder is not held.

    Raises:
        UserError: Another process holds it, or it is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file, and a folder is wanted")
    folder.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32":
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise UserError(
            f"another process is writing to {folder}: wait for it to end, or choose another --out"
        ) from None
    except OSError:
        pass  # some network file systems
    try:
        yield
    finally:
        os.close(handle)


def write_table(path: Path, table: pa.Table) -> None:
    """Write `table` as one zstd-compressed Parquet file."""
    with write_atomically(path) as file:
        pq.write_table(table, file, compression="zstd", row_group_size=ROW_GROUP_ROWS)


def read_table(path: Path) -> pa.Table:
    """The table of one Parquet file."""
    return pq.ParquetFile(path).read()


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON with a final newline."""
    with write_atomically(path) as file:
        file.write((json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """The value of a JSON file; UserError where it is none."""
    try:
        with path.open(encoding="utf-8") as file:
            return json.load(file)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{path} is no JSON file: {error}") from error


def open_text(path: Path) -> IO[str]:
    """A UTF-8 text file, gunzipped where its name ends in .gz; undecodable bytes become U+FFFD."""
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", errors="replace", newline="")
    return path.open(encoding="utf-8-sig", errors="replace", newline="")


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of the file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ------------------------------------------------------------------------------------------------------- tar files
@dataclass(slots=True)
class TarSample:
    """The members of a WebDataset sample: consecutive files that share their name up to the first dot."""

    key: str
    members: dict[str, bytes] = field(default_factory=dict)
    """Extension to bytes; members that were not asked for are left out."""
    names: dict[str, str] = field(default_factory=dict)
    """Extension to the member's name in the tar, of every member."""


def read_tar(path: Path, *, wanted: frozenset[str] | None, faults: list[str]) -> Iterator[TarSample]:
    """The samples of a WebDataset tar in order, with the bytes of the `wanted` extensions (None = of all).

    What cannot be read is left out and named in `faults`; reading goes on behind it. The tar is never unpacked.
    """
    try:
        tar = tarfile.open(path, "r:*", ignore_zeros=True)
    except (tarfile.TarError, OSError, EOFError) as error:
        if path.stat().st_size == 0 or _only_zeros(path):
            return  # an empty tar is a shard of no samples
        faults.append(f"{path.name}: not a readable tar ({error})")
        return
    sample: TarSample | None = None
    with tar:
        for member in _members(tar, path, faults):
            split = _split_name(member, path, faults)
            if split is None:
                continue
            key, extension = split
            if sample is None or sample.key != key or extension in sample.names:
                if sample is not None:
                    yield sample
                sample = TarSample(key)
            sample.names[extension] = member.name
            if wanted is None or extension in wanted:
                data = _read_member(tar, member, path, extension, faults)
                if data is not None:
                    sample.members[extension] = data
    if sample is not None:
        yield sample


def _only_zeros(path: Path) -> bool:
    with path.open("rb") as file:
        while block := file.read(2**20):
            if block.strip(b"\0"):
                return False
    return True


def _members(tar: tarfile.TarFile, path: Path, faults: list[str]) -> Iterator[tarfile.TarInfo]:
    """The tar's members; a damaged stretch between two of them, or at the end, is reported."""
    expected = 0
    while True:
        try:
            member = tar.next()
        except (tarfile.TarError, OSError, EOFError, ValueError) as error:
            faults.append(f"{path.name}: {error} after byte {expected}; the rest was not read")
            return
        found = path.stat().st_size if member is None else member.offset
        if isinstance(tar.fileobj, io.BufferedReader) and _damaged(tar.fileobj, expected, found):
            faults.append(f"{path.name}: damaged tar headers at byte {expected}; skipped to byte {found}")
        if member is None:
            return
        tar.members.clear()  # type: ignore[attr-defined]  # else memory grows with the shard
        expected = tar.offset
        yield member


def _damaged(file: IO[bytes], start: int, end: int) -> bool:
    """Whether the bytes between two members are anything but padding."""
    here = file.tell()
    file.seek(start)
    damaged = any(file.read(min(2**20, end - at)).strip(b"\0") for at in range(start, end, 2**20))
    file.seek(here)
    return damaged


def _split_name(member: tarfile.TarInfo, path: Path, faults: list[str]) -> tuple[str, str] | None:
    """Sample key and lower-case extension of a member, by WebDataset's rule; None for what is not data."""
    if member.isdir():
        return None
    name = member.name.removeprefix("./")
    parts = PurePosixPath(name).parts
    if not member.isfile() or ".." in parts or name.startswith("/") or not name.isprintable():
        faults.append(f"{path.name}: member {member.name!r} is not a plain file inside the archive; skipped")
        return None
    matched = _WEBDATASET_NAME.match(name)
    if matched is None or parts[-1].startswith(("__", "._")):
        return None  # no extension, a hidden file, or WebDataset's own metadata
    key, extension = matched.group(1), matched.group(2).lower()
    if extension.rsplit(".", 1)[-1] in PICKLE_SUFFIXES:
        faults.append(f"{path.name}: member {member.name!r} could be a pickle; not read")
        return None
    return key, extension


def _read_member(
    tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path, extension: str, faults: list[str]
) -> bytes | None:
    limit = MAX_TEXT_BYTES if extension in ("txt", "json") else MAX_MEMBER_BYTES
    if member.size > limit:
        faults.append(
            f"{path.name}: member {member.name!r} has {member.size} bytes (limit {limit}); not read"
        )
        return None
    try:
        file = tar.extractfile(member)
        data = b"" if file is None else file.read()
    except (tarfile.TarError, OSError, EOFError) as error:
        faults.append(f"{path.name}: member {member.name!r}: {error}")
        return None
    if len(data) != member.size:
        faults.append(f"{path.name}: member {member.name!r} ends after {len(data)} of {member.size} bytes")
        return None
    return data


class TarWriter:
    """Writes WebDataset samples so that the same samples give the same bytes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._tar = tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT)

    def write(self, key: str, members: dict[str, bytes]) -> None:
        """Append the members `key.extension`, sorted by extension."""
        for extension in sorted(members):
            info = tarfile.TarInfo(f"{key}.{extension}")
            info.size = len(members[extension])
            info.mode = 0o644
            self._tar.addfile(info, io.BytesIO(members[extension]))

    def close(self) -> None:
        """Write the end-of-archive blocks."""
        self._tar.close()
