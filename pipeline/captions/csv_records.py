"""CSV records from lines, such that a quote that is never closed costs its own line and no other."""

import csv
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Final

MAX_LINES: Final = 100
"""Of one record: a quoted field may hold line ends, but not a whole file."""


def read_records(
    lines: Iterator[str], *, form: Mapping[str, Any], name: str, faults: list[str]
) -> Iterator[list[str]]:
    """The header, then the records, each with as many fields as the header; blank lines are left out.

    A record with fewer fields is filled up, one with more is cut, and a line with a stray quote is taken by itself:
    each is named in `faults`, with the file's `name`. `form` is what csv's reader takes.
    """
    feed = _Feed(lines, form)
    header: list[str] | None = None
    while True:
        record, fault = _next_record(feed, None if header is None else len(header))
        if record is None:
            return
        if not record:
            continue
        if header is None:
            header = record
        elif len(record) != len(header):
            fault = fault or f"has not {len(header)} fields"
            record = (record + [""] * len(header))[: len(header)]
        if fault:
            faults.append(f"{name}: line {feed.number} {fault}")
        yield record


class _Feed:
    """Lines for one record after another; those that a record took in vain are given again."""

    def __init__(self, lines: Iterator[str], form: Mapping[str, Any]) -> None:
        self.form = form
        """How csv's reader splits them."""
        self._lines = lines
        self._again: deque[str] = deque()
        self.taken: list[str] = []
        """By the record that is read."""
        self.number = 0
        """Of the line that was given last."""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if len(self.taken) == MAX_LINES:
            raise StopIteration
        line = self._again.popleft() if self._again else next(self._lines).replace("\0", " ")
        self.taken.append(line)
        self.number += 1
        return line

    def give_back(self) -> str:
        """The first line that the record took; the others are given again."""
        first, *others = self.taken
        self._again.extendleft(reversed(others))
        self.number -= len(others)
        return first


def _next_record(feed: _Feed, num_fields: int | None) -> tuple[list[str] | None, str]:
    """The next record, None at the end, and what is wrong with it."""
    feed.taken = []
    try:
        record = next(csv.reader(feed, strict=True, **feed.form), None)
        if len(feed.taken) <= 1 or num_fields in (None, len(record or ())):
            return record, ""
    except csv.Error:
        pass
    line = feed.give_back()
    for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE):
        record = next(csv.reader([line], **{**feed.form, "quoting": quoting}), [])
        if len(record) == num_fields:
            break
    return record, "has a quote that is not closed, or stands in the middle"
