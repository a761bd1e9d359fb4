"""WebDataset tars: the one reader of the pipeline and the trainer, and the writer.

A tar is never unpacked. What is damaged or hostile is left out and reported, and reading goes on behind it. Same
samples, same bytes: headers with mtime 0 and no owner.
"""

import io
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final, Protocol

from pipeline.errors import UserError
from pipeline.storage.keys import is_inside, readable_name, split_name
from pipeline.storage.limits import (
    MAX_HEADER_BYTES,
    MAX_HEADERS,
    MAX_MEMBER_BYTES,
    MAX_TEXT_BYTES,
    PICKLE_EXTENSIONS,
)
from pipeline.storage.remote import as_remote

BROKEN_SHARD: Final = "broken_shard"
"""A stretch of the tar, or its end, is damaged."""
REFUSED_MEMBER: Final = "refused_member"
"""A link, a device, a name that leads out of the archive, or what could be a pickle."""
MEMBER_TOO_LARGE: Final = "member_too_large"

_ODD: Final = (RecursionError, KeyError, IndexError, TypeError, AttributeError, OverflowError)
"""What the standard library's reader adds to that on headers that nobody's tar writes."""

Report = Callable[[str, str], None]
"""Takes a fault: one of the reasons above, and what happened, with the file's name."""
_BEFORE_A_MEMBER: Final = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
_BROKEN: Final = (tarfile.TarError, OSError, EOFError, ValueError, zlib.error, lzma.LZMAError)
"""What damaged bytes lead to, compressed ones included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TarMember:
    """One file of a tar that is data."""

    key: str
    extension: str
    name: str
    """As it stands in the tar."""
    data: bytes | None
    """None where it was not asked for, and where it cannot be read."""
    readable: bool
    """Whether it could be read."""
    starts_sample: bool
    """Whether it is the first of its sample: members of a sample stand together, each extension once."""
    size: int
    """Bytes."""
    offset: int | None
    """The byte of the file at which its content begins; None in a compressed tar."""


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

    What cannot be read is left out and named in `faults`; reading goes on behind it.
    """
    sample: TarSample | None = None
    wants = (lambda _: True) if wanted is None else wanted.__contains__
    for member in read_members(path, wants=wants, report=lambda _, fault: faults.append(fault)):
        if sample is None or member.starts_sample:
            if sample is not None:
                yield sample
            sample = TarSample(member.key)
        sample.names[member.extension] = member.name
        if member.data is not None:
            sample.members[member.extension] = member.data
    if sample is not None:
        yield sample


def read_members(path: Path, *, wants: Callable[[str], bool], report: Report) -> Iterator[TarMember]:
    """The tar's data members in order, with the bytes of those whose extension `wants` asks for.

    A member is readable or not whether or not it is asked for, so that every pass over a tar finds the same.

    Raises:
        UserError: The file cannot be opened, or its disk fails.
    """
    try:
        tar = _open(path, report)
        if tar is not None:
            with tar:
                yield from _data_members(tar, path, wants, report)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error


def _open(path: Path, report: Report) -> tarfile.TarFile | None:
    """The tar; None where the file is none, and where it is empty: a shard of no samples."""
    try:
        if (remote := as_remote(path)) is not None:
            return tarfile.open(fileobj=remote.open("rb"), mode="r:*", ignore_zeros=True, tarinfo=_Header)
        return tarfile.open(path, "r:*", ignore_zeros=True, tarinfo=_Header)
    except (*_BROKEN, *_ODD) as error:
        _raise_if_of_the_disk(error)
        if not _only_zeros(path):
            report(BROKEN_SHARD, f"{path.name}: not a readable tar ({error})")
        return None


class _Header(tarfile.TarInfo):
    """A tar's header; what stands before a member (a long name, extended attributes) is limited in size and number."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Header":
        """A plain file's header by its name, size and checksum; any other one as tarfile reads it, at its pace."""
        size, checksum = buf[124:135], buf[148:154]
        if (
            len(buf) == tarfile.BLOCKSIZE
            and buf[156:157] == tarfile.REGTYPE
            and not buf[345]  # no first half of a long name
            and not size.strip(b"01234567")
            and not checksum.strip(b"01234567")
            and buf[135] in b"\0 "
            and buf[154] in b"\0 "
            and int(checksum, 8) == sum(buf) - sum(buf[148:156]) + 8 * ord(" ")
        ):
            header = cls(bytes(buf[:100]).partition(b"\0")[0].decode(encoding, errors))
            header.size = int(size, 8)
            return header
        return super().frombuf(buf, encoding, errors)

    def _proc_member(self, tarfile_: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _BEFORE_A_MEMBER:
            before: int = getattr(tarfile_, "headers_before", 0) + 1
            if self.size > MAX_HEADER_BYTES or before > MAX_HEADERS:
                tarfile_.headers_before = 0  # type: ignore[attr-defined]
                raise tarfile.ReadError("headers without end")
            tarfile_.headers_before = before  # type: ignore[attr-defined]
        else:
            tarfile_.headers_before = 0  # type: ignore[attr-defined]
        member: tarfile.TarInfo = super()._proc_member(tarfile_)  # type: ignore[misc]
        return member


def _raise_if_of_the_disk(error: Exception) -> None:
    """Damaged bytes give an OSError without a number, where any."""
    if isinstance(error, OSError) and error.errno is not None:
        raise error


def _only_zeros(path: Path) -> bool:
    with path.open("rb") as file:
        while block := file.read(2**20):
            if block.strip(b"\0"):
                return False
    return True


def _data_members(
    tar: tarfile.TarFile, path: Path, wants: Callable[[str], bool], report: Report
) -> Iterator[TarMember]:
    key, extensions = "", set[str]()
    for member in _headers(tar, path, report):
        split = _split(member, path, report)
        if split is None:
            continue
        starts = split[0] != key or split[1] in extensions or not extensions
        if starts:
            key, extensions = split[0], set()
        extensions.add(split[1])
        fits = _fits(member, path, split[1], report)
        data, whole = _content(tar, member, path, wanted=fits and wants(split[1]), report=report)
        yield TarMember(
            key=key,
            extension=split[1],
            name=readable_name(member.name),
            data=data,
            readable=fits and whole,
            starts_sample=starts,
            size=member.size,
            offset=member.offset_data if isinstance(tar.fileobj, io.BufferedReader) else None,
        )
        if not whole:
            return  # nothing stands behind it


def _headers(tar: tarfile.TarFile, path: Path, report: Report) -> Iterator[tarfile.TarInfo]:
    """The tar's members; a damaged stretch between two of them, or at the end, is reported."""
    expected = 0
    while True:
        try:
            member = tar.next()
        except (*_BROKEN, *_ODD) as error:
            _raise_if_of_the_disk(error)
            report(BROKEN_SHARD, f"{path.name}: {error} after byte {expected}; the rest was not read")
            return
        found = path.stat().st_size if member is None else member.offset
        if isinstance(tar.fileobj, io.BufferedReader) and _damaged(tar.fileobj, expected, found):
            report(
                BROKEN_SHARD,
                f"{path.name}: damaged tar headers at byte {expected}; skipped to byte {found}",
            )
        if member is None:
            return
        if tar.offset <= member.offset:
            report(BROKEN_SHARD, f"{path.name}: a size below 0 at byte {expected}; the rest was not read")
            return
        tar.members.clear()  # type: ignore[attr-defined]  # else memory grows with the shard
        expected = tar.offset
        yield member


def _damaged(file: IO[bytes], start: int, end: int) -> bool:
    """Whether the bytes between two members are anything but padding."""
    if end <= start:
        return False
    here = file.tell()
    file.seek(start)
    damaged = any(file.read(min(2**20, end - at)).strip(b"\0") for at in range(start, end, 2**20))
    file.seek(here)
    return damaged


def _split(member: tarfile.TarInfo, path: Path, report: Report) -> tuple[str, str] | None:
    """Key and extension of a member; None for what is not data."""
    if member.isdir():
        return None
    if not member.isfile() or member.issparse() or not is_inside(readable_name(member.name)):
        report(
            REFUSED_MEMBER,
            f"{path.name}: member {member.name!r} is not a plain file inside the archive; skipped",
        )
        return None
    split = split_name(member.name)
    if split is not None and split[1].rpartition(".")[2] in PICKLE_EXTENSIONS:
        report(REFUSED_MEMBER, f"{path.name}: member {member.name!r} could be a pickle; not read")
        return None
    return split


def _fits(member: tarfile.TarInfo, path: Path, extension: str, report: Report) -> bool:
    limit = MAX_TEXT_BYTES if extension in ("txt", "json") else MAX_MEMBER_BYTES
    if member.size > limit:
        report(
            MEMBER_TOO_LARGE,
            f"{path.name}: member {member.name!r} has {member.size} bytes (limit {limit}); not read",
        )
    return member.size <= limit


def _content(
    tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path, *, wanted: bool, report: Report
) -> tuple[bytes | None, bool]:
    """The member's bytes where they are wanted, and whether the tar holds all of them."""
    why = "unexpected end of data"
    try:
        data = _read(tar, member) if wanted else None
        if len(data) == member.size if data is not None else _has_its_end(tar, member):
            return data, True
    except _BROKEN as error:
        _raise_if_of_the_disk(error)
        why = str(error)
    report(BROKEN_SHARD, f"{path.name}: member {member.name!r}: {why}; the rest was not read")
    return None, False


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    assert tar.fileobj is not None
    tar.fileobj.seek(member.offset_data)
    return tar.fileobj.read(member.size)


def _has_its_end(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bool:
    """Whether the member's last byte is there; what comes before it is stepped over."""
    if member.size == 0:
        return True
    assert tar.fileobj is not None
    tar.fileobj.seek(member.offset_data + member.size - 1)
    return len(tar.fileobj.read(1)) == 1


class _Writable(Protocol):
    def write(self, data: bytes, /) -> int: ...


class TarWriter:
    """Writes WebDataset samples so that the same samples give the same bytes: those of Python's tarfile."""

    def __init__(self, file: _Writable) -> None:
        self._file = file
        self._size = 0

    def write(self, key: str, members: dict[str, bytes]) -> None:
        """Append the members `key.extension`, sorted by extension."""
        blocks = []
        for extension in sorted(members):
            data = members[extension]
            blocks += [_header(f"{key}.{extension}", len(data)), data, bytes(-len(data) % tarfile.BLOCKSIZE)]
        self._size += self._file.write(b"".join(blocks))

    def close(self) -> None:
        """Write the end-of-archive blocks."""
        end = 2 * tarfile.BLOCKSIZE
        self._file.write(bytes(end + -(self._size + end) % tarfile.RECORDSIZE))


def _member(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o644
    return info


_PLAIN: Final = _member("", 0).tobuf(tarfile.PAX_FORMAT)
"""A header without a name, a size and their checksum."""
_SIZE_AT: Final = 124
_SUM_AT: Final = 148
_PLAIN_SUM: Final = sum(_PLAIN) - sum(_PLAIN[_SUM_AT : _SUM_AT + 8]) + 8 * ord(" ") - 11 * ord("0")
"""Of the bytes beside name and size; the checksum itself counts as blanks."""


def _header(name: str, size: int) -> bytes:
    """The blocks before a member's data; put together for plain names, since tarfile takes ten times as long."""
    if len(name) > tarfile.LENGTH_NAME or not name.isascii() or "\0" in name or size >= 8**11:
        return _member(name, size).tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    start, digits = name.encode(), b"%011o" % size
    checksum = _PLAIN_SUM + sum(start) + sum(digits)
    return b"%b%b%b\0%b%06o\0%b" % (
        start.ljust(tarfile.LENGTH_NAME, b"\0"),
        _PLAIN[tarfile.LENGTH_NAME : _SIZE_AT],
        digits,
        _PLAIN[_SIZE_AT + 12 : _SUM_AT],
        checksum,
        _PLAIN[_SUM_AT + 7 :],
    )
