"""Runs a function over parts, here or in spawned worker processes: the only place that starts a process.

A part is a file's worth of rows, so a worker needs no more memory than one part, and what is done stays done.
"""

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pipeline.errors import UserError

Part = TypeVar("Part")
Result = TypeVar("Result")


def usable_cores() -> int:
    """The number of processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_parts(
    function: Callable[[Part], Result], parts: list[Part], *, workers: int, label: str
) -> Iterator[Result]:
    """`function` of each part, in the order they finish, with a progress bar on the terminal.

    With one worker everything runs in this process. Functions and parts are pickled otherwise (ours, both ways).
    """
    results = map(function, parts) if min(workers, len(parts)) <= 1 else _spawned(function, parts, workers)
    return _with_progress(results, len(parts), label)


def limit_threads() -> None:
    """One thread for linear algebra in this process: one process a core is enough, and the sums keep their order."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS"):
        os.environ[name] = "1"


def _spawned(function: Callable[[Any], Any], parts: list[Any], workers: int) -> Iterator[Any]:
    """At most two parts a worker are in flight, so that results and faults never pile up."""
    context = multiprocessing.get_context("spawn")
    waiting = iter(parts)
    running: set[Future[Any]] = set()
    with ProcessPoolExecutor(min(workers, len(parts)), mp_context=context, initializer=limit_threads) as pool:
        try:
            while True:
                for part in _take(waiting, 2 * workers - len(running)):
                    running.add(pool.submit(function, part))
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        except BrokenProcessPool as error:
            raise UserError(
                "a worker process was killed (out of memory?); what is finished is kept: run the same command "
                "again to continue, with fewer --workers if memory is short"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _take(parts: Iterator[Any], number: int) -> Iterable[Any]:
    return [part for _, part in zip(range(number), parts, strict=False)]


def _with_progress(results: Iterable[Any], total: int, label: str) -> Iterator[Any]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(label, total=total)
        for result in results:
            progress.advance(task)
            yield result
