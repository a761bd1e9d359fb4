"""Samples with labels or captions as files hold them, nothing decoded: WebDataset shards and Parquet files.

What cannot be read is named in `faults`, and reading goes on behind it. Memory is bounded by one sample, or by one
batch of rows. Called by `labelled`, `captioned` and `data_check`.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pipeline.errors import UserError
from pipeline.storage import IMAGE_EXTENSIONS, ParquetRows, read_tar
from trainer.records import clean_text

ROWS_AT_A_TIME: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class RawLabelled:
    """One sample of a labelled set."""

    name: str
    """For messages: file and key."""
    key: str
    has_image: bool
    image: bytes | None
    """None where there is none, and where images were not asked for."""
    label: str | None
    """As the file has it: a number, or what stands for the class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawCaptioned:
    """One sample of a captioned set."""

    name: str
    key: str
    has_image: bool
    image: bytes | None
    captions: tuple[str, ...]


def read_labelled_tar(path: Path, *, images: bool, faults: list[str]) -> Iterator[RawLabelled]:
    """The samples of a shard with their `.cls`; without `images`, their bytes are stepped over."""
    wanted = frozenset((*IMAGE_EXTENSIONS, "cls")) if images else frozenset({"cls"})
    for sample in read_tar(path, wanted=wanted, faults=faults):
        name = f"{path.name}: {sample.key}"
        has_image = any(extension in sample.names for extension in IMAGE_EXTENSIONS)
        image = next((sample.members[e] for e in IMAGE_EXTENSIONS if e in sample.members), None)
        label = sample.members.get("cls")
        if not has_image or label is None:
            faults.append(f"{name}: no {'.cls label' if has_image else 'image'}")
        yield RawLabelled(
            name=name,
            key=sample.key,
            has_image=has_image,
            image=image,
            label=None if label is None else label.decode("utf-8", errors="replace").strip(),
        )


def read_captioned_tar(path: Path, *, images: bool, faults: list[str]) -> Iterator[RawCaptioned]:
    """The samples of a shard with all their captions: `captions` of the JSON member, else `.txt`, else `caption`."""
    texts = ("txt", "json")
    wanted = frozenset((*IMAGE_EXTENSIONS, *texts)) if images else frozenset(texts)
    for sample in read_tar(path, wanted=wanted, faults=faults):
        name = f"{path.name}: {sample.key}"
        has_image = any(extension in sample.names for extension in IMAGE_EXTENSIONS)
        captions = _captions(sample.members, name, faults)
        if not has_image or not captions:
            faults.append(f"{name}: no {'caption' if has_image else 'image'}")
        yield RawCaptioned(
            name=name,
            key=sample.key,
            has_image=has_image,
            image=next((sample.members[e] for e in IMAGE_EXTENSIONS if e in sample.members), None),
            captions=captions,
        )


def _captions(members: Mapping[str, bytes], name: str, faults: list[str]) -> tuple[str, ...]:
    record: Any = {}
    if "json" in members:
        try:
            record = json.loads(members["json"])
        except (ValueError, RecursionError):
            faults.append(f"{name}: its JSON cannot be read")
    several = record.get("captions") if isinstance(record, dict) else None
    if isinstance(several, list):
        captions = [clean_text(caption) for caption in several]
    elif "txt" in members:
        captions = [clean_text(members["txt"].decode("utf-8", errors="replace"))]
    else:
        captions = [clean_text(record.get("caption"))] if isinstance(record, dict) else []
    return tuple(caption for caption in captions if caption)


def read_labelled_parquet(
    path: Path, *, columns: Mapping[str, str], images: bool, faults: list[str]
) -> Iterator[RawLabelled]:
    """The rows of a Parquet file; `columns` says which hold `image` (bytes), `class`, and `file`, the key.

    Without a `file` column, or where it is empty, the key is the file's name and the row's number. UserError for a
    file that is none or lacks a column.
    """
    if "class" not in columns:
        raise UserError(f"which column of {path} holds the class? the manifest's columns do not say")
    image, label, file = columns["image"], columns["class"], columns.get("file")
    needed = [name for name in ((image,) if images else ()) + (label, file) if name is not None]
    parquet = ParquetRows(path)
    absent = [name for name in (image, *needed) if name not in parquet.names]
    if absent:
        raise UserError(f"{path} has no column {absent[0]!r}; it has: {', '.join(parquet.names)}")
    for number, row in enumerate(parquet.rows(needed, at_a_time=ROWS_AT_A_TIME)):
        key = str(row[file]) if file is not None and row[file] else f"{path.stem}-{number:07d}"
        yield _from_row(
            f"{path.name}: {key}",
            key,
            image=_image_bytes(row.get(image)),
            label=row[label],
            has_image=not images or bool(row.get(image)),
            faults=faults,
        )


def _from_row(
    name: str, key: str, *, image: bytes | None, label: Any, has_image: bool, faults: list[str]
) -> RawLabelled:
    if label is None or not has_image:
        faults.append(f"{name}: no {'class' if has_image else 'image'}")
    return RawLabelled(
        name=name,
        key=key,
        has_image=has_image,
        image=image,
        label=None if label is None else str(label).strip(),
    )


def _image_bytes(value: Any) -> bytes | None:
    """A cell's bytes; Hugging Face's image type keeps them under `bytes`."""
    data = value.get("bytes") if isinstance(value, Mapping) else value
    return data if isinstance(data, bytes) and data else None
