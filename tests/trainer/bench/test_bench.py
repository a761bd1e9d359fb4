"""Suites: what they may hold, how a method is written, and a tiny one from nothing to its table."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UserError
from pipeline.storage import write_json
from tests.places import REAL_DATA
from trainer import cli
from trainer.attacks import load_trigger
from trainer.batches import BatchOptions
from trainer.bench.cells import Cell, options_for, parse_method
from trainer.bench.page import write_page
from trainer.bench.results import TRAP_COLUMNS, figure, read_pictures, read_results, results_table, table_of
from trainer.bench.suites import prepare_data, read_suite, suite_names
from trainer.checkpoint import FINAL_CONFIG, FINAL_WEIGHTS, save_weights
from trainer.defences import DEFENCES
from trainer.model import load_model, open_clip_config
from trainer.train import TrainOptions

TINY = """
target = "banana"
victims = "made by this test"
attacks = ["badnet", "sig"]
unseen = ["text"]

[world]
seed = 3
num_train = 24
num_test_per_class = 1
image_size = 32
train_nouns = "apple,star,fish"

[training]
epochs = 2
batch_size = 8

[learning_rates]
anchored = 1e-3
ft = 1e-3

[traps]
lr = 1e-3
steps = 4
looks = 2
batch_size = 8
epochs = 1
craft_steps = 2
"""


@pytest.mark.parametrize("name", suite_names())
def test_every_suite_can_be_run_as_it_stands(name: str) -> None:
    suite = read_suite(name)
    for method, lr in suite.learning_rates.items():
        options_for(method, dict(suite.training) | {"lr": lr, "seed": 0})
    assert set(suite.learning_rates) <= set(DEFENCES)
    assert suite.target not in str(suite.world.get("train_nouns", "")).split(",")


def test_a_method_is_written_with_its_options() -> None:
    assert parse_method("ft") == ("ft", {})
    text = "cleanerclip[negatives=own,lock-text=yes,tau-negative=0.07,triples=all]"
    defence, groups = options_for(text, {"epochs": 3})
    assert (defence.negatives, defence.tau_negative) == ("own", 0.07)
    assert (groups[TrainOptions].lock_text, groups[TrainOptions].epochs) == (True, 3)
    assert groups[BatchOptions].triples is None
    bank, _ = options_for("anchored[bank=patch,warp;share=0.5]", {})
    assert (bank.bank, bank.share) == ("patch,warp", 0.5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cure", "there is no method 'cure'"),
        ("ft[lr", "is written name"),
        ("ft[sticker=1]", "ft takes no option 'sticker'"),
        ("cleanerclip[negatives=none]", "negatives: 'none' is no value"),
        ("par[noise=loud]", "noise: 'loud' is no value"),
    ],
)
def test_a_method_that_cannot_be_is_refused(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        options_for(text, {})


@pytest.mark.parametrize(
    ("text", "said"), [("target = 3", "must hold attacks"), ("target =", "is no TOML file")]
)
def test_a_broken_suite_is_told(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "own.toml"
    file.write_text(text)
    with pytest.raises(UserError, match=said):
        read_suite(str(file))
    with pytest.raises(
        UserError, match="there is no suite 'nothing': give demo-broad, demo-narrow, photographs"
    ):
        read_suite("nothing")


def test_intervals_are_students() -> None:
    assert str(figure([50.0])) == "50.0"
    two = figure([49.0, 51.0])
    assert two.half == pytest.approx(12.706 * 2**0.5 / 2**0.5)


def victim(folder: Path) -> None:
    clip = load_model("cleanerclip-tiny-32", seed=1)
    (folder / "model").mkdir(parents=True)
    told = {"format": "pt", "model": clip.name, "quick_gelu": "false"}
    save_weights(folder / "model" / FINAL_WEIGHTS, clip.model.state_dict(), metadata=told, storage="fp32")
    write_json(folder / "model" / FINAL_CONFIG, open_clip_config(clip))
    load_trigger("badnet", image_size=32).save(folder / "trigger.safetensors")


@pytest.mark.slow
def test_a_tiny_suite_runs_goes_on_and_gives_its_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    suite, out = tmp_path / "tiny.toml", tmp_path / "out"
    suite.write_text(TINY)
    victim(tmp_path / "victims" / "badnet-0")

    def bench(*more: str) -> str:
        words = ["trainer", "bench", str(suite), "--out", str(out), "--victims", str(tmp_path / "victims")]
        monkeypatch.setattr("sys.argv", [*words, "--attacks", "badnet", *more])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        assert stopped.value.code == 0
        return capsys.readouterr().out

    table = bench("--methods", "ft")
    rows = read_results(out / "results.parquet")
    assert [(row["method"], row["epoch"]) for row in rows] == [("ft", 1), ("ft", 2), ("none", 0)]
    assert {"ba1", "asr1", "asr10", "ba1_named", "ba1_unnamed", "seconds", "samples"} <= set(rows[0])
    assert rows[1]["counterfactual_object"] is not None
    assert [row["samples"] for row in rows] == [24, 48, 0]
    assert "| ft | 0.001 |" in table
    before = (out / "cells" / "badnet-ft-0.001-0" / "rows.json").read_bytes()
    again = bench("--methods", "ft", "--methods", "anchored[invent-steps=1,invent-images=8]")
    assert (out / "cells" / "badnet-ft-0.001-0" / "rows.json").read_bytes() == before
    assert "anchored[invent-steps=1,invent-images=8] | 0.001 |" in again
    assert results_table(table_of(read_results(out / "results.parquet"))) == again.strip()
    bench("--methods", "ft", "--traps")
    sprung = {row["method"]: row for row in read_results(out / "results.parquet") if row["last"]}
    for name in TRAP_COLUMNS:
        assert 0 <= sprung["ft"][name] <= 100
        assert 0 <= sprung["none"][name] <= 100
    assert sprung["anchored[invent-steps=1,invent-images=8]"]["rebound_asr1"] is None
    assert len(sprung["ft"]["triggered_to_clean"]) == 29
    assert list(read_pictures(out)) == ["badnet"]
    write_page(tmp_path / "page.html", list(sprung.values()), pictures=read_pictures(out))
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "The trigger of badnet" in page
    assert page.count("data:image/png;base64,") == 1


def test_photographs_are_asked_for_and_get_the_target_as_a_class(tmp_path: Path) -> None:
    suite = read_suite("photographs")
    with pytest.raises(UserError, match="give the folder they are in with --data"):
        prepare_data(suite, tmp_path)
    for name in ("train", "test"):  # as a call before this one made them
        (tmp_path / f"augmented-{name}").mkdir()
        write_json(tmp_path / f"augmented-{name}" / "manifest.json", {})
    data = prepare_data(suite, tmp_path, files=tmp_path)
    named = {test.name: json.loads(test.manifest.read_text())["classnames"] for test in data.tests}
    assert [names.count("banana") for names in named.values()] == [1, 1]
    assert {name: len(names) for name, names in named.items()} == {"tiny-imagenet": 200, "caltech101": 102}


@pytest.mark.data
@pytest.mark.skipif(not REAL_DATA.is_dir(), reason="the real data are not beside the project")
def test_photographs_are_read_where_they_are(tmp_path: Path) -> None:
    for name in ("train", "test"):
        (tmp_path / f"augmented-{name}").mkdir()
        write_json(tmp_path / f"augmented-{name}" / "manifest.json", {})
    data = prepare_data(read_suite("photographs"), tmp_path, files=REAL_DATA)
    assert [test.load().scan().num_samples for test in data.tests] == [10_000, 1_695]


def test_a_missing_victim_names_the_command_that_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["trainer", "bench", "demo-narrow", "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit):
        cli.main()
    assert "there is no victim" in (told := capsys.readouterr().err)
    assert "python -m benchmarks.victims" in told


def test_a_cells_folder_says_what_it_is() -> None:
    given: dict[str, Any] = {"attack": "sig", "lr": 1e-3, "seed": 2, "victim": "v", "suite": "s"}
    assert Cell(method="ft", **given).folder == "sig-ft-0.001-2"
    assert json.dumps(Cell(method="ft[lock_text=yes]", **given).folder) == '"sig-ft+lock_text=yes+-0.001-2"'
