"""Captions in lines: CSV and TSV with a header (CleanCLIP's, open_clip's, Flickr30k's), CC3M's tsv, Flickr8k's tokens.

Whether the first line is a header, and what separates its names, is seen from the names themselves.
"""

import csv
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pipeline.captions.columns import CAPTION_NAMES, Columns, choose_columns, clean, named_rows, rows_of
from pipeline.captions.csv_records import read_records
from pipeline.schema import Caption
from pipeline.storage import lines_of, named, open_text, row_key

SEPARATORS: Final = {"\t": "tab", ",": "comma", ";": "semicolon", "|": "bar"}
_FLICKR: Final = re.compile(r"^[^\t]+\.(?:jpe?g|png|webp)#\d+\t", re.IGNORECASE)
_NO_NAME: Final = re.compile(r"://|\.(?:jpe?g|png|webp|gif)$", re.IGNORECASE)
csv.field_size_limit(2**27)


def format_of_lines(path: Path, wanted: Columns) -> str:
    """`csv` of a file whose first line names its columns, else `flickr`, `cc3m` or, of a .txt, `text`."""
    if path.name.removesuffix(".gz").lower().endswith(".csv") or separator_of(path, wanted) is not None:
        return "csv"
    first = _first_line(path)
    if _FLICKR.match(first):
        return "flickr"
    return "text" if "\t" not in first and ".txt" in path.name.lower() else "cc3m"


def separator_of(path: Path, wanted: Columns) -> str | None:
    """What stands between the names of the first line; None where that is no header."""
    first = _first_line(path)
    known = {name for name in (wanted.caption, wanted.image) if name is not None}
    for separator in SEPARATORS:
        names = _split(first, separator)
        lower = {name.lower() for name in names}
        alone = len(names) == 1 and separator != ","
        if not alone and (known & set(names) or lower & set(CAPTION_NAMES)):
            return None if any(_NO_NAME.search(name) for name in names) else separator
    return None


def columns_of_csv(path: Path, wanted: Columns) -> Columns:
    """The columns that will be read; UserError where none holds captions."""
    return choose_columns(_split(_first_line(path), separator_of(path, wanted) or ","), wanted, path)


def _first_line(path: Path) -> str:
    """Empty where the file is damaged there: its reader says how."""
    try:
        with open_text(path) as file:
            return next((line.rstrip("\r\n") for line in lines_of(file, path) if line.strip()), "")
    except (OSError, EOFError, ValueError, zlib.error):
        return ""


def _split(line: str, separator: str) -> list[str]:
    names = next(csv.reader([line.replace("\0", " ")], **_form(separator)), [])
    return [name.strip() for name in names if name.strip()]


def _form(separator: str) -> dict[str, Any]:
    """For csv's reader; bars separate what nobody quotes, so a quotation mark there is one."""
    return {"delimiter": separator, "quoting": csv.QUOTE_NONE if separator == "|" else csv.QUOTE_MINIMAL}


def read_csv(path: Path, wanted: Columns, faults: list[str]) -> Iterator[Caption]:
    """Any separator; the header says which column is what. Image paths are relative to the file, or to its root."""
    separator = separator_of(path, wanted) or ","
    with open_text(path) as file:
        records = read_records(lines_of(file, path), form=_form(separator), name=path.name, faults=faults)
        header = [name.strip() for name in next(records, [])]
        columns = choose_columns([name for name in header if name], wanted, path)
        for cells in records:
            yield from named_rows(dict(zip(header, cells, strict=True)), columns, path)


def read_cc3m(path: Path, wanted: Columns, faults: list[str]) -> Iterator[Caption]:
    """Conceptual Captions: caption TAB url, no header, no quoting."""
    with open_text(path) as file:
        for number, line in enumerate(lines_of(file, path), start=1):
            caption, tab, url = line.rstrip("\r\n").partition("\t")
            if not tab:
                faults.append(f"{path.name}: line {number} has no tab")
            caption = clean(caption)
            image = url.split("\t")[0].strip() or None
            yield Caption(key=row_key(image, caption), caption=caption, image=image, source=named(path))


def read_flickr(path: Path, wanted: Columns, faults: list[str]) -> Iterator[Caption]:
    """Flickr8k's and Flickr30k's tokens: `name.jpg#0` TAB caption, no header; the key is the first of them."""
    with open_text(path) as file:
        for number, line in enumerate(lines_of(file, path), start=1):
            name, tab, caption = line.rstrip("\r\n").partition("\t")
            if not tab:
                faults.append(f"{path.name}: line {number} has no tab")
            yield from rows_of([clean(caption)], image=name.rpartition("#")[0] or None, key=name, path=path)


def read_text(path: Path, wanted: Columns, faults: list[str]) -> Iterator[Caption]:
    """A caption a line, no images."""
    with open_text(path) as file:
        for line in lines_of(file, path):
            yield from rows_of([clean(line)], image=None, key=None, path=path)
