"""The page of one evaluation, and of two: whole, escaped, asking the network for nothing."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from pipeline.errors import UserError
from tests.trainer.bench.test_page import Reader
from tests.trainer.test_report import _result
from trainer.report import write_evaluation
from trainer.report_page import write_report_page

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    write_evaluation(_result(170, 140, data=HOSTILE), tmp_path / "before.json")
    write_evaluation(_result(168, 6, data=HOSTILE), tmp_path / "after.json")
    return tmp_path / "before.json", tmp_path / "after.json"


def read(path: Path) -> tuple[Reader, str]:
    reader, text = Reader(), path.read_text("utf-8")
    reader.feed(text)
    assert "script" not in reader.tags
    assert not re.findall(r"url\((?!#)", text)
    assert all(link.startswith(("#", "data:")) for link in reader.links)
    return reader, text.replace("\u00a0", " ")


def test_before_and_after_with_the_run_and_the_pictures(files: tuple[Path, Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "summary.json").write_text(
        json.dumps({"steps": 62, "seconds_per_step": 0.5, "shards_sha256": "5" * 64})
    )
    lines = [json.dumps({"step": step, "epoch": 1, "loss": 1 / step}) for step in (10, 20, 30)]
    (run / "metrics.jsonl").write_text("\n".join([*lines, "torn"]))
    (run / "options.json").write_text(json.dumps({"command": "defend", "optim": {"lr": HOSTILE}}))
    Image.new("RGB", (8, 8)).save(tmp_path / "seen.png")
    write_report_page(*files, out=tmp_path / "a.html", run=run, pictures=[tmp_path / "seen.png"])
    reader, text = read(tmp_path / "a.html")
    assert reader.tags.count("svg") == 3
    assert reader.tags.count("img") == 1
    for told in ("93.3 (88.2 to 96.3)", "4.0 (1.8 to 8.5)", "1 epochs, 30 steps", "5" * 64, "&lt;script&gt;"):
        assert told in text


def test_one_evaluation_alone(files: tuple[Path, Path], tmp_path: Path) -> None:
    write_report_page(files[0], None, out=tmp_path / "a.html")
    reader, text = read(tmp_path / "a.html")
    assert reader.tags.count("svg") == 2
    assert "85.0 (79.4 to 89.3)" in text
    write_report_page(files[0], None, out=tmp_path / "b.html")
    assert (tmp_path / "b.html").read_bytes() == (tmp_path / "a.html").read_bytes()


def test_epochs_and_the_embedding(files: tuple[Path, Path], tmp_path: Path) -> None:
    places = {
        "triggered_to_clean": [0.1, 0.9],
        "triggered_to_target": [0.8, 0.2],
        "clean_to_target": [0.1, 0.1],
    }
    epochs = [{"epoch": 1, "ba1": 80.0, "asr1": 40.0}, {"epoch": 2, "ba1": 84.0, "asr1": 3.0}]
    after = _result(168, 6, data=HOSTILE)
    write_evaluation(after, files[1], by_epoch=epochs, places=places)
    write_report_page(*files, out=tmp_path / "a.html")
    reader, text = read(tmp_path / "a.html")
    assert reader.tags.count("svg") == 4
    assert "BA and ASR by epoch" in text
    write_evaluation(after, files[1], by_epoch=[{"epoch": "x"}], places={"triggered_to_clean": [1], "x": 3})
    write_report_page(*files, out=tmp_path / "b.html")
    assert read(tmp_path / "b.html")[0].tags.count("svg") == 2


def test_what_cannot_be_shown_is_refused(files: tuple[Path, Path], tmp_path: Path) -> None:
    write_evaluation(_result(168, 6, data="another"), tmp_path / "other.json")
    with pytest.raises(UserError, match="cannot be compared"):
        write_report_page(files[0], tmp_path / "other.json", out=tmp_path / "a.html")
    with pytest.raises(UserError, match="no finished run"):
        write_report_page(*files, out=tmp_path / "a.html", run=tmp_path)
    with pytest.raises(UserError, match="is no picture"):
        write_report_page(*files, out=tmp_path / "a.html", pictures=[files[0]])
    assert not (tmp_path / "a.html").exists()
