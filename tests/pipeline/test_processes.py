"""`augment-captions` stopped in any way: no process outlives it, and the same command ends with the same bytes."""

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.looking.verify import verify


def captions(folder: Path, number: int = 500) -> Path:
    file = folder / "input.tsv"
    file.write_text("".join(f"a black dog chasing a red ball {n}\thttp://x/{n}.jpg\n" for n in range(number)))
    return file


def command(file: Path, out: Path, *more: str) -> list[str]:
    words = ["augment-captions", str(file), "--out", str(out), "--rows-per-shard", "20"]
    return [sys.executable, "-m", "pipeline.cli", *words, *more]


def hashes(out: Path) -> dict[str, str]:
    files = sorted(path for path in out.rglob("*") if path.is_file())
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


HEARS_CTRL_C = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""What a job in the background has been told to ignore, the command shall hear all the same."""


def started(file: Path, out: Path, *more: str) -> "subprocess.Popen[str]":
    """The command, once it has written two shards; its workers are children of it."""
    process = subprocess.Popen(
        [sys.executable, "-c", HEARS_CTRL_C, *command(file, out, "--workers", "2", *more)],
        start_new_session=True,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    while len(list(out.glob("shards/*_stats.json"))) < 2:
        assert process.poll() is None, "finished before it could be stopped"
        time.sleep(0.01)
    return process


def children(process: int) -> list[int]:
    found = Path(f"/proc/{process}/task/{process}/children")
    return [int(word) for word in found.read_text().split()] if found.exists() else []


def wait_for_end(processes: list[int]) -> None:
    """Python's own tracker of resources, which writes nothing, ends a moment later than the workers."""
    until = time.monotonic() + 2
    while any(map(alive, processes)) and time.monotonic() < until:
        time.sleep(0.01)
    assert not any(map(alive, processes))


def alive(process: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("straight")
    file = captions(folder)
    subprocess.run(command(file, folder / "out", "--seed", "1"), check=True, capture_output=True)
    return file, hashes(folder / "out")


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_its_parent(
    tmp_path: Path, number: signal.Signals, straight: tuple[Path, dict[str, str]]
) -> None:
    file, expected = straight
    out = tmp_path / "out"
    process = started(file, out)
    workers = children(process.pid)
    assert len(workers) >= 2
    os.kill(process.pid, number)
    _, told = process.communicate(timeout=20)
    if number == signal.SIGTERM:
        assert (process.returncode, len(lines_behind_the_first(told))) == (143, 1)
        assert "the same command continues" in told
        wait_for_end(workers)
    other = command(file, out, "--seed", "1", "--overwrite")  # at once: nobody writes into it any more
    subprocess.run(other, check=True, capture_output=True)
    wait_for_end(workers)
    assert verify(out) == []
    assert hashes(out) == expected


def lines_behind_the_first(told: str) -> list[str]:
    """What stands on stderr behind the line that says what was recognised."""
    return [line for line in told.splitlines() if " read as " not in line]


def test_ctrl_c_is_one_line_and_the_same_command_continues(
    tmp_path: Path, straight: tuple[Path, dict[str, str]]
) -> None:
    file, expected = straight
    out = tmp_path / "out"
    process = started(file, out, "--seed", "1")
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the parent and its workers
    _, told = process.communicate(timeout=20)
    assert (process.returncode, len(lines_behind_the_first(told))) == (130, 1), told
    subprocess.run(command(file, out, "--seed", "1"), check=True, capture_output=True)
    assert hashes(out) == expected


def test_a_log_beside_the_folder_has_a_line_per_part(tmp_path: Path) -> None:
    file = captions(tmp_path, 50)
    subprocess.run(command(file, tmp_path / "out", "--no-shards"), check=True, capture_output=True)
    lines = (tmp_path / "out.log").read_text().splitlines()
    assert len([line for line in lines if " rows in " in line]) == 3
    assert any("part 00002: 10 rows in " in line for line in lines)
    assert lines[-1].endswith(" complete")
