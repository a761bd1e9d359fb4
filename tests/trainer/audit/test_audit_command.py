"""`trainer audit`, `trainer calibrate` and `trainer defend --audit` from the command line, on tiny random models."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.trainer.bench.test_page import Reader
from trainer import cli
from trainer.attacks import load_trigger
from trainer.checkpoint import save_weights
from trainer.model import load_model

TINY = "cleanerclip-tiny-32"
SEARCH = ("--kinds", "patch,blend", "--steps", "1", "--starts", "1", "--images", "16", "--step-images", "2")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["trainer", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        assert isinstance(stopped.value.code, int)
        return stopped.value.code, *capsys.readouterr()

    return call


@pytest.fixture
def models(tmp_path: Path) -> list[Path]:
    files = [tmp_path / f"{seed}.safetensors" for seed in range(4)]
    for seed, file in enumerate(files):
        save_weights(file, load_model(TINY, seed=seed).model.state_dict(), metadata={"model": TINY})
    return files


def test_calibrate_then_audit(
    run: Run, models: list[Path], write_shards: Callable[..., Path], tmp_path: Path
) -> None:
    data, calibration = write_shards(24), tmp_path / "tiny.json"
    code, said, _ = run("calibrate", *models[:3], "--data", data, "--out", calibration, *SEARCH)
    assert code == 0
    assert "3 clean models" in said
    found, page, result = tmp_path / "found.safetensors", tmp_path / "a.html", tmp_path / "a.json"
    given = ("audit", "--checkpoint", models[3], "--data", data, "--calibration", calibration, *SEARCH)
    code, said, _ = run(*given, "--found", found, "--out", page)
    assert code == 0
    assert "evidence found" in said
    assert load_trigger(str(found), image_size=32).preset == "audit"
    with Image.open(found.with_suffix(".png")) as picture:
        assert picture.width > 160
    reader = Reader()
    reader.feed(page.read_text("utf-8"))
    assert (reader.tags.count("svg"), reader.tags.count("img"), reader.tags.count("script")) == (1, 1, 0)
    assert all(link.startswith(("#", "data:")) for link in reader.links)
    assert run(*given, "--json", result)[0] == 0
    told = json.loads(result.read_text())
    assert told["verdict"] in ("evidence found", "no evidence found")
    assert [len(trial["clean"]) for trial in told["trials"]] == [3] * 3
    assert told["trigger_sha256"] == load_trigger(str(found), image_size=32).sha256


def test_defend_audits_before_and_after(
    run: Run,
    models: list[Path],
    write_shards: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from functools import partial

    from trainer.audit.auditing import audit_model
    from trainer.audit.search import SearchOptions

    few = SearchOptions(kinds="patch", steps=1, starts=1, images=8, step_images=2)
    monkeypatch.setattr("trainer.commands.audit.audit_model", partial(audit_model, options=few))
    out = tmp_path / "run"
    given = (
        "defend",
        "--checkpoint",
        models[0],
        "--shards",
        write_shards(16),
        "--out",
        out,
        "--method",
        "ft",
    )
    code, said, _ = run(*given, "--audit", "--batch-size", 8, "--epochs", 1, "--device", "cpu")
    assert code == 0
    assert "audit-before: not calibrated" in said
    before, after = (json.loads((out / f"audit-{when}.json").read_text()) for when in ("before", "after"))
    assert before["weights_sha256"] != after["weights_sha256"]
    assert after["weights_sha256"] == json.loads((out / "summary.json").read_text())["weights_sha256"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("audit", "--found", "a.txt", "--data", "x"), "written as .safetensors, not 'a.txt'"),
        (("audit", "--out", "a.txt", "--data", "x"), "written as .html or .json, not 'a.txt'"),
        (("calibrate", "a", "--data", "x", "--out", "a.txt"), "written as .json, not 'a.txt'"),
        (("audit", "--data", "x"), "which weights"),
        (("audit", "--data", "x", "--kinds", "stripes", "--checkpoint", "a"), "kinds must name"),
    ],
)
def test_what_is_refused(run: Run, words: tuple[str, ...], said: str) -> None:
    code, _, complaint = run(*words)
    assert code == 1
    assert said in complaint
