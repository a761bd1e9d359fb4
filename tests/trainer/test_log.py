"""What a run tells: metrics that survive being stopped, plain lines where there is no terminal."""

import json
from pathlib import Path

import pytest

from trainer import log
from trainer.log import MetricsFile, ProgressReport, duration


def write(path: Path, steps: range, *, continue_from: int = 0) -> None:
    metrics = MetricsFile(path, continue_from=continue_from)
    for step in steps:
        metrics.write({"step": step, "loss": step / 2})
    metrics.close()


def test_continuing_drops_what_comes_after_and_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, range(1, 6))
    with path.open("a") as file:
        file.write('{"step": 6, "lo')
    write(path, range(4, 8), continue_from=3)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == list(range(1, 8))


def test_a_new_run_starts_an_empty_file(tmp_path: Path) -> None:
    for _ in range(2):
        write(tmp_path / "metrics.jsonl", range(1, 3))
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


def test_without_a_terminal_the_last_step_gets_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressReport(3) as progress:
        for step in range(3):
            progress.advance(f"loss {step}")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == ["train: step 3 of 3, loss 2, 0 s left"]


def test_durations_are_said_in_two_units_at_most() -> None:
    told = {40: "40 s", 720: "12 min", 12_000: "3 h 20 min", 183_600: "2 d 3 h"}
    assert {seconds: duration(seconds) for seconds in told} == told


def test_the_stopwatch_tells_the_share_of_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("trainer.log.time.perf_counter", lambda: now[0])
    watch = log.Stopwatch()
    for waits, works in ((1.0, 3.0), (0.0, 4.0)):
        now[0] += waits
        watch.arrived()
        now[0] += works
        watch.done(8)
    assert watch.read() == {"samples_per_second": 2.0, "data_wait": 0.125}
