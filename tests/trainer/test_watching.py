"""What is measured in the middle of a run, and where its lines go: neither changes a weight."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.errors import UserError
from tests.evaluation_inputs import noise, write_labelled
from tests.square_shards import WriteShards
from trainer import log_places
from trainer.batches import BatchOptions
from trainer.defences.ft import FtOptions
from trainer.evals.labelled import load_labelled
from trainer.launch import Source, defend
from trainer.log_places import place_names
from trainer.model import ModelChoice, load_model
from trainer.optim import OptimOptions
from trainer.train import TrainOptions
from trainer.watching import WatchOptions

TINY = "cleanerclip-tiny-32"
Start = Callable[..., tuple[dict[str, Any], list[dict[str, Any]]]]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return write_labelled(tmp_path / "data", [(noise(i), str(i % 3)) for i in range(30)])


@pytest.fixture
def start(write_shards: WriteShards, tmp_path: Path) -> Start:
    """Six steps of a tiny model with batch norm: the summary, and the lines of metrics.jsonl."""
    shards = str(write_shards(24))
    torch.save(load_model(TINY, seed=3).model.state_dict(), tmp_path / "start.pt")

    def run(out: str, **more: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        training: dict[str, Any] = {"epochs": 2, "device": "cpu", "log_every": 1}
        watch = more.pop("watch", None)
        found = defend(
            ModelChoice(checkpoint=tmp_path / "start.pt", model=TINY, activation="gelu"),
            Source(shards=shards),
            FtOptions(),
            batches=BatchOptions(batch_size=8),
            optim=OptimOptions(lr=1e-3),
            options=TrainOptions(**training | more),
            out=tmp_path / out,
            watch=watch,
        )
        return found, [
            json.loads(line) for line in (tmp_path / out / "metrics.jsonl").read_text().splitlines()
        ]

    return run


@pytest.mark.parametrize("batch_norm", ["train", "frozen"])
def test_figures_in_the_middle_of_a_run_change_no_weight(start: Start, images: Path, batch_norm: str) -> None:
    watch = WatchOptions(
        evaluate_every=2,
        evaluate_data=str(images),
        evaluate_trigger="badnet",
        evaluate_target="banana",
        evaluate_limit=12,
    )
    plain, lines = start("plain", batch_norm=batch_norm)
    watched, more = start("watched", batch_norm=batch_norm, watch=watch)
    assert watched["weights_sha256"] == plain["weights_sha256"]
    figures = [line for line in more if "ba1" in line]
    assert [line["step"] for line in figures] == [2, 4, 6]
    assert all(0 <= line[name] <= 100 for line in figures for name in ("ba1", "asr1"))
    assert [line["loss"] for line in more if "loss" in line] == [line["loss"] for line in lines]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"evaluate_every": 3}, "give --evaluate-every and --evaluate-data together"),
        ({"evaluate_trigger": "badnet"}, "give --evaluate-trigger and --evaluate-target together"),
        ({"evaluate_every": 0, "evaluate_data": "x"}, "evaluate_every must be at least 1, not 0"),
    ],
)
def test_half_an_order_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        WatchOptions(**wrong)


def test_a_limit_is_spread_over_all_images(images: Path) -> None:
    data = load_labelled(str(images))
    keys = [key for key, _, _ in data.decoded()]
    for limit, wanted in ((10, keys[2::3]), (1, keys[-1:]), (100, keys)):
        assert [key for key, _, _ in replace(data, limit=limit).decoded()] == wanted


def test_lines_go_to_tensorboard_and_to_wandb(start: Start, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    pytest.importorskip("wandb")
    start("first")  # the shards and the checkpoint are there
    command = [sys.executable, "-m", "trainer.cli", "defend", "--shards", str(tmp_path / "shards")]
    command += [
        "--checkpoint",
        str(tmp_path / "start.pt"),
        "--model",
        TINY,
        "--activation",
        "gelu",
        "--method",
        "ft",
    ]
    command += ["--out", str(tmp_path / "run"), "--batch-size", "8", "--epochs", "1", "--log-every", "1"]
    command += ["--log-to", "tensorboard,wandb", "--device", "cpu"]
    ended = subprocess.run(
        command,
        env=os.environ | {"WANDB_MODE": "offline", "WANDB_SILENT": "true"},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    losses = [json.loads(line)["loss"] for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert len(losses) == 3
    assert _tensorboard_losses(tmp_path / "run/tensorboard") == pytest.approx(losses, rel=1e-6)
    (kept,) = (tmp_path / "run/wandb").glob("offline-run-*/run-*.wandb")
    assert b"samples_per_second" in kept.read_bytes()


def _tensorboard_losses(folder: Path) -> list[float]:
    code = (
        "import sys; from tensorboard.backend.event_processing.event_accumulator import EventAccumulator as E;"
        "e = E(sys.argv[1]).Reload(); print([s.value for s in e.Scalars('loss')])"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, timeout=120, check=True
    )
    return list(json.loads(told.stdout))


def test_a_place_that_is_absent_or_unknown_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(log_places, "import_module", absent)
    with pytest.raises(UserError, match=r"wandb is not installed: pip install 'cleanerclip\[wandb\]'"):
        TrainOptions(log_to="wandb")
    with pytest.raises(UserError, match="one or more of tensorboard, wandb, not 'syslog'"):
        place_names("syslog")
