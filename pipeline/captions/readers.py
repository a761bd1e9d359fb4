"""The first stage: whatever holds captions -> `Caption` rows with a stable key.

A reader yields rows in the input's order. A file or row it cannot read is named in `faults`; nothing is dropped
silently. `places` finds files and formats, `columns` says what their columns are called; `docs/format.md` lists both.
"""

import csv
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Final

from pipeline.captions.columns import (
    CAPTION_NAMES,
    Columns,
    captions_of,
    cell_of,
    choose_columns,
    clean,
    holds_no_text,
    image_of,
    rows_of,
)
from pipeline.captions.delimited import (
    SEPARATORS,
    columns_of_csv,
    read_cc3m,
    read_csv,
    read_flickr,
    read_text,
    separator_of,
)
from pipeline.captions.json_files import (
    columns_of_record,
    read_coco,
    read_jsonl,
    read_karpathy,
    read_list,
)
from pipeline.captions.places import FORMATS, files_in, find_root, format_of, without_other_files
from pipeline.errors import BadInput, UserError, first_line
from pipeline.schema import Caption
from pipeline.storage import (
    IMAGE_EXTENSIONS,
    ParquetRows,
    decode_text,
    find_files,
    is_file,
    is_remote,
    named,
    parse_json,
    read_tar,
)

LOOKED_AT: Final = 20
"""Rows of a file that its image root is found with."""
_WITHOUT_COLUMNS: Final = ("webdataset", "cc3m", "flickr", "text")
"""Formats whose image no column names."""
_DAMAGE: Final = (EOFError, zlib.error, csv.Error, ValueError, RecursionError, OverflowError)
"""What damaged bytes lead to."""


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How captions are read."""

    format: str | None = None
    """webdataset, parquet, cc3m, csv (any separator), flickr, text, coco, karpathy, json (a list) or jsonl. Default:
    detected from the files' names and beginnings."""
    caption_column: str | None = None
    """Column or JSON field of the caption. Default: the usual names."""
    image_column: str | None = None
    """Column or JSON field of the image: bytes, a path or a URL. Default: the usual names."""
    image_root: Path | None = None
    """Folder that image paths are relative to. Default: the input file's, or COCO's val2017 beside annotations."""
    split: str | None = None
    """Of a folder with several splits, or of Karpathy's JSON: this one. Default: a folder's train, else everything."""

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
    image_column: str | None = None
    image_root: Path | None = None
    split: str | None = None

    @property
    def wanted(self) -> Columns:
        """The columns that were asked for."""
        return Columns(caption=self.caption_column, image=self.image_column)

    def rows(self, file: Path, *, faults: list[str]) -> Iterator[Caption]:
        """The captions of one of the files, in order; `faults` takes the name of everything unreadable."""
        return self.located(file, faults=faults)[1]

    def located(self, file: Path, *, faults: list[str]) -> tuple[Path, Iterator[Caption]]:
        """The folder that the file's images lie in, and its rows, whose image paths lead there from the file's own.

        The rows are those up to where the file is damaged: then comes BadInput.
        """
        rows = self._read(file, faults)
        if self.format == "webdataset":
            return file.parent, rows
        first, rows = _ahead(rows)
        root = find_root(file, [image for row in first if (image := row.image)], self.image_root)
        return root, self._below(root, rows, file)

    def _read(self, file: Path, faults: list[str]) -> Iterator[Caption]:
        try:
            if self.format == "karpathy":
                yield from read_karpathy(file, self.wanted, faults, split=self.split)
            else:
                yield from _READERS[self.format](file, self.wanted, faults)
        except UserError:
            raise
        except OSError as error:
            if error.errno is not None:
                raise UserError(f"{file} cannot be read: {error.strerror or error}") from error
            raise BadInput(f"{file} cannot be read to its end: {first_line(error)}") from error
        except _DAMAGE as error:
            raise BadInput(f"{file} cannot be read to its end: {first_line(error)}") from error

    def _below(self, root: Path, rows: Iterator[Caption], file: Path) -> Iterator[Caption]:
        within = os.path.relpath(root, file.parent)
        for row in rows:
            inside = (
                row.image is None
                or "://" in row.image
                or (self.format == "parquet" and row.image[-1:] == "]")
            )
            if inside or within == ".":
                yield row
            else:
                yield replace(row, image=os.path.normpath(os.path.join(within, row.image or "")))

    @property
    def looked_for(self) -> str:
        """Where this source's captions should have been."""
        names = self.caption_column or f"one of {', '.join(CAPTION_NAMES)}"
        return {
            "webdataset": f"a member .txt, or in a member .json the field {names}",
            "parquet": f"a column of texts: {names}",
            "csv": f"a column: {names}",
            "json": f"a list of records with a field: {names}",
            "jsonl": f"a field: {names}",
            "coco": f"annotations with the field {self.caption_column or 'caption'}",
            "karpathy": "images with sentences",
            "cc3m": "lines of caption TAB url (or path)",
            "flickr": "lines of image#number TAB caption",
            "text": "a caption a line",
        }[self.format]

    def describe(self) -> str:
        """What was recognised, on one line: format, columns, image root, from the first file that can be read."""
        counted = f"{len(self.files):,} files" if len(self.files) > 1 else named(Path(self.files[0].name))
        told = f"{counted} read as {_NAMES[self.format]}"
        for file in self.files:
            try:
                return told + self._describe(file)
            except BadInput:  # what is wrong is said where it is read
                continue
        return told

    def _describe(self, file: Path) -> str:
        captions, images = self._columns(file)
        told = f": captions from {captions}, images from {images}"
        if self.format in ("webdataset", "text"):
            return told
        row = next((row for row in islice(self.rows(file, faults=[]), LOOKED_AT) if row.image), None)
        if row is None or row.image is None or (self.format == "parquet" and row.image[-1:] == "]"):
            return told
        if "://" in row.image:
            return f"{told} (URLs: shards will hold texts alone)"
        image = file.parent / row.image
        example = named(image.resolve() if is_remote(file) else Path(os.path.normpath(image)))
        shown = example if example.isprintable() else repr(example)
        there = is_file(file.parent / row.image)
        return f"{told} ({shown}{'' if there else ' is not there: give --image-root'})"

    def _columns(self, file: Path) -> tuple[str, str]:
        """What captions and images are read from, in words."""
        if self.format in _WORDS:
            return _WORDS[self.format]
        if self.format == "csv":
            columns = columns_of_csv(file, self.wanted)
            told = f"{columns.caption} (separated by {SEPARATORS[separator_of(file, self.wanted) or ',']})"
            return told, columns.image or "no column"
        if self.format == "parquet":
            columns, held = _parquet_columns(ParquetRows(file), self.wanted, file)
            return str(columns.caption), f"{columns.image or 'no column'}{' (bytes)' if held else ''}"
        columns = columns_of_record(file, self.wanted, lines=self.format == "jsonl")
        return columns.caption or "no field", columns.image or "no field"


def _ahead(rows: Iterator[Caption]) -> tuple[list[Caption], Iterator[Caption]]:
    """The first rows, and all of them; BadInput comes behind the rows that stand before the damage."""
    first: list[Caption] = []
    try:
        for row in islice(rows, LOOKED_AT):
            first.append(row)
    except BadInput as error:
        return first, _then_raise(first, error)
    return first, chain(first, rows)


def _then_raise(rows: list[Caption], error: BadInput) -> Iterator[Caption]:
    yield from rows
    raise error


def open_source(options: InputOptions) -> Source:
    """The files that `options.input` names and their format; UserError where there are none or they differ."""
    in_folder = partial(files_in, format=options.format, split=options.split)
    files = find_files(options.input, noun="file", in_folder=in_folder, gaps=True)
    if "*" in options.input:  # of a glob, not of what was named
        files = without_other_files(files)
    wanted = Columns(caption=options.caption_column, image=options.image_column)
    formats = {options.format} if options.format else {format_of(file, wanted) for file in files}
    if len(formats) > 1:
        raise UserError(
            f"{options.input}: files of several formats ({', '.join(sorted(map(str, formats)))}); name one kind"
        )
    format = str(formats.pop())
    if options.image_column is not None and format in _WITHOUT_COLUMNS:
        raise UserError(
            f"--image-column: {options.input} is {_NAMES[format]}, which has no columns of images"
        )
    return Source(
        files=tuple(files),
        format=format,
        caption_column=options.caption_column,
        image_column=options.image_column,
        image_root=options.image_root,
        split=options.split,
    )


# ---------------------------------------------------------------------------------------------------- tars and Parquet
def _webdataset(path: Path, wanted: Columns, faults: list[str]) -> Iterator[Caption]:
    column = wanted.caption
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
    if holds_no_text(found):
        faults.append(f"{where}: its caption is no text")
    return captions_of(found)[0]


def _parquet_columns(file: ParquetRows, wanted: Columns, path: Path) -> tuple[Columns, bool]:
    """The columns that are read, and whether the image's holds bytes."""
    texts = [name for name in file.names if file.holds_text(name)]
    columns = choose_columns(file.names, wanted, path, texts=texts, images=file.holding_bytes)
    if columns.caption not in texts:
        raise BadInput(
            f"{path}: the column {columns.caption!r} holds {file.kinds[str(columns.caption)]}, no texts; "
            f"name another with --caption-column: {', '.join(file.names)}"
        )
    return columns, columns.image in file.holding_bytes


def _parquet(path: Path, wanted: Columns, faults: list[str]) -> Iterator[Caption]:
    """A row a row: bytes of an image (Hugging Face's {bytes, path}, img2dataset's jpg) are "column[row]"."""
    file = ParquetRows(path)
    columns, held = _parquet_columns(file, wanted, path)
    names = [name for name in (columns.caption, columns.image, columns.key) if name]
    for number, row in enumerate(file.rows(names, at_a_time=100 if held else 1_000)):
        image = cell_of(row, columns.image)
        yield from rows_of(
            captions_of(cell_of(row, columns.caption)),
            image=image_of(image) if not held else None if image is None else f"{columns.image}[{number}]",
            key=cell_of(row, columns.key),
            path=path,
        )


_READERS: Final[dict[str, Callable[[Path, Columns, list[str]], Iterator[Caption]]]] = {
    "webdataset": _webdataset,
    "parquet": _parquet,
    "cc3m": read_cc3m,
    "csv": read_csv,
    "flickr": read_flickr,
    "text": read_text,
    "coco": read_coco,
    "karpathy": read_karpathy,
    "json": read_list,
    "jsonl": read_jsonl,
}
_NAMES: Final = {
    "webdataset": "WebDataset tars",
    "parquet": "Parquet",
    "cc3m": "CC3M's tsv",
    "csv": "a table with a header",
    "flickr": "Flickr's tokens",
    "text": "plain lines",
    "coco": "COCO captions",
    "karpathy": "Karpathy's JSON",
    "json": "a JSON list",
    "jsonl": "JSON lines",
}
_WORDS: Final = {
    "webdataset": (".txt, else .json", "the image member"),
    "cc3m": ("the first column", "the second"),
    "flickr": ("the second column", "the first"),
    "text": ("each line", "nowhere"),
    "coco": ("annotations", "images"),
    "karpathy": ("sentences", "filepath/filename"),
}
