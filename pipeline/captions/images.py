"""Image bytes of caption rows, for `shards.py`: found, checked, and never changed.

Images come from strangers: only their headers are decoded here, under a pixel limit, and an image that cannot be
had is named, not raised.
"""

import io
import re
import struct
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline.errors import BadInput, UserError
from pipeline.schema import Caption
from pipeline.storage import (
    IMAGE_EXTENSIONS,
    MAX_MEMBER_BYTES,
    MAX_PIXELS,
    ParquetRows,
    TarSample,
    find_named,
    place,
    read_regular,
    read_tar,
)

EXTENSION_OF_FORMAT: Final = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}

IMAGE_OK: Final = "ok"
IMAGE_NONE: Final = "none"
"""The input names no image, or a URL."""
IMAGE_MISSING: Final = "missing"
IMAGE_BROKEN: Final = "broken"
IMAGE_TOO_LARGE: Final = "too_large"
IMAGE_REFUSED: Final = "refused"
"""A path that leads out of the folder of images, or to what is no regular file."""


def check_image(data: bytes) -> tuple[str, str]:
    """Status and file extension of image bytes, from the headers and the end marker (no pixel is decoded)."""
    size = _plain_jpeg_size(data)
    if size is not None:
        return _judged(data, "jpg", *size)
    from PIL import Image, UnidentifiedImageError  # here: text alone needs no Pillow

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data)) as image:
                extension = EXTENSION_OF_FORMAT.get(image.format or "")
                width, height = image.size
                if extension == "png":
                    image.verify()
    except Image.DecompressionBombError:
        return IMAGE_TOO_LARGE, ""
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, struct.error, IndexError):
        return IMAGE_BROKEN, ""
    return _judged(data, extension, width, height)


def _judged(data: bytes, extension: str | None, width: int, height: int) -> tuple[str, str]:
    if extension is None or width * height == 0:
        return IMAGE_BROKEN, ""
    if width * height > MAX_PIXELS:
        return IMAGE_TOO_LARGE, ""
    if not _complete(data, extension):
        return IMAGE_BROKEN, ""
    return IMAGE_OK, extension


_SEGMENT: Final = struct.Struct(">HH")
_START_OF_SCAN, _TABLES, _JFIF = 0xFFDA, 0xFFDB, 0xFFE0
_FRAMES: Final = (0xFFC0, 0xFFC1, 0xFFC2)
_SKIPPED: Final = (0xFFC4, 0xFFDD, 0xFFFE)
"""Huffman tables, restart intervals, comments."""


def _plain_jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of a JPEG of the plainest build, all that Pillow would look at; None leaves the bytes to Pillow.

    Pillow makes objects of what nobody asks for here, which takes ten times as long.
    """
    if not data.startswith(b"\xff\xd8\xff"):
        return None
    at, size = 2, None
    while at + 4 <= len(data):
        marker, length = _SEGMENT.unpack_from(data, at)
        start, at = at + 4, at + 2 + length
        if length < 2 or at > len(data):
            return None
        if marker == _START_OF_SCAN:
            return size
        if marker in _FRAMES and size is None:
            size = _plain_frame(data, start, length)
            known = size is not None
        elif marker == _TABLES:
            known = (length - 2) % 65 == 0 and all(first < 16 for first in data[start:at:65])
        elif marker == _JFIF:
            known = length >= 16 and data.startswith(b"JFIF\0", start)
        else:
            known = marker in _SKIPPED
        if not known:
            return None
    return None


def _plain_frame(data: bytes, start: int, length: int) -> tuple[int, int] | None:
    if length not in (11, 17):  # of one layer or three
        return None
    bits, height, width, layers = struct.unpack_from(">BHHB", data, start)
    return (width, height) if bits == 8 and length == 8 + 3 * layers else None


def _complete(data: bytes, extension: str) -> bool:
    """Whether the file ends where its format says: most broken downloads are cut short."""
    if extension == "jpg":
        return b"\xff\xd9" in data[-4096:]  # cameras and editors append a few bytes behind the end marker
    if extension == "webp":
        return len(data) >= 8 and len(data) >= int.from_bytes(data[4:8], "little") + 8
    return True


_Images = Iterator[tuple[dict[str, bytes], str]]


def read_images(
    captions: Sequence[Caption], *, format: str, faults: list[str], root: Path | None = None
) -> _Images:
    """For each row in order: the other members of its sample by extension, and the image's status.

    The rows are those of one part: all of one input file of that `format`. Members are the image (under its true
    format's extension) and, from tars, whatever else the sample held. Paths are relative to the input file's folder,
    and none leads out of `root`, by default that folder.
    """
    if not captions:
        return iter(())
    path = find_named(captions[0].source)
    if format == "webdataset":
        return _from_tar(captions, path, faults)
    where = _Place(folder=path.parent, root=(path.parent if root is None else root.expanduser()).resolve())
    if format == "parquet":
        return _from_parquet(captions, path, where, faults)
    return _from_files(captions, where, faults)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where images are."""

    folder: Path
    """Their paths are relative to it."""
    root: Path
    """None leads out of it."""


def _from_tar(captions: Sequence[Caption], path: Path, faults: list[str]) -> _Images:
    """Row i is the tar's sample i: the captions stage read the same samples in the same order."""
    samples = read_tar(path, wanted=None, faults=[])  # that stage has already named what is unreadable
    for caption in captions:
        sample = next(samples, None)
        if sample is None or not _same(caption, sample):
            raise _changed(path)
        members = dict(sample.members)
        data = next((members.pop(e) for e in IMAGE_EXTENSIONS if e in members), None)
        if data is None:
            status = IMAGE_NONE if caption.image is None else IMAGE_BROKEN
        else:
            status, extension = check_image(data)
            if status == IMAGE_OK:
                members[extension] = data
        _name_fault(caption, status, faults)
        yield members, status
    if next(samples, None) is not None:
        raise _changed(path)


def _same(caption: Caption, sample: TarSample) -> bool:
    """Whether the sample is the one that the caption was read from: its key, which may have got a number, and image."""
    image = next((sample.names[e] for e in IMAGE_EXTENSIONS if e in sample.names), None)
    numbered = re.fullmatch(r"(?:-\d+)*", caption.key.removeprefix(sample.key)) is not None
    return caption.key.startswith(sample.key) and numbered and caption.image == image


def _changed(path: Path) -> UserError:
    return UserError(f"{path} is not what its captions were read from: choose another --out, or --overwrite")


def _from_files(captions: Sequence[Caption], place: _Place, faults: list[str]) -> _Images:
    for caption in captions:
        data, status = _read_file(place, caption.image)
        members = {}
        if data is not None:
            status, extension = check_image(data)
            if status == IMAGE_OK:
                members[extension] = data
        _name_fault(caption, status, faults)
        yield members, status


def _read_file(place: _Place, image: str | None) -> tuple[bytes | None, str]:
    if image is None or "://" in image or "\0" in image:
        return None, IMAGE_NONE
    try:
        file = (place.folder / image).resolve()
        if not file.is_relative_to(place.root):
            return None, IMAGE_REFUSED
        data = read_regular(file, limit=MAX_MEMBER_BYTES)
    except ValueError:
        return None, IMAGE_REFUSED
    except (OSError, RuntimeError):  # a circle of links, too
        return None, IMAGE_MISSING
    return data, IMAGE_TOO_LARGE if data is None else IMAGE_OK


def _from_parquet(captions: Sequence[Caption], path: Path, place: _Place, faults: list[str]) -> _Images:
    """Images of a column of bytes or of {bytes, path} structs; `image` is "column[row]" there, else a path."""
    column = next((caption.image for caption in captions if caption.image), "").rpartition("[")[0]
    file = ParquetRows(path)
    reference = re.compile(re.escape(column) + r"\[\d+\]")
    if column not in file.holding_bytes or not all(
        reference.fullmatch(caption.image) for caption in captions if caption.image
    ):
        yield from _from_files(captions, place, faults)
        return
    numbers = [int(caption.image[len(column) + 1 : -1]) for caption in captions if caption.image]
    values, last, value = file.values(column, numbers), -1, None
    for caption in captions:
        if caption.image is None:
            yield {}, IMAGE_NONE
            continue
        number = int(caption.image[len(column) + 1 : -1])
        if number != last:  # else another caption of the same image
            try:
                last, value = number, next(values)
            except (BadInput, StopIteration):
                raise _changed(path) from None
        yield _parquet_image(caption, value, faults)


def _parquet_image(caption: Caption, value: object, faults: list[str]) -> tuple[dict[str, bytes], str]:
    data = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(data, bytes):
        _name_fault(caption, IMAGE_MISSING, faults)
        return {}, IMAGE_MISSING
    status, extension = check_image(data)
    _name_fault(caption, status, faults)
    return ({extension: data} if status == IMAGE_OK else {}), status


def _name_fault(caption: Caption, status: str, faults: list[str]) -> None:
    if status not in (IMAGE_OK, IMAGE_NONE):
        faults.append(f"{place(caption.source).name}: image {caption.image!r} of {caption.key!r} is {status}")
