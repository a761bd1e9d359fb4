"""Files as wholes: written at once or not at all, read, hashed, held.

Whatever is written is written to `NAME.part` and renamed, so a file that has its name is whole. Same content, same
bytes: no times, no host names.
"""

import contextlib
import hashlib
import json
import os
import queue
import shutil
import stat
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from pipeline.errors import UserError
from pipeline.storage.keys import readable_name
from pipeline.storage.remote import RemotePath, as_remote, is_remote, note_made, place, publish
from pipeline.storage.remote_locks import hold_remote

if sys.platform != "win32":
    import fcntl

PART: Final = ".part"
"""Behind the name of a file that is being written."""
SECONDS_OF_LINES: Final = 10.0
"""How far a log in a store may be behind."""
MAX_WAIT_SECONDS: Final = 1.0
"""For a folder: the workers of a run that was killed need a moment to see it."""


@contextlib.contextmanager
def write_by_path(path: Path) -> Iterator[Path]:
    """Another path to write `path` at, for libraries that open files by themselves.

    The file gets its name, with the user's permissions, only when the block ends without an error. An object of a store
    is written here and uploaded then.
    """
    if (remote := as_remote(path)) is not None:
        with publish(remote) as file:
            yield file
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + PART)
    part.touch()
    mode = part.stat().st_mode
    yield part
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    if part.stat().st_mode != mode:  # some libraries make what they write private
        part.chmod(mode)
    part.replace(path)


@contextlib.contextmanager
def write_atomically(path: Path) -> Iterator[IO[bytes]]:
    """A binary file to write `path` through; it gets its name only when the block ends without an error."""
    with write_by_path(path) as part, part.open("wb") as file:
        yield file


_BLOCK: Final = 2**20
_BLOCKS_WAITING: Final = 16
_BLOCKS_BEFORE_A_FLUSH: Final = 32


class _Behind:
    """What is written to a file by a thread, in blocks, and hashed there: both let Python go on meanwhile."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._waiting: queue.Queue[list[bytes] | None] = queue.Queue(_BLOCKS_WAITING)
        self._block, self._room = list[bytes](), _BLOCK
        self._failed: OSError | None = None
        self.digest, self.size = hashlib.sha256(), 0
        self._thread = threading.Thread(target=self._work, name="write-behind", daemon=True)
        self._thread.start()

    def write(self, data: bytes) -> int:
        if self._failed is not None:
            raise self._failed
        self._block.append(data)
        self._room -= len(data)
        if self._room <= 0:
            self._waiting.put(self._block)
            self._block, self._room = [], _BLOCK
        return len(data)

    def close(self) -> None:
        """Wait until all is written; OSError where that failed."""
        self._waiting.put(self._block)
        self._waiting.put(None)
        self._thread.join()
        if self._failed is not None:
            raise self._failed

    def _work(self) -> None:
        number = 0
        while (block := self._waiting.get()) is not None:
            if self._failed is not None:
                continue
            data = b"".join(block)
            try:
                self._file.write(data)
                number += 1
                if number % _BLOCKS_BEFORE_A_FLUSH == 0:  # the disk has begun when the end waits for it
                    os.fsync(self._file.fileno())
            except OSError as error:
                self._failed = error
            self.digest.update(data)
            self.size += len(data)


@contextlib.contextmanager
def write_behind(path: Path) -> Iterator[_Behind]:
    """As `write_atomically`, for large files: written and hashed by a thread; `take_made` says size and hash then."""
    with write_atomically(path) as file:
        behind = _Behind(file)
        try:
            yield behind
        finally:
            behind.close()
    note_made(path, behind.size, behind.digest.hexdigest())


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8."""
    with write_atomically(path) as file:
        file.write(text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON with a final newline."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def append_line(path: Path, line: str) -> None:
    """Add a line to a file for people, made where it is missing; a file that cannot be written is left as it is.

    An object of a store cannot be added to: it is written anew, with all its lines, at most every SECONDS_OF_LINES, and
    by `write_lines`.
    """
    if (remote := as_remote(path)) is not None:
        kept = _lines.get(remote)
        if kept is None:
            kept = _lines[remote] = _Lines(_text_of(remote))
        kept.text += line + "\n"
        if time.monotonic() - kept.written > SECONDS_OF_LINES:
            write_lines(path)
        return
    with contextlib.suppress(OSError), path.open("a", encoding="utf-8", errors="replace") as file:
        file.write(line + "\n")


@dataclass(slots=True)
class _Lines:
    text: str
    written: float = 0.0


_lines: Final[dict[RemotePath, _Lines]] = {}


def _text_of(path: RemotePath) -> str:
    try:
        return path.read_bytes().decode("utf-8", "replace")
    except (OSError, UserError):
        return ""


def write_lines(path: Path) -> None:
    """Write what `append_line` has kept of an object of a store; one that cannot be written is left as it is."""
    if (remote := as_remote(path)) is not None and (kept := _lines.get(remote)) is not None:
        kept.written = time.monotonic()
        with contextlib.suppress(OSError, UserError):
            remote.put_bytes(kept.text.encode("utf-8", "replace"))


def remove_folder(folder: Path) -> None:
    """Delete a folder and all in it, where it is there."""
    if (remote := as_remote(folder)) is not None:
        remote.remove_folder()
    else:
        shutil.rmtree(folder, ignore_errors=True)


def is_file(path: Path) -> bool:
    """Whether it is a file; False for a name that no file can have."""
    return path.is_file() if is_remote(path) else os.path.isfile(path)


def remove_unfinished(folder: Path) -> None:
    """Delete what interrupted writers left in the folders of `folder`; a store has none."""
    if is_remote(folder):
        return
    for leftover in folder.glob(f"*/*{PART}"):
        leftover.unlink()


def read_json(path: Path) -> Any:
    """The value of a JSON file; UserError where it is none."""
    try:
        return json.loads(path.read_bytes().decode())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no JSON file: {error}") from error


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of the file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe_file(path: Path) -> dict[str, Any]:
    """`bytes` and `sha256` of a file, opened once."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"bytes": file.tell(), "sha256": digest}


def hash_named(path: Path) -> tuple[Path, str]:
    """The path and its file's hash, for results that come in any order."""
    return path, sha256_file(path)


def read_bytes(path: Path) -> bytes:
    """All bytes of a file."""
    return path.read_bytes()


def read_regular(path: Path, *, limit: int) -> bytes | None:
    """All bytes of a regular file; None where it has more than `limit`.

    Raises:
        ValueError: It is a device, a pipe or a folder, which may have no end.
        OSError: It cannot be read.
    """
    if (remote := as_remote(path)) is not None:
        return remote.read_bytes() if remote.stat().st_size <= limit else None
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode):
        os.close(handle)
        raise ValueError(f"{path} is no regular file")
    with os.fdopen(handle, "rb") as file:
        data = file.read(limit + 1) if found.st_size <= limit else b""
        return data if found.st_size <= limit and len(data) <= limit else None


def size_of(path: Path) -> int:
    """The number of bytes of a file."""
    return path.stat().st_size


def size_if_file(path: Path) -> int | None:
    """The number of bytes of a file; None where there is none of that name."""
    try:
        if (remote := as_remote(path)) is not None:
            return remote.file_size()
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def named(path: Path) -> str:
    """The path as it is written down: bytes that are no UTF-8 as U+FFFD."""
    return readable_name(str(path))


def find_named(name: str) -> Path:
    """The file that `named` wrote down, also where its own name is no UTF-8."""
    path = place(name)
    if is_remote(path) or path.exists() or "\ufffd" not in path.name:
        return path
    folder = path.parent
    found = (entry for entry in folder.iterdir() if named(entry) == name) if folder.is_dir() else iter(())
    return next(found, path)


_held: Final[list[int]] = []


def held_folders() -> tuple[int, ...]:
    """The handles of the folders that this process holds: a process that has a copy of one holds it, too."""
    return tuple(_held)


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Keeps others that `hold` this folder from writing there while the block runs; makes the folder if absent.

    The lock goes with its process and those it handed `held_folders` to, however they end: nothing is left to clean
    up. Where a file system has no locks, and on Windows, the folder is not held. One of a store is held by an object
    (`remote_locks`).

    Raises:
        UserError: Another process holds it, and does so for MAX_WAIT_SECONDS; or it is a file.
    """
    if (remote := as_remote(folder)) is not None:
        with hold_remote(remote):
            yield
        return
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file, and a folder is wanted")
    folder.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32":
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        _lock(handle, folder)
        _held.append(handle)
        yield
    finally:
        if handle in _held:
            _held.remove(handle)
        os.close(handle)


def _lock(handle: int, folder: Path) -> None:
    until = time.monotonic() + MAX_WAIT_SECONDS
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > until:
                raise UserError(
                    f"another process is writing to {folder}: wait for it to end, or choose another --out"
                ) from None
            time.sleep(0.02)
        except OSError:
            return  # some network file systems
