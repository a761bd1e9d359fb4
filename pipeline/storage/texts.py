"""Text and JSON as strangers write them: any encoding with a mark, lines without end, numbers beyond every limit."""

import codecs
import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

from pipeline.errors import BadInput
from pipeline.storage.limits import MAX_LINE_CHARACTERS

_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_LOOKED_AT: Final = 400
"""Bytes by which UTF-16 without a mark is told: every second one of Latin text is zero."""
MAX_DIGITS: Final = 400
"""Of a JSON number; one with more is kept as a text."""


def open_text(path: Path) -> IO[str]:
    """A text file, gunzipped where its name ends in .gz; UTF-8 where it is not UTF-16 or UTF-32.

    Undecodable bytes become U+FFFD.
    """
    file: Any = path.open("rb")
    if path.suffix == ".gz":
        file = _Gunzipped(file)
    try:
        encoding = encoding_of(file.peek(_LOOKED_AT)[:_LOOKED_AT])
    except BaseException:
        file.close()
        raise
    return io.TextIOWrapper(file, encoding=encoding, errors="replace", newline="")


class _Gunzipped(gzip.GzipFile):
    """A gzip file's content; closes the file, too."""

    def __init__(self, file: Any) -> None:
        super().__init__(fileobj=file, mode="rb")
        self.myfileobj = file


def encoding_of(start: bytes) -> str:
    """The encoding of a text that begins with these bytes."""
    for mark, encoding in _MARKS:
        if start.startswith(mark):
            return encoding
    start = start[:_LOOKED_AT]
    if len(start) >= 4 and start[1::2].count(0) > 0.4 * len(start) / 2 and start[::2].count(0) == 0:
        return "utf-16-le"
    if len(start) >= 4 and start[::2].count(0) > 0.4 * len(start) / 2 and start[1::2].count(0) == 0:
        return "utf-16-be"
    return "utf-8"


def decode_text(data: bytes) -> str:
    """The text of these bytes, whose encoding is found as `open_text` finds it."""
    return data.decode(encoding_of(data), "replace")


def lines_of(file: IO[str], path: Path) -> Iterator[str]:
    """The lines with their ends; BadInput where one has more than MAX_LINE_CHARACTERS."""
    for number in range(1, 2**62):
        line = file.readline(MAX_LINE_CHARACTERS + 1)
        if len(line) > MAX_LINE_CHARACTERS:
            raise BadInput(
                f"{path}: line {number} has over {MAX_LINE_CHARACTERS} characters; the rest was not read"
            )
        if not line:
            return
        yield line


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text, made such that it can be written as JSON again.

    A number that is too large for that is kept as a text, NaN and infinity as null.

    Raises:
        ValueError: It is no JSON, or is nested too deep.
    """
    try:
        return json.loads(text, parse_int=_integer, parse_float=_float, parse_constant=_nothing)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= MAX_DIGITS else digits


def _float(digits: str) -> float | str:
    value = float(digits)
    return digits if value in (float("inf"), float("-inf")) else value


def _nothing(_: str) -> None:
    return None


def readable(text: str) -> str:
    """The text with lone surrogates as U+FFFD, so that it can be written anywhere."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
