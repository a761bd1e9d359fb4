"""Before and after: what is set side by side is comparable, complete, and in percent."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from pipeline.errors import UserError
from trainer.evals.zero_shot import ZeroShotResult, wilson
from trainer.report import (
    MEASURES,
    build_result,
    comparison_table,
    evaluation_table,
    read_evaluation,
    report,
    write_evaluation,
)

KS = (1, 3, 5, 10)


def _result(ba: int, asr: int, **changed: Any) -> ZeroShotResult:
    facts: dict[str, Any] = {
        "data": "toy",
        "num_classes": 30,
        "num_templates": 4,
        "num_left_out": 0,
        "model": "cleanerclip-tiny-32",
        "weights_sha256": "a" * 64,
        "target": "banana",
        "trigger_kind": "badnet",
        "trigger_sha256": "b" * 64,
        "ba": {k: wilson(min(200, ba + k - 1), 200) for k in KS},
        "asr": {k: wilson(min(150, asr + k - 1), 150) for k in KS},
        "asr_with_target": {k: wilson(min(200, asr + k + 9), 200) for k in KS},
    }
    return ZeroShotResult(**facts | changed)


def _print(table: Table) -> str:
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
    assert sum("top-" in line for line in text.splitlines()) == 8


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
    "changed", [{"trigger_sha256": "c" * 64}, {"target": "cat"}, {"data": "other"}, {"num_classes": 10}]
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
