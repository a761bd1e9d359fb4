"""Before and after: what is set side by side is comparable, complete, and in percent."""

import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, RenderableType

from pipeline.errors import UserError
from trainer.report import (
    MEASURES,
    build_result,
    comparison_table,
    confusion_table,
    evaluation_table,
    read_evaluation,
    report,
    sanity_line,
    write_evaluation,
)
from trainer.scores import ClassScore, Evaluation, wilson

KS = (1, 3, 5, 10)
CLASSES = (
    ClassScore(name="apple", n=100, hits=90, to_target=1, to_target_triggered=80),
    ClassScore(name="banana", n=50, hits=40, to_target=40, to_target_triggered=50),
    ClassScore(name="cat", n=50, hits=40, to_target=2, to_target_triggered=20),
    ClassScore(name="never seen", n=0, hits=0, to_target=0, to_target_triggered=0),
)


def _result(ba: int, asr: int, **changed: Any) -> Evaluation:
    facts: dict[str, Any] = {
        "how": "zero-shot",
        "data": "toy",
        "num_classes": 30,
        "num_templates": 4,
        "num_left_out": 0,
        "images_sha256": "d" * 64,
        "prompts_sha256": "e" * 64,
        "model": "cleanerclip-tiny-32",
        "weights_sha256": "a" * 64,
        "target": "banana",
        "trigger_kind": "badnet",
        "trigger_sha256": "b" * 64,
        "ba": {k: wilson(min(200, ba + k - 1), 200) for k in KS},
        "asr": {k: wilson(min(150, asr + k - 1), 150) for k in KS},
        "asr_with_target": {k: wilson(min(200, asr + k + 9), 200) for k in KS},
        "clean_as_target": wilson(3, 150),
        "classes": CLASSES,
    }
    return Evaluation(**facts | changed)


def _print(table: RenderableType) -> str:
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    write_evaluation(_result(170, 140), tmp_path / "before.json")
    write_evaluation(_result(168, 6), tmp_path / "after.json")
    return tmp_path / "before.json", tmp_path / "after.json"


def test_result_json_has_every_measure_in_percent(files: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "summary.json").write_text('{"seconds_per_step": 0.5, "steps": 62}')
    report(*files, out=tmp_path / "result.json", run=tmp_path / "run", paths={"shards": Path("shards")})
    told = json.loads((tmp_path / "result.json").read_text())
    assert set(MEASURES) <= set(told["before"])
    assert set(MEASURES) <= set(told["after"])
    assert (told["before"]["ba1"], told["after"]["ba1"]) == (85.0, 84.0)
    assert (told["before"]["asr1"], told["after"]["asr1"]) == pytest.approx((140 / 1.5, 4.0))
    assert (told["seconds_per_step"], told["steps"]) == (0.5, 62)
    assert set(told["paths"]) == {"before", "after", "run", "shards", "result"}


def test_the_table_shows_both_sides_and_the_change(files: tuple[Path, Path], tmp_path: Path) -> None:
    text = _print(report(*files, out=tmp_path / "result.json"))
    row = next(line for line in text.splitlines() if "ASR top-1 " in line)
    assert "93.3" in row
    assert "4.0" in row
    assert "-89.3" in row
    assert sum("top-" in line and "by class" not in line for line in text.splitlines()) == 8


def test_one_evaluation_shows_both_conventions(files: tuple[Path, Path]) -> None:
    text = _print(evaluation_table(read_evaluation(files[0])))
    assert "n = 150" in text
    assert "target images counted % (n = 200)" in text
    assert "trigger sha256 bbbbbbbbbbbbbbbb" in text


def test_an_evaluation_without_a_trigger_has_a_table_but_no_report() -> None:
    attacked = _result(170, 1)
    clean = replace(attacked, trigger_sha256=None, trigger_kind=None, asr={}, asr_with_target={}).to_json()
    assert "BA" in _print(evaluation_table(clean))
    assert "ASR" not in _print(comparison_table(clean, clean))
    with pytest.raises(UserError, match="no trigger"):
        build_result(clean, clean)


@pytest.mark.parametrize(
    "changed",
    [
        {"trigger_sha256": "c" * 64},
        {"target": "cat"},
        {"data": "other"},
        {"num_classes": 10},
        {"how": "linear probe"},
        {"images_sha256": "f" * 64},
        {"prompts_sha256": "f" * 64},
    ],
)
def test_what_cannot_be_compared_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="cannot be compared"):
        build_result(_result(170, 140).to_json(), _result(170, 5, **changed).to_json())


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"ba1": "85"}'])
def test_what_is_no_evaluation_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UserError, match=r"x\.json"):
        read_evaluation(tmp_path / "x.json")


def test_a_missing_evaluation_or_run_is_told(files: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_evaluation(tmp_path / "nothing.json")
    with pytest.raises(UserError, match="no finished run"):
        report(*files, out=tmp_path / "result.json", run=tmp_path)


def test_the_classes_that_lose_most_are_shown_first(files: tuple[Path, Path], tmp_path: Path) -> None:
    lost = (*CLASSES[:2], replace(CLASSES[2], hits=15), CLASSES[3])
    write_evaluation(_result(168, 6, classes=lost), files[1])
    lines = _print(report(*files, out=tmp_path / "result.json")).splitlines()
    shown = [line.split() for line in lines if "cat" in line or "apple" in line]
    assert [row[1] for row in shown] == ["cat", "apple"]
    assert {"80.0", "30.0", "-50.0"} <= set(shown[0])
    told = json.loads((tmp_path / "result.json").read_text())["class_ba"]
    assert [(row["name"], row["change"]) for row in told] == [("cat", -50.0), ("apple", 0.0), ("banana", 0.0)]


def test_the_confusion_names_the_classes_that_go_to_the_target() -> None:
    table = confusion_table(_result(170, 140).to_json())
    assert table is not None
    lines = _print(table).splitlines()
    rows = [line.split() for line in lines if " cat " in line or " apple " in line or "all other" in line]
    assert [row[1] for row in rows] == ["all", "cat", "apple"]
    assert {"2.0", "93.3"} <= set(rows[0])
    assert {"50", "80.0", "4.0", "40.0"} <= set(rows[1])
    assert not any("never seen" in line for line in lines)
    assert confusion_table(_result(1, 1, target=None, clean_as_target=None).to_json()) is None


@pytest.mark.parametrize(("asr", "clean", "fooled"), [(14, 3, False), (75, 3, True), (90, 80, False)])
def test_a_trigger_that_fools_the_clean_model_is_called_a_patch(asr: int, clean: int, fooled: bool) -> None:
    line = sanity_line(_result(170, asr, clean_as_target=wilson(clean, 150)).to_json())
    assert line.startswith("warning: the trigger fools the clean model") == fooled
    assert ("no backdoor" in line) == fooled
    assert f"{100 * asr / 150:.1f} %" in line


def test_a_clean_models_figures_come_along(files: tuple[Path, Path], tmp_path: Path) -> None:
    clean = _result(172, 3, weights_sha256="9" * 64)
    write_evaluation(_result(170, 140), files[0], clean_model=clean)
    report(*files, out=tmp_path / "result.json")
    told = json.loads((tmp_path / "result.json").read_text())
    assert (told["clean_model"]["ba1"], told["clean_model"]["asr1"]) == (86.0, 2.0)
    assert told["clean_model"]["weights_sha256"] == "9" * 64
    write_evaluation(_result(170, 140), files[0])
    report(*files, out=tmp_path / "result.json")
    assert json.loads((tmp_path / "result.json").read_text())["clean_model"] is None


def test_a_table_needs_no_torch(files: tuple[Path, Path], tmp_path: Path) -> None:
    """Whose import takes most of what the command takes."""
    code = "import sys; sys.modules['torch'] = None; from trainer import cli; cli.main()"
    given = ["report", *map(str, files), "--out", str(tmp_path / "result.json")]
    subprocess.run([sys.executable, "-c", code, *given], capture_output=True, check=True)
    assert (tmp_path / "result.json").is_file()
