"""Workers come and go, the work is done once: a killed one costs an attempt, none outlives its parent."""

import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline import engine
from pipeline.engine import map_parts, workers_kept
from pipeline.errors import UserError
from pipeline.storage import hold


def kill_once(folder: Path, part: int) -> tuple[int, int]:
    """Part 3 kills its worker at its first attempt, as a kernel without memory does."""
    mark = folder / f"{part}.tried"
    if part == 3 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return part, os.getpid()


def kill_always(part: int) -> int:
    if part == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return part


def note_process(folder: Path) -> None:
    """Leaves its process's number behind."""
    (folder / f"{os.getpid()}.process").touch()
    os.environ["PREPARED"] = "yes"


def loaded(_: int) -> bool:
    """Whether the worker was prepared."""
    return os.environ.get("PREPARED") == "yes"


def fail_to_prepare() -> None:
    raise UserError("nothing to load")


def refuse(part: int) -> int:
    raise UserError("a part is refused") if part % 2 else KeyError(part)


def test_a_killed_worker_costs_its_part_another_attempt(tmp_path: Path) -> None:
    told: list[str] = []
    function = functools.partial(kill_once, tmp_path)
    found = list(map_parts(function, list(range(8)), workers=2, label="", tell=told.append))
    assert sorted(part for part, _ in found) == list(range(8))
    assert told == ["a worker process was killed (signal 9) at part 3, attempt 1 of 3"]


def test_a_part_that_always_kills_ends_the_run_and_is_named() -> None:
    with pytest.raises(UserError, match=r"part 3, attempt 3 of 3 .*run the same command again"):
        list(map_parts(kill_always, list(range(8)), workers=2, label=""))


def test_workers_are_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "PARTS_PER_WORKER", 2)
    (tmp_path / "3.tried").touch()
    found = list(map_parts(functools.partial(kill_once, tmp_path), list(range(8)), workers=2, label=""))
    assert sorted(part for part, _ in found) == list(range(8))
    assert len({process for _, process in found}) >= 4


def test_kept_workers_prepare_once_and_serve_one_call_after_another(tmp_path: Path) -> None:
    (tmp_path / "3.tried").touch()
    function = functools.partial(kill_once, tmp_path)
    with workers_kept(2, functools.partial(note_process, tmp_path)):
        first, second = (list(map_parts(function, list(range(8)), workers=2, label="")) for _ in range(2))
        third = list(map_parts(loaded, [1, 2], workers=2, label=""))
    assert sorted(part for part, _ in first) == sorted(part for part, _ in second) == list(range(8))
    processes = {int(file.stem) for file in tmp_path.glob("*.process")}
    assert {process for _, process in (*first, *second)} <= processes
    assert len(processes) == 2
    assert third == [True, True]


def test_a_kept_worker_that_is_killed_is_replaced(tmp_path: Path) -> None:
    told: list[str] = []
    with workers_kept(2, functools.partial(note_process, tmp_path)):
        for _ in range(2):
            found = list(
                map_parts(
                    functools.partial(kill_once, tmp_path),
                    list(range(8)),
                    workers=2,
                    label="",
                    tell=told.append,
                )
            )
            assert sorted(part for part, _ in found) == list(range(8))
    assert len(told) == 1


def test_what_a_kept_worker_cannot_prepare_its_part_says() -> None:
    with workers_kept(2, fail_to_prepare):
        assert list(map_parts(str, [1], workers=2, label="")) == ["1"]
        assert sorted(map_parts(str, [1, 2], workers=2, label="")) == ["1", "2"]
        with pytest.raises(UserError, match="a part is refused"):
            list(map_parts(refuse, [1, 3], workers=2, label=""))
        assert sorted(map_parts(str, [1, 2], workers=2, label="")) == ["1", "2"]


def test_a_workers_error_is_the_callers() -> None:
    with pytest.raises(UserError, match="a part is refused"):
        list(map_parts(refuse, [1, 3], workers=2, label=""))
    with pytest.raises(KeyError) as raised:
        list(map_parts(refuse, [0, 2], workers=2, label=""))
    assert "in refuse" in "".join(raised.value.__notes__)


def test_a_worker_that_lives_holds_the_folder(tmp_path: Path) -> None:
    code = (
        "import os, sys, pathlib, time, pipeline.storage as s\n"
        "from tests.pipeline.test_engine import linger\n"
        "from pipeline.engine import map_parts\n"
        "with s.hold(pathlib.Path(sys.argv[1])):\n"
        "    for _ in map_parts(linger, [1, 2], workers=2, label=''): pass\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "out")], stdout=subprocess.PIPE)
    while not list((tmp_path / "out").glob("*.begun")) if (tmp_path / "out").exists() else True:
        assert process.poll() is None
        time.sleep(0.01)
    with pytest.raises(UserError, match="another process is writing to"), hold(tmp_path / "out"):
        pass
    process.kill()
    process.communicate()
    with hold(tmp_path / "out"):
        pass


def linger(part: int) -> None:
    Path(sys.argv[1], f"{part}.begun").touch()
    time.sleep(60)
