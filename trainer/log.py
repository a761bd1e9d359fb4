"""What a run tells: `metrics.jsonl` for programs, a progress bar or plain lines on stderr for people."""

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 30.0


def say(text: str, *, shown: bool = True) -> None:
    """One line for people, on stderr; not `shown` by a process that does not speak for all."""
    if shown:
        print(text, file=sys.stderr, flush=True)


class MetricsFile:
    """Appends one JSON object a line; continuing a run first drops the lines after the step it continues from."""

    def __init__(self, path: Path | None, *, continue_from: int = 0) -> None:
        """Without a path, of a process that does not write, lines go nowhere."""
        path = Path(os.devnull) if path is None else path
        kept = _lines_up_to(path, continue_from) if continue_from and path.exists() else []
        self._file = path.open("w", encoding="utf-8")
        self._file.writelines(kept)

    def write(self, values: Mapping[str, object]) -> None:
        """Appends and flushes one line."""
        self._file.write(json.dumps(values) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def _lines_up_to(path: Path, step: int) -> list[str]:
    """The whole lines of a metrics file whose step is at most `step`; a torn last line is left out."""
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            break
    return kept


class ProgressReport:
    """A bar on a terminal; elsewhere a line now and then."""

    def __init__(self, total_steps: int, *, done: int = 0, title: str = "train", shown: bool = True) -> None:
        self._total, self._done, self._title, self._last_line = total_steps, done, title, time.monotonic()
        self._shown, console = shown, Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = (
            Progress(*columns, TextColumn("{task.fields[told]}"), console=console)
            if console.is_terminal and shown
            else None
        )
        if self._bar is not None:
            self._task = self._bar.add_task(title, total=total_steps, completed=done, told="")

    def __enter__(self) -> "ProgressReport":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, told: str) -> None:
        """One step done; `told` stands at the end of the bar or line."""
        self._done += 1
        if self._bar is not None:
            self._bar.update(self._task, advance=1, told=told)
        elif self._shown and (
            self._done == self._total or time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES
        ):
            self._last_line = time.monotonic()
            say(f"{self._title}: step {self._done} of {self._total}, {told}")
