"""Image bytes of caption rows, for `shards.py`: found, checked, and never changed.

Images come from strangers: only their headers are decoded here, under a pixel limit, and an image that cannot be
had is named, not raised.
"""

import io
import struct
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from PIL import Image, UnidentifiedImageError

from pipeline.schema import Caption
from pipeline.storage import (
    IMAGE_EXTENSIONS,
    MAX_MEMBER_BYTES,
    MAX_PIXELS,
    ParquetRows,
    read_bytes,
    read_tar,
    size_of,
)

EXTENSION_OF_FORMAT: Final = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}

IMAGE_OK: Final = "ok"
IMAGE_NONE: Final = "none"
"""The input names no image, or a URL."""
IMAGE_MISSING: Final = "missing"
IMAGE_BROKEN: Final = "broken"
IMAGE_TOO_LARGE: Final = "too_large"


def check_image(data: bytes) -> tuple[str, str]:
    """Status and file extension of image bytes, from the headers and the end marker (no pixel is decoded)."""
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
    if extension is None or width * height == 0:
        return IMAGE_BROKEN, ""
    if width * height > MAX_PIXELS:
        return IMAGE_TOO_LARGE, ""
    if not _complete(data, extension):
        return IMAGE_BROKEN, ""
    return IMAGE_OK, extension


def _complete(data: bytes, extension: str) -> bool:
    """Whether the file ends where its format says: most broken downloads are cut short."""
    if extension == "jpg":
        return b"\xff\xd9" in data[-4096:]  # cameras and editors append a few bytes behind the end marker
    if extension == "webp":
        return len(data) >= 8 and len(data) >= int.from_bytes(data[4:8], "little") + 8
    return True


_Images = Iterator[tuple[dict[str, bytes], str]]


def read_images(captions: Sequence[Caption], *, format: str, faults: list[str]) -> _Images:
    """For each row in order: the other members of its sample by extension, and the image's status.

    The rows are those of one part: all of one input file of that `format`. Members are the image (under its true
    format's extension) and, from tars, whatever else the sample held.
    """
    if not captions:
        return iter(())
    readers = {"webdataset": _from_tar, "parquet": _from_parquet}
    return readers.get(format, _from_files)(captions, Path(captions[0].source), faults)


def _from_tar(captions: Sequence[Caption], path: Path, faults: list[str]) -> _Images:
    """Row i is the tar's sample i: the captions stage read the same samples in the same order."""
    samples = read_tar(path, wanted=None, faults=[])  # that stage has already named what is unreadable
    for caption, sample in zip(captions, samples, strict=True):
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


def _from_files(captions: Sequence[Caption], path: Path, faults: list[str]) -> _Images:
    for caption in captions:
        data, status = _read_file(path.parent, caption.image)
        members = {}
        if data is not None:
            status, extension = check_image(data)
            if status == IMAGE_OK:
                members[extension] = data
        _name_fault(caption, status, faults)
        yield members, status


def _read_file(folder: Path, image: str | None) -> tuple[bytes | None, str]:
    if image is None or "://" in image or "\0" in image:
        return None, IMAGE_NONE
    try:
        file = folder / image
        if size_of(file) > MAX_MEMBER_BYTES:
            return None, IMAGE_TOO_LARGE
        return read_bytes(file), IMAGE_OK
    except OSError:
        return None, IMAGE_MISSING


def _from_parquet(captions: Sequence[Caption], path: Path, faults: list[str]) -> _Images:
    """Images of a column of bytes or of {bytes, path} structs; `image` is "column[row]" there, else a path."""
    column = next((caption.image for caption in captions if caption.image), "").rpartition("[")[0]
    file = ParquetRows(path)
    if column not in file.names:
        yield from _from_files(captions, path, faults)
        return
    numbers = [int(caption.image[len(column) + 1 : -1]) for caption in captions if caption.image]
    values, last, value = file.values(column, numbers), -1, None
    for caption in captions:
        if caption.image is None:
            yield {}, IMAGE_NONE
            continue
        number = int(caption.image[len(column) + 1 : -1])
        if number != last:  # else another caption of the same image
            last, value = number, next(values)
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
        faults.append(f"{Path(caption.source).name}: image {caption.image!r} of {caption.key!r} is {status}")
