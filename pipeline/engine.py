"""Runs a function over parts, here, in spawned worker processes or on Ray: the only place that starts a process.

A part is a file's worth of rows, so a worker needs no more memory than one part, and what is done stays done. A worker
that is killed costs its part another attempt; no worker outlives its parent, and as long as one lives, it holds the
folders that its parent holds. With Ray, Ray decides where a part is done, and again when its worker or node is lost.
"""

import contextlib
import gc
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import connection, reduction
from typing import Any, Final, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pipeline.console import limit_threads
from pipeline.errors import UserError, first_line

Part = TypeVar("Part")
Result = TypeVar("Result")

MAX_ATTEMPTS: Final = 3
"""Of one part, where its worker is killed."""
PARTS_PER_WORKER: Final = 100
"""After so many a worker is replaced by a fresh one: whatever a library keeps goes with it."""
SECONDS_TO_END: Final = 5.0
"""Given to a worker that is told to end."""


def usable_cores() -> int:
    """The number of processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_parts(
    function: Callable[[Part], Result],
    parts: list[Part],
    *,
    workers: int,
    label: str,
    tell: Callable[[str], None] = lambda _: None,
) -> Iterator[Result]:
    """`function` of each part, in the order they finish, with a progress bar on the terminal.

    With one worker everything runs in this process. Functions and parts are pickled otherwise (ours, both ways). Inside
    `ray_cluster`, Ray's workers do it, as many as its machines have cores; inside `workers_kept`, those that are there.
    `tell` takes a line about each worker that was killed.

    Raises:
        UserError: The workers of one part were killed MAX_ATTEMPTS times.
    """
    if parts and _ray is not None:
        results: Iterator[Result] = _on_ray(_ray, function, parts)
    elif min(workers, len(parts)) <= 1:
        results = map(function, parts)
    else:
        results = _in_workers(function, parts, min(workers, len(parts)), tell)
    return _with_progress(results, len(parts), label)


@contextlib.contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Keep Python from searching the many small records of a batch for cycles: they have none."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


# --------------------------------------------------------------------------------------------------- in this process
_kept: list["_Worker"] | None = None
"""Workers that wait for parts, inside `workers_kept`."""


@contextlib.contextmanager
def workers_kept(number: int, prepare: Callable[[], object]) -> Iterator[None]:
    """Starts so many workers at once, and keeps them for every `map_parts` inside; with fewer than two: none.

    Each calls `prepare` (pickled) before its first part, while this process does something else. What that raises is
    left to the part that needs it.
    """
    global _kept  # noqa: PLW0603  # one engine a process
    if number < 2 or _ray is not None or _kept is not None:
        yield
        return
    _kept = [_Worker(prepare) for _ in range(number)]
    try:
        yield
    finally:
        left, _kept = _kept, None
        for worker in left:
            worker.end()


@dataclass(slots=True)
class _Task:
    """A part that is to be done."""

    part: Any
    attempts: int = 0


class _Worker:
    """A process of ours, and the task that it does."""

    def __init__(self, prepare: Callable[[], object] | None = None) -> None:
        from pipeline.storage import held_folders  # with Arrow, which `pipeline --help` has no use for

        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        held = [reduction.DupFd(handle) for handle in held_folders()] if sys.platform != "win32" else []
        self.process = context.Process(target=_work, args=(prepare, theirs, held), daemon=True)
        self.process.start()
        theirs.close()
        self.function: Callable[[Any], Any] | None = None
        self.task: _Task | None = None
        self.done = 0

    def give(self, function: Callable[[Any], Any], task: _Task) -> None:
        """Hand over a task; a worker that is gone is found when its answer is awaited."""
        self.task = task
        task.attempts += 1
        with contextlib.suppress(OSError):
            self.pipe.send((None if function is self.function else function, task.part))
        self.function = function

    def end(self) -> None:
        """Let it finish nothing more, and wait until it is gone."""
        self.pipe.close()
        if self.task is not None or not self.done:
            self.process.terminate()
        self.process.join(SECONDS_TO_END)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.process.close()


def _in_workers(
    function: Callable[[Any], Any], parts: list[Any], number: int, tell: Callable[[str], None]
) -> Iterator[Any]:
    waiting = deque(_Task(part) for part in parts)
    workers: list[_Worker] = []
    if _kept:
        workers, _kept[:] = _kept[:number], _kept[number:]
    try:
        while waiting or any(worker.task for worker in workers):
            _keep_busy(workers, waiting, function, number)
            ready = connection.wait([worker.pipe for worker in workers if worker.task])
            for worker in [each for each in workers if each.pipe in ready]:
                task, worker.task = worker.task, None
                assert task is not None  # idle workers are not waited for
                answer = _answer(worker)
                if answer is None:
                    workers.remove(worker)
                    tell(_give_again(worker, task, waiting))
                    continue
                worker.done += 1
                if worker.done == PARTS_PER_WORKER:
                    workers.remove(worker)
                    worker.end()
                if isinstance(answer, _Failure):
                    raise answer.error
                yield answer.value
    finally:
        for worker in workers:
            if _kept is None or worker.task is not None:
                worker.end()
            else:
                _kept.append(worker)


def _keep_busy(
    workers: list[_Worker], waiting: deque[_Task], function: Callable[[Any], Any], number: int
) -> None:
    """A task for each idle worker, and as many workers as there are tasks, up to `number`."""
    idle = [worker for worker in workers if worker.task is None]
    while waiting and (idle or len(workers) < number):
        if not idle:
            workers.append(_Worker())
            idle = [workers[-1]]
        idle.pop().give(function, waiting.popleft())


def _answer(worker: _Worker) -> Any:
    """What the worker sent: a _Success or a _Failure; None where it is gone."""
    try:
        return worker.pipe.recv()
    except (EOFError, OSError):
        return None


def _give_again(worker: _Worker, task: _Task, waiting: deque[_Task]) -> str:
    """Put the task of a worker that is gone before all others, and say so; UserError where it was the last attempt."""
    worker.process.join(SECONDS_TO_END)
    code = worker.process.exitcode
    worker.end()
    how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
    told = f"a worker process was killed ({how}) at part {_shown(task.part)}, attempt {task.attempts} of {MAX_ATTEMPTS}"
    if task.attempts >= MAX_ATTEMPTS:
        raise UserError(
            f"{told} (out of memory?); what is finished is kept: run the same command again to continue, with fewer "
            "--workers if memory is short"
        )
    waiting.appendleft(task)
    return told


def _shown(part: object) -> str:
    return str(part[0] if isinstance(part, tuple) else part)


# -------------------------------------------------------------------------------------------------- in a worker's
@dataclass(frozen=True, slots=True)
class _Success:
    value: Any


@dataclass(frozen=True, slots=True)
class _Failure:
    error: Exception


def _work(prepare: Callable[[], object] | None, pipe: Any, held: list[Any]) -> None:
    """What a worker does: answers each part until its pipe is closed. Ctrl-C is its parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from pipeline.storage import forgo_pandas

    handles = [each.detach() for each in held]
    limit_threads()
    forgo_pandas()
    if prepare is not None:
        with contextlib.suppress(Exception):  # the part that needs it says so
            prepare()
    function: Any = None
    with contextlib.suppress(EOFError, OSError):
        while True:
            given, part = pipe.recv()
            function = given or function
            pipe.send(_try(function, part))
    for handle in handles:
        os.close(handle)


def _try(function: Callable[[Any], Any], part: Any) -> _Success | _Failure:
    try:
        return _Success(function(part))
    except Exception as error:
        if not isinstance(error, UserError):
            error.add_note("in a worker process:\n" + traceback.format_exc())
        try:
            reduction.ForkingPickler.dumps(error)
        except Exception:
            return _Failure(RuntimeError("".join(traceback.format_exception(error))))
        return _Failure(error)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # a worker has one
    connection.wait([parent.sentinel])
    os._exit(1)


# ------------------------------------------------------------------------------------------------------------ on Ray
_ray: Any = None
"""The module, while `ray_cluster` is connected."""
IN_FLIGHT: Final = 1_000
"""Parts that Ray knows of at a time: enough for any cluster to grow by."""
_ONE_THREAD: Final = {
    name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")
}
_STORE_BYTES: Final = 100 * 2**20
"""Of a Ray that is started here: parts are read from files, and what is handed round is small."""


@contextlib.contextmanager
def ray_cluster(address: str | None, *, workers: int) -> Iterator[None]:
    """Everything that `map_parts` is given while the block runs is done by Ray.

    Args:
        address: Of a cluster, as `ray.init` takes it. None: that of RAY_ADDRESS, else a Ray on this machine alone,
            which ends with the block.
        workers: How many it has there.

    Raises:
        UserError: Ray is not installed, or no cluster answers.
    """
    global _ray  # noqa: PLW0603  # one engine a process
    try:
        import ray  # noqa: TID251
    except ImportError as error:
        raise UserError("--engine ray needs ray: pip install 'cleanerclip[ray]'") from error
    ours = not ray.is_initialized()
    here = address is None and "RAY_ADDRESS" not in os.environ
    alone = {"num_cpus": workers, "object_store_memory": _STORE_BYTES, "include_dashboard": False}
    if ours:
        try:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", **(alone if here else {}))
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UserError(f"no Ray cluster at {address or 'RAY_ADDRESS'}: {first_line(error)}") from error
    _ray = ray
    try:
        yield
    finally:
        _ray = None
        if ours:
            ray.shutdown()


def _on_ray(ray: Any, function: Callable[[Any], Any], parts: list[Any]) -> Iterator[Any]:
    task = ray.remote(
        num_cpus=1,
        max_retries=MAX_ATTEMPTS - 1,
        max_calls=PARTS_PER_WORKER,
        runtime_env={"env_vars": _ONE_THREAD},
    )(_try)
    shared = ray.put(function)
    waiting, running = deque(parts), dict[Any, Any]()
    try:
        while waiting or running:
            while waiting and len(running) < IN_FLIGHT:
                part = waiting.popleft()
                running[task.remote(shared, part)] = part
            for done in ray.wait(list(running), num_returns=1)[0]:
                part = running.pop(done)
                try:
                    answer = ray.get(done)
                except ray.exceptions.RayError as error:
                    raise UserError(
                        f"the workers of part {_shown(part)} were lost {MAX_ATTEMPTS} times ({first_line(error)}); "
                        "what is finished is kept: run the same command again to continue"
                    ) from error
                if isinstance(answer, _Failure):
                    raise answer.error
                yield answer.value
    finally:
        for left in running:
            ray.cancel(left, force=True)


# ------------------------------------------------------------------------------------------------------------ shown
def _with_progress(results: Iterable[Any], total: int, label: str) -> Iterator[Any]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(label, total=total)
        for result in results:
            progress.advance(task)
            yield result
