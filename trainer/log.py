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

from trainer.log_places import LogPlaces

SECONDS_BETWEEN_LINES = 30.0


def say(text: str, *, shown: bool = True) -> None:
    """One line for people, on stderr; not `shown` by a process that does not speak for all."""
    if shown:
        print(text, file=sys.stderr, flush=True)


class MetricsFile:
    """Appends one JSON object a line; continuing a run first drops the lines after the step it continues from."""

    def __init__(self, path: Path | None, *, continue_from: int = 0, beside: LogPlaces | None = None) -> None:
        """Without a path, of a process that does not write, lines go nowhere; `beside` gets them, too."""
        self._beside = beside
        path = Path(os.devnull) if path is None else path
        kept = _lines_up_to(path, continue_from) if continue_from and path.exists() else []
        self._file = path.open("w", encoding="utf-8")
        self._file.writelines(kept)

    def write(self, values: Mapping[str, object]) -> None:
        """Appends and flushes one line."""
        self._file.write(json.dumps(values) + "\n")
        self._file.flush()
        if self._beside is not None:
            self._beside.write(values)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
        if self._beside is not None:
            self._beside.close()


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


class Stopwatch:
    """How many samples a second since it was last asked, and which share of the time was spent waiting for them."""

    def __init__(self) -> None:
        self._begun = self._mark = time.perf_counter()
        self._waited, self._samples = 0.0, 0

    def arrived(self) -> None:
        """A batch is there."""
        self._waited += time.perf_counter() - self._mark

    def done(self, samples: int) -> None:
        """Its step is done; the wait for the next one begins."""
        self._samples += samples
        self._mark = time.perf_counter()

    def restart(self) -> None:
        """What took time since the last step was neither."""
        self._begun += time.perf_counter() - self._mark
        self._mark = time.perf_counter()

    def read(self) -> dict[str, float]:
        """`samples_per_second` and `data_wait` (0 to 1) since the last reading."""
        seconds = max(time.perf_counter() - self._begun, 1e-9)
        told = {
            "samples_per_second": round(self._samples / seconds, 2),
            "data_wait": round(self._waited / seconds, 4),
        }
        self._begun, self._waited, self._samples = time.perf_counter(), 0.0, 0
        return told


def duration(seconds: float) -> str:
    """`2 d 3 h`, `3 h 20 min`, `12 min`, `40 s`."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{round(seconds)} s"
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


class ProgressReport:
    """A bar on a terminal; elsewhere a line now and then."""

    def __init__(
        self,
        total_steps: int,
        *,
        done: int = 0,
        title: str = "train",
        shown: bool = True,
        always: bool = True,
    ) -> None:
        """`always`: the last step gets its line, however short it took."""
        self._always = always
        self._total, self._done, self._title, self._last_line = (
            total_steps,
            done,
            title,
            time.monotonic(),
        )
        self._begun, self._before = time.monotonic(), done
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
            (self._done == self._total and self._always)
            or time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES
        ):
            self._last_line = time.monotonic()
            each = (self._last_line - self._begun) / (self._done - self._before)
            left = duration(each * (self._total - self._done))
            say(f"{self._title}: step {self._done} of {self._total}, {told}, {left} left")
