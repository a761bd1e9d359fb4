"""Paths in object stores and on web servers, through fsspec: s3://, gs://, hf://, https:// (to read) and memory://.

A `RemotePath` has the methods of `pathlib.Path` that this project uses, so that code which is handed one need not know.
Credentials, endpoints and proxies are the ecosystem's own affair (AWS_*, GOOGLE_APPLICATION_CREDENTIALS, HF_TOKEN,
fsspec's configuration). A request that fails is made again, after growing waits, where that may help. An object is
written as a whole under its own name: until that is done, it has its old content, or is not there.
"""

import errno
import hashlib
import importlib
import io
import posixpath
import random
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any, Final, TypeVar, cast

from pipeline.errors import UserError

EXTRAS: Final = {
    "s3": ("s3fs", "s3"),
    "gs": ("gcsfs", "gs"),
    "hf": ("huggingface_hub", "hf"),
    "http": ("aiohttp", "http"),
    "https": ("aiohttp", "http"),
    "memory": ("fsspec", "http"),
}
"""Scheme: the package that reads it, and the extra of ours that installs it."""
_OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "s3": {"use_listings_cache": False},
    "gs": {"use_listings_cache": False},
}
"""Listings are not kept: others write, too."""
_WHOLE: Final[dict[str, dict[str, Any]]] = {"s3": {"max_concurrency": 1}}
"""How an object is read at once: s3fs asks for its size first, else."""
ATTEMPTS: Final = 6
FIRST_WAIT_SECONDS: Final = 0.5
"""Doubled with each attempt: sixteen seconds in all, beside what the libraries wait for themselves."""
FIRST_BLOCK: Final = 2**18
LAST_BLOCK: Final = 2**23
"""Bytes of a request: the first after a jump, doubled up to the last as reading goes on."""

_URL: Final = re.compile(r"^([a-z][a-z0-9+.-]*):/+(.*)$", re.DOTALL)
_PERMANENT: Final = (
    FileNotFoundError,
    FileExistsError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
    NotImplementedError,
    ValueError,
    TypeError,
    ImportError,
)
_PERMANENT_NAMES: Final = (
    "NoCredentialsError",
    "PartialCredentialsError",
    "ProfileNotFound",
    "ParamValidationError",
    "DefaultCredentialsError",
    "RepositoryNotFoundError",
)
"""Errors of libraries that are imported only where they are used."""
Result = TypeVar("Result")


class RemoteError(OSError):
    """A store does not answer, or refuses: nothing is said of the file's own bytes, which may be read another time."""

    def __init__(self, message: str) -> None:
        super().__init__(errno.EIO, message)

    def __str__(self) -> str:
        return str(self.strerror)


def place(name: str | Path) -> Path:
    """The path that a name means: a local one, or that of a URL, also of one whose slashes `Path` made one.

    Raises:
        UserError: A URL of a kind that is not read.
    """
    found = _URL.match(str(name))
    if found is None:
        return Path(name)
    if found.group(1) in EXTRAS:
        return cast(Path, RemotePath(f"{found.group(1)}:", found.group(2)))
    if "://" not in str(name):
        return Path(name)
    known = ", ".join(f"{scheme}://" for scheme in EXTRAS)
    raise UserError(f"{name}: nothing is read from {found.group(1)}://; one of: {known}, or a local path")


def is_remote(path: object) -> bool:
    """Whether a path is in a store that fsspec reads."""
    return isinstance(path, RemotePath)


def as_remote(path: object) -> "RemotePath | None":
    """The path where it is in a store; None for a local one."""
    return path if isinstance(path, RemotePath) else None


def is_of_this_process(path: object) -> bool:
    """Whether no other process sees what is there."""
    return isinstance(path, RemotePath) and path.scheme == "memory"


class RemotePath(PurePosixPath):
    """A URL as a path. Stands in for `pathlib.Path`; what it lacks of that is not used here."""

    __slots__ = ()

    def __str__(self) -> str:
        return super().__str__().replace(":/", "://", 1)

    def __fspath__(self) -> str:
        return str(self)

    @property
    def scheme(self) -> str:
        """In front of the colon."""
        return self.parts[0].rstrip(":")

    @property
    def url(self) -> str:
        """As fsspec takes it, without dots that lead up."""
        return f"{self.scheme}://{posixpath.normpath('/'.join(self.parts[1:]))}"

    # --------------------------------------------------------------------------------------------------- as Path has it
    def resolve(self) -> "RemotePath":
        """Without dots: there are no links."""
        return RemotePath(f"{self.scheme}:", self.url.partition("://")[2])

    def expanduser(self) -> "RemotePath":
        """Itself."""
        return self

    def mkdir(self, **_: Any) -> None:
        """Nothing: folders are where objects are."""

    def exists(self) -> bool:
        """Whether it is an object or the beginning of one's name."""
        return self._info() is not None

    def is_file(self) -> bool:
        """Whether it is an object."""
        return (self._info() or {}).get("type") == "file"

    def is_dir(self) -> bool:
        """Whether objects lie below it."""
        return (self._info() or {}).get("type") == "directory"

    def stat(self) -> SimpleNamespace:
        """`st_size` alone."""
        found = self._info()
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", str(self))
        if not isinstance(found.get("size"), int):
            raise RemoteError(f"{self}: the server does not say how long it is: download it first")
        return SimpleNamespace(st_size=found["size"])

    def file_size(self) -> int | None:
        """Bytes of the object, by one question to the store; None where there is none."""
        found = self._info() or {}
        return int(found["size"]) if found.get("type") == "file" else None

    def _info(self) -> dict[str, Any] | None:
        if self.url.partition("://")[2].startswith("."):  # above a bucket
            return None
        try:
            found: dict[str, Any] = self._ask(lambda system: system.info(self.url))
        except FileNotFoundError:
            return None
        return found

    def glob(self, pattern: str) -> Iterator["RemotePath"]:
        """The objects below it whose path matches, folder by folder."""
        depth = pattern.count("/") + 1
        for path in self._below(maxdepth=depth):
            within = path.relative_to(self)
            if len(within.parts) == depth and within.match(pattern):
                yield path

    def rglob(self, pattern: str) -> Iterator["RemotePath"]:
        """The objects anywhere below it whose name matches."""
        return (path for path in self._below() if path.match(pattern))

    def iterdir(self) -> Iterator["RemotePath"]:
        """The objects right below it."""
        return self.glob("*")

    def _below(self, **how: Any) -> Iterator["RemotePath"]:
        try:
            names = self._ask(lambda system: system.find(self.url, **how))
        except FileNotFoundError:
            return
        root = self._system()._strip_protocol(self.url).rstrip("/")
        for name in names:
            yield self / str(name).removeprefix(root).lstrip("/")

    def open(self, mode: str = "r", **how: Any) -> Any:
        """The object to be read, block by block: as bytes with `rb`, else as text. It can be searched."""
        assert set(mode) <= set("rb"), mode  # written by `publish` alone
        file = _ReadAhead(_Blocks(self), LAST_BLOCK)
        return file if "b" in mode else io.TextIOWrapper(file, **how)

    def read_bytes(self) -> bytes:
        """All of it."""
        data: bytes = self._ask(lambda system: system.cat_file(self.url, **_WHOLE.get(self.scheme, {})))
        return data

    def read_text(self, encoding: str = "utf-8") -> str:
        """All of it."""
        return self.read_bytes().decode(encoding)

    def unlink(self, missing_ok: bool = False) -> None:
        """Delete the object."""
        try:
            self._ask(lambda system: system.rm_file(self.url))
        except FileNotFoundError:
            if not missing_ok:
                raise

    def replace(self, target: "RemotePath") -> "RemotePath":
        """Give the object another name of the same store."""
        self._ask(lambda system: system.cp_file(self.url, target.url))
        self.unlink()
        return target

    # ------------------------------------------------------------------------------------------------- beyond Path's
    def remove_folder(self) -> None:
        """Delete every object below it."""
        names = [str(path) for path in self._below()]
        if names:
            self._ask(lambda system: system.rm(names))

    def read_range(self, start: int, end: int) -> bytes:
        """The bytes from `start` up to before `end`, all of which the object has."""

        def read(system: Any) -> bytes:
            data: bytes = system.cat_file(self.url, start=start, end=end)
            if len(data) < end - start:
                raise OSError(f"{len(data)} bytes instead of {end - start}")
            return data

        data = self._ask(read)
        if len(data) > end - start:
            raise RemoteError(f"{self}: the server gives no parts of files: download it first")
        return data

    def put(self, file: Path) -> None:
        """Write a local file's content as this object."""
        self._refuse_to_write()
        self._ask(lambda system: system.put_file(str(file), self.url))

    def put_bytes(self, data: bytes, *, only_new: bool = False) -> None:
        """Write the object; FileExistsError where `only_new` and the store already has one."""
        self._refuse_to_write()
        self._ask(lambda system: system.pipe_file(self.url, data, mode="create" if only_new else "overwrite"))

    def _refuse_to_write(self) -> None:
        if self.scheme in ("http", "https"):
            raise UserError(
                f"{self}: {self.scheme}:// can be read, not written: give s3://, gs:// or a folder"
            )

    def _system(self) -> Any:
        package, extra = EXTRAS[self.scheme]
        try:
            fsspec = importlib.import_module("fsspec")
            importlib.import_module(package)
        except ImportError as error:
            raise UserError(
                f"{self}: {self.scheme}:// needs {package}: pip install 'cleanerclip[{extra}]'"
            ) from error
        system = fsspec.filesystem(self.scheme, **_options(self.scheme))
        if self.scheme == "hf":
            system.invalidate_cache()
        return system

    def _ask(self, request: Callable[[Any], Result]) -> Result:
        """The answer of the store; asked again where that may help.

        Raises:
            FileNotFoundError, FileExistsError: It is not there, or is.
            RemoteError: The store refuses, or does not answer.
            UserError: Its package is not installed.
        """
        system = self._system()
        for attempt in range(ATTEMPTS):
            try:
                return request(system)
            except (FileNotFoundError, FileExistsError, UserError):
                raise
            except Exception as error:
                if isinstance(error, _PERMANENT) or type(error).__name__ in _PERMANENT_NAMES:
                    raise RemoteError(f"{self}: {_said(error)}") from error
                if attempt == ATTEMPTS - 1:
                    raise RemoteError(f"{self}: {_said(error)} (asked {ATTEMPTS} times)") from error
            time.sleep(FIRST_WAIT_SECONDS * 2**attempt * random.uniform(0.5, 1))
        raise AssertionError


def _options(scheme: str) -> dict[str, Any]:
    if scheme not in ("http", "https"):
        return _OPTIONS.get(scheme, {})
    aiohttp = importlib.import_module("aiohttp")
    return {"client_kwargs": {"timeout": aiohttp.ClientTimeout(sock_connect=10, sock_read=30)}}


def _said(error: Exception) -> str:
    return " ".join((str(error) or type(error).__name__).split())


class _Blocks(io.RawIOBase):
    """An object's bytes, asked for in blocks that grow as reading goes on from one to the next."""

    def __init__(self, path: RemotePath) -> None:
        self._path, self._size = path, path.stat().st_size
        self._at, self._expected, self._block = 0, -1, FIRST_BLOCK
        self.name = str(path)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        self._block = min(2 * self._block, LAST_BLOCK) if self._at == self._expected else FIRST_BLOCK
        length: int = min(len(buffer), self._block, self._size - self._at)
        if length <= 0:
            return 0
        buffer[:length] = self._path.read_range(self._at, self._at + length)
        self._at += length
        self._expected = self._at
        return length

    def readall(self) -> bytes:
        start, self._at = self._at, max(self._at, self._size)
        return self._path.read_range(start, self._size) if start < self._size else b""


class _ReadAhead(io.BufferedReader):
    """Fills its buffer whatever it is asked for: text is read by `read1`, which asks for 8 KB each time otherwise."""

    def read1(self, size: int = -1, /) -> bytes:
        self.peek(1)
        return super().read1(size)


# ------------------------------------------------------------------------------------------------------------ written
_made: Final[dict[str, tuple[int, str]]] = {}


@contextmanager
def publish(path: RemotePath) -> Iterator[Path]:
    """A local path to write at; what stands there when the block ends without an error becomes the object."""
    path._refuse_to_write()
    with tempfile.TemporaryDirectory(prefix="cleanerclip-") as folder:
        file = Path(folder) / path.name
        file.touch()
        yield file
        with file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        path.put(file)
        note_made(cast(Path, path), file.stat().st_size, digest)


def note_made(path: Path, size: int, sha256: str) -> None:
    """Keep what a file was when it was written, for `take_made`."""
    _made[str(path)] = (size, sha256)


def take_made(path: Path) -> tuple[int, str] | None:
    """Size and SHA-256 of what this process wrote there, once: of what it meant to write, whatever is there now.

    None where they were not taken on the way: of files of a disk, all but those of `write_behind`.
    """
    return _made.pop(str(path), None)
