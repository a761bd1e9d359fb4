"""The first stage: whatever holds captions -> `Caption` rows with a stable key.

A reader yields rows in the input's order. A file or row it cannot read is named in `faults`; nothing is dropped
silently. Formats: WebDataset and img2dataset tars, Parquet, CC3M's tsv, CleanCLIP's csv, COCO captions, jsonl.
"""

import csv
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from pipeline.captions.csv_records import read_records
from pipeline.errors import BadInput, UserError, first_line
from pipeline.schema import Caption
from pipeline.storage import (
    IMAGE_EXTENSIONS,
    ParquetRows,
    decode_text,
    find_files,
    lines_of,
    named,
    open_text,
    own_key,
    parse_json,
    read_tar,
    readable,
    row_key,
)
from pipeline.storage.limits import MAX_JSON_CHARACTERS

FORMAT_OF_SUFFIX: Final = {
    ".tar": "webdataset",
    ".parquet": "parquet",
    ".tsv": "cc3m",
    ".csv": "csv",
    ".json": "coco",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
FORMATS: Final = ("webdataset", "parquet", "cc3m", "csv", "coco", "jsonl")
CAPTION_NAMES: Final = ("caption", "text", "title", "sentence", "alt_text", "raw")
IMAGE_NAMES: Final = ("image", "image_path", "filepath", "file_name", "path", "url", *IMAGE_EXTENSIONS)
KEY_NAMES: Final = ("__key__", "key", "id")
csv.field_size_limit(2**27)
_DAMAGE: Final = (EOFError, zlib.error, csv.Error, ValueError, RecursionError, OverflowError)
"""What damaged bytes lead to."""


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How captions are read."""

    format: str | None = None
    """webdataset, parquet, cc3m, csv, coco or jsonl. Default: detected from the file names."""
    caption_column: str | None = None
    """Column or JSON field of the caption. Default: the usual names."""

    def __post_init__(self) -> None:
        if self.format is not None and self.format not in FORMATS:
            raise UserError(f"unknown format {self.format!r}; one of: {', '.join(FORMATS)}")


@dataclass(frozen=True, kw_only=True)
class InputOptions(ReadOptions):
    """What to read, and how."""

    input: str
    """File, folder, glob or brace pattern ('a/{00000..00009}.tar'); several joined with ::"""


@dataclass(frozen=True, kw_only=True)
class Source:
    """The files of an input, all of one format."""

    files: tuple[Path, ...]
    format: str
    caption_column: str | None = None

    def rows(self, file: Path, *, faults: list[str]) -> Iterator[Caption]:
        """The captions of one of the files, in order; `faults` takes the name of everything unreadable."""
        try:
            yield from _READERS[self.format](file, self.caption_column, faults)
        except UserError:
            raise
        except OSError as error:
            if error.errno is not None:
                raise UserError(f"{file} cannot be read: {error.strerror or error}") from error
            raise BadInput(f"{file} cannot be read to its end: {first_line(error)}") from error
        except _DAMAGE as error:
            raise BadInput(f"{file} cannot be read to its end: {first_line(error)}") from error

    @property
    def looked_for(self) -> str:
        """Where this source's captions should have been."""
        names = self.caption_column or f"one of {', '.join(CAPTION_NAMES)}"
        return {
            "webdataset": f"a member .txt, or in a member .json the field {names}",
            "parquet": f"a column of texts: {names}",
            "csv": f"a column: {names}",
            "jsonl": f"a field: {names}",
            "coco": f"annotations with the field {self.caption_column or 'caption'}",
            "cc3m": "lines of caption TAB url (or path)",
        }[self.format]


def open_source(options: InputOptions) -> Source:
    """The files that `options.input` names and their format; UserError where there are none or they differ."""
    files = find_files(
        options.input, noun="file", in_folder=partial(_files_in, format=options.format), gaps=True
    )
    if options.format is not None:
        return Source(files=tuple(files), format=options.format, caption_column=options.caption_column)
    formats = {_format_of(file) for file in files}
    if len(formats) > 1:
        raise UserError(
            f"{options.input}: files of several formats ({', '.join(sorted(formats))}); name one kind"
        )
    return Source(files=tuple(files), format=formats.pop(), caption_column=options.caption_column)


def _format_of(path: Path) -> str:
    name = path.name.removesuffix(".gz")
    found = FORMAT_OF_SUFFIX.get(Path(name).suffix.lower())
    if found is None:
        allowed = ", ".join(FORMAT_OF_SUFFIX)
        raise UserError(f"{path}: cannot tell the format from the name ({allowed}); say it with --format")
    return found


def _files_in(folder: Path, *, format: str | None) -> list[Path]:
    """The files of a folder: its tars where it has any (img2dataset writes Parquet and JSON beside them)."""
    names = sorted(
        path for path in folder.iterdir() if path.is_file() and not path.name.startswith((".", "_"))
    )
    formats = [format] if format else list(FORMATS)
    for wanted in formats:
        found = [
            p
            for p in names
            if FORMAT_OF_SUFFIX.get(Path(p.name.removesuffix(".gz")).suffix.lower()) == wanted
        ]
        if found:
            return found
    raise UserError(
        f"{folder}: no {format or 'caption'} files in this folder ({', '.join(FORMAT_OF_SUFFIX)})"
    )


# ---------------------------------------------------------------------------------------------------------- the rows
def clean(caption: object) -> str:
    """The caption on one line: any other value than text, or its bytes, is none; lone surrogates become U+FFFD."""
    if isinstance(caption, bytes):
        caption = decode_text(caption)
    if not isinstance(caption, str):
        return ""
    return " ".join(readable(caption).replace("\0", " ").split())


def _choose(
    names: list[str], wanted: str | None, usual: tuple[str, ...], path: Path, what: str
) -> str | None:
    if wanted is not None:
        if wanted not in names:
            raise BadInput(f"{path}: no column {wanted!r}; it has: {', '.join(names)}")
        return wanted
    lower = {name.lower(): name for name in reversed(names)}
    found = next((lower[name] for name in usual if name in lower), None)
    if found is None and what == "caption":
        raise BadInput(f"{path}: no caption column ({', '.join(usual)}); it has: {', '.join(names)}; "
                        "name it with --caption-column")  # fmt: skip
    return found


def _webdataset(path: Path, column: str | None, faults: list[str]) -> Iterator[Caption]:
    for sample in read_tar(path, wanted=frozenset(("txt", "json")), faults=faults):
        image = next((sample.names[e] for e in IMAGE_EXTENSIONS if e in sample.names), None)
        caption = clean(sample.members.get("txt", b""))
        if (not caption or column) and "json" in sample.members:
            caption = clean(
                _json_caption(sample.members["json"], column, f"{path.name}: {sample.key}.json", faults)
            )
        yield Caption(key=sample.key, caption=caption, image=image, source=named(path))


def _json_caption(data: bytes, column: str | None, where: str, faults: list[str]) -> object:
    try:
        fields = parse_json(decode_text(data))
    except ValueError as error:
        faults.append(f"{where}: {error}")
        return None
    if not isinstance(fields, dict):
        return None
    names = (column,) if column else CAPTION_NAMES
    found = next((fields[name] for name in names if name in fields), None)
    if not isinstance(found, str | None):
        faults.append(f"{where}: its caption is no text")
    return found


def _parquet(path: Path, column: str | None, faults: list[str]) -> Iterator[Caption]:
    file = ParquetRows(path)
    names = file.names
    texts = names if column else [name for name in names if file.holds_text(name)]
    caption_name = _choose(texts, column, CAPTION_NAMES, path, "caption")
    if caption_name is not None and not file.holds_text(caption_name):
        raise BadInput(
            f"{path}: the column {caption_name!r} holds {file.kinds[caption_name]}, no texts; "
            f"name another with --caption-column: {', '.join(names)}"
        )
    image_name = _choose(names, None, IMAGE_NAMES, path, "image")
    key_name = _choose(names, None, KEY_NAMES, path, "key")
    wanted = [name for name in (caption_name, image_name, key_name) if name]
    for number, row in enumerate(file.rows(wanted, at_a_time=1_000)):
        caption, image = clean(row.get(caption_name or "")), row.get(image_name or "")
        if not isinstance(image, str | None):  # bytes, or the {bytes, path} of Hugging Face data sets
            image = f"{image_name}[{number}]"
        yield Caption(
            key=own_key(row.get(key_name or "")) or row_key(image, caption),
            caption=caption,
            image=image,
            source=named(path),
        )


def _cc3m(path: Path, column: str | None, faults: list[str]) -> Iterator[Caption]:
    """Conceptual Captions: caption TAB url, no header, no quoting."""
    with open_text(path) as file:
        for number, line in enumerate(lines_of(file, path), start=1):
            caption, tab, url = line.rstrip("\r\n").partition("\t")
            if not tab:
                faults.append(f"{path.name}: line {number} has no tab")
            caption = clean(caption)
            image = url.split("\t")[0].strip() or None
            yield Caption(key=row_key(image, caption), caption=caption, image=image, source=named(path))


def _csv(path: Path, column: str | None, faults: list[str]) -> Iterator[Caption]:
    """CleanCLIP's csv: a header with `image,caption`; image paths are relative to the csv."""
    with open_text(path) as file:
        records = read_records(lines_of(file, path), name=path.name, faults=faults)
        names = next(records, [])
        shown = [name for name in names if name]
        caption_name = _choose(shown, column, CAPTION_NAMES, path, "caption")
        image_name = _choose(shown, None, IMAGE_NAMES, path, "image")
        key_name = _choose(shown, None, KEY_NAMES, path, "key")
        for record in records:
            row = dict(zip(names, record, strict=True))
            yield _named_row(row, caption_name, image_name, key_name, path)


def _named_row(
    row: dict[str, Any], caption: str | None, image: str | None, key: str | None, path: Path
) -> Caption:
    text, reference = clean(row.get(caption or "")), row.get(image or "")
    reference = readable(str(reference)).strip() or None if isinstance(reference, str | int | float) else None
    return Caption(
        key=own_key(row.get(key or "")) or row_key(reference, text),
        caption=text,
        image=reference,
        source=named(path),
    )


def _jsonl(path: Path, column: str | None, faults: list[str]) -> Iterator[Caption]:
    with open_text(path) as file:
        for number, line in enumerate(lines_of(file, path), start=1):
            if not line.strip():
                continue
            try:
                row = parse_json(line)
            except ValueError as error:
                faults.append(f"{path.name}: line {number}: {error}")
                row = {}
            if not isinstance(row, dict):
                faults.append(f"{path.name}: line {number} is no JSON object")
                row = {}
            names = {name.lower(): name for name in row}
            caption = column or next((names[n] for n in CAPTION_NAMES if n in names), None)
            image = next((names[n] for n in IMAGE_NAMES if n in names), None)
            key = next((names[n] for n in KEY_NAMES if n in names), None)
            if not isinstance(row.get(caption or ""), str | None):
                faults.append(f"{path.name}: line {number}: its caption is no text")
            yield _named_row(row, caption, image, key, path)


def _coco(path: Path, column: str | None, faults: list[str]) -> Iterator[Caption]:
    """COCO captions: `annotations` with id, image_id and caption, `images` with id and file_name."""
    data = _read_whole(path)
    if not isinstance(data, dict) or not isinstance(data.get("annotations"), list):
        raise BadInput(f'{path}: no COCO captions file (a JSON object with "annotations"); another --format?')
    listed = data.get("images")
    names = {
        image["id"]: readable(image["file_name"])
        for image in (listed if isinstance(listed, list) else ())
        if isinstance(image, dict)
        and isinstance(image.get("id"), str | int)
        and isinstance(image.get("file_name"), str)
    }
    for number, item in enumerate(data["annotations"]):
        row: dict[str, Any] = item if isinstance(item, dict) else {}
        if not isinstance(row.get(column or "caption"), str):
            faults.append(f"{path.name}: annotation {number} has no caption")
        of = row.get("image_id")
        image = names.get(of) or None if isinstance(of, str | int) else None
        caption = clean(row.get(column or "caption"))
        key = own_key(row.get("id")) or row_key(image, caption)
        yield Caption(key=key, caption=caption, image=image, source=named(path))


def _read_whole(path: Path) -> Any:
    with open_text(path) as file:
        text = file.read(MAX_JSON_CHARACTERS + 1)
    if len(text) > MAX_JSON_CHARACTERS:
        raise BadInput(f"{path} has over {MAX_JSON_CHARACTERS} characters, which is no file of captions")
    try:
        return parse_json(text)
    except ValueError as error:
        raise BadInput(f"{path} is no JSON file: {error}") from error


_READERS: Final[dict[str, Callable[[Path, str | None, list[str]], Iterator[Caption]]]] = {
    "webdataset": _webdataset,
    "parquet": _parquet,
    "cc3m": _cc3m,
    "csv": _csv,
    "coco": _coco,
    "jsonl": _jsonl,
}
