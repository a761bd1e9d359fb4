"""The loop: same seed, same weights; resumed = straight; methods that coincide; what stops it."""

import json
import signal
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pipeline.errors import UserError
from trainer import train as train_module
from trainer.batches import BatchOptions, BatchStream
from trainer.checkpoint import hash_weights, load_plain, read_weights, save_state
from trainer.data import ShardIndex, find_shards, index_shards
from trainer.defences import DEFENCES, build_defence
from trainer.defences.defence import Setting
from trainer.devices import find_device, find_precision
from trainer.model import load_model
from trainer.optim import OptimOptions
from trainer.train import TrainOptions, prepare, set_mode, train

WriteShards = Callable[..., Path]
TINY = "cleanerclip-tiny-32"


@pytest.fixture
def index(write_shards: WriteShards) -> ShardIndex:
    return index_shards(find_shards(str(write_shards(26))))


@pytest.fixture
def start(index: ShardIndex, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Trains a tiny model: 2 epochs of 3 steps; options of every kind by name."""

    def run(out: str, *, resume: bool = False, **given: Any) -> dict[str, Any]:
        def pick(kind: Any) -> dict[str, Any]:
            return {field.name: given[field.name] for field in fields(kind) if field.name in given}

        options = DEFENCES[given.get("method", "cleanerclip")].options
        batches = BatchOptions(**{"batch_size": 8, "triples": 12, **pick(BatchOptions)})
        clip = load_model(TINY, seed=7)
        defence = build_defence(options(**pick(options)), Setting(clip=clip, seed=batches.seed))
        optim = OptimOptions(**{"lr": 1e-3, "warmup": 1, **pick(OptimOptions)})
        training = TrainOptions(**{"epochs": 2, "device": "cpu", "log_every": 1, **pick(TrainOptions)})
        return train(
            prepare(clip, defence, optim=optim, options=training),
            BatchStream(index, clip, needs=defence.needs, options=batches),
            defence,
            optim=optim,
            options=training,
            out=tmp_path / out,
            record={"shards_sha256": "abc", "given": {key: str(value) for key, value in given.items()}},
            resume=resume,
        )

    return run


Start = Callable[..., dict[str, Any]]


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def stop_in_step(monkeypatch: pytest.MonkeyPatch, step: int, *, times: int = 1) -> None:
    """Sends what Ctrl-C sends while the n-th step is being done."""
    from trainer.learner import update as original

    left = [step]

    def update(*args: Any, **kwargs: Any) -> None:
        left[0] -= 1
        for _ in range(times if left[0] == 0 else 0):
            signal.raise_signal(signal.SIGINT)
        original(*args, **kwargs)

    monkeypatch.setattr(train_module, "update", update)


def test_same_seed_same_weights_with_any_number_of_workers(start: Start) -> None:
    one, same, other = start("a"), start("b", workers=2), start("c", seed=1)
    assert one["weights_sha256"] == same["weights_sha256"] != other["weights_sha256"]


def test_the_loss_goes_down_and_everything_is_written(start: Start, tmp_path: Path) -> None:
    summary = start("a", epochs=6, counterfactual_weight=0.5)
    lines = metrics(tmp_path / "a")
    assert [line["step"] for line in lines] == list(range(1, 19))
    assert lines[-1]["clip"] < lines[0]["clip"]
    first = lines[0]
    assert all(line["samples_per_second"] > 0 and 0 <= line["data_wait"] < 1 for line in lines)
    assert all(line["memory_gb"] > 0.05 for line in lines)
    assert first["loss"] == pytest.approx(
        first["clip"] + first["in_modal"] + 0.5 * first["counterfactual"], rel=1e-5
    )
    assert sum(line["triples"] for line in lines) <= 6 * 12
    names = {path.name for path in (tmp_path / "a").rglob("*")}
    assert {
        "options.json",
        "summary.json",
        "epoch_1.safetensors",
        "last.state.pt",
        "open_clip_model.safetensors",
    } <= names
    assert not [name for name in names if name.endswith(".part")]
    assert summary == json.loads((tmp_path / "a/summary.json").read_text())
    assert (summary["steps"], summary["epochs"], summary["samples"], summary["skipped"]) == (18, 6, 26, {})


def test_the_saved_weights_say_what_they_are(start: Start, tmp_path: Path) -> None:
    summary = start("a")
    clip = load_model(checkpoint=tmp_path / "a")
    assert (clip.name, clip.sha256) == (TINY, summary["weights_sha256"])
    facts = read_weights(tmp_path / "a/checkpoints/epoch_1.safetensors").facts
    assert (facts["epoch"], facts["step"], facts["shards_sha256"]) == ("1", "3", "abc")


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5, 6])
def test_resumed_is_straight_at_any_step(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    straight = start("straight")
    with monkeypatch.context() as patch:
        stop_in_step(patch, step)
        with pytest.raises(KeyboardInterrupt):
            start("stopped")
    resumed = start("stopped", resume=True)
    assert resumed["weights_sha256"] == straight["weights_sha256"]
    lines, expected = metrics(tmp_path / "stopped"), metrics(tmp_path / "straight")
    assert [line["loss"] for line in lines] == [line["loss"] for line in expected]
    states = [load_plain(tmp_path / name / "checkpoints/last.state.pt") for name in ("stopped", "straight")]
    moments = [state["optimizer"]["state"][3]["exp_avg_sq"] for state in states]
    assert torch.equal(*moments)


def test_stopped_at_once_a_run_goes_on_from_the_last_saved_step(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = start("straight", save_every=2)
    with monkeypatch.context() as patch:
        stop_in_step(patch, 6, times=2)
        with pytest.raises(KeyboardInterrupt):
            start("stopped", save_every=2)
    assert load_plain(tmp_path / "stopped/checkpoints/last.state.pt")["step"] == 4
    assert start("stopped", save_every=2, resume=True)["weights_sha256"] == straight["weights_sha256"]


@pytest.mark.parametrize(
    "damage",
    [
        {"step": "4"},
        {"epoch": None},
        {"step_in_epoch": [1]},
        {"optimizer": {"state": {}, "param_groups": "none"}},
        {"torch_rng": "random"},
        {"model": 3},
    ],
)
def test_a_state_of_another_shape_is_one_line(start: Start, tmp_path: Path, damage: dict[str, Any]) -> None:
    start("run")
    path = tmp_path / "run/checkpoints/last.state.pt"
    save_state(path, load_plain(path) | damage)
    with pytest.raises(UserError, match="is no state of this run"):
        start("run", resume=True)


def test_signals_are_the_callers_again_after_a_run(start: Start) -> None:
    before = signal.getsignal(signal.SIGINT)
    start("a", epochs=1)
    assert signal.getsignal(signal.SIGINT) is before


def test_resuming_a_finished_run_changes_nothing(start: Start) -> None:
    assert start("a")["weights_sha256"] == start("a", resume=True)["weights_sha256"]


def test_a_folder_that_holds_a_run_is_not_overwritten(start: Start, tmp_path: Path) -> None:
    start("a", epochs=1)
    with pytest.raises(UserError, match="already holds a run: --resume"):
        start("a", epochs=1)
    with pytest.raises(UserError, match=r"started with other options \(given\)"):
        start("a", epochs=1, lr=5e-4, resume=True)
    with pytest.raises(UserError, match="no run to resume"):
        start("b", resume=True)
    for broken in ("{", "[]"):
        (tmp_path / "a/options.json").write_text(broken)
        with pytest.raises(UserError, match=r"options\.json is broken"):
            start("a", epochs=1, resume=True)


@pytest.mark.parametrize(
    ("one", "same"),
    [
        ({"method": "cleanerclip", "counterfactual_weight": 0}, {"method": "cleanclip"}),
        ({"method": "cleanclip", "in_modal_weight": 0}, {"method": "ft"}),
        ({"method": "cleanerclip", "counterfactual_weight": 0, "in_modal_weight": 0}, {"method": "ft"}),
    ],
)
def test_methods_coincide_to_the_last_bit(start: Start, one: dict[str, Any], same: dict[str, Any]) -> None:
    assert start("one", **one)["weights_sha256"] == start("same", **same)["weights_sha256"]


def test_methods_differ_otherwise(start: Start) -> None:
    hashes = [start(method, method=method)["weights_sha256"] for method in ("ft", "cleanclip", "cleanerclip")]
    assert len(set(hashes)) == 3


@pytest.mark.parametrize("mode", ["every-step", "extra-steps"])
def test_every_way_for_triples_to_enter_trains(start: Start, tmp_path: Path, mode: str) -> None:
    start("a", triples_enter=mode)
    told = [line["triples"] for line in metrics(tmp_path / "a")]
    assert told == ([8] * 6 if mode == "every-step" else [0, 0, 0, 8] * 2)


def test_training_leaves_torchs_generator_alone(start: Start) -> None:
    state = torch.get_rng_state()
    start("a", epochs=1)
    assert torch.equal(state, torch.get_rng_state())


def test_a_loss_that_is_no_number_stops_the_run(start: Start, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"the loss became (nan|inf) at step .*lower --lr.*failed_batch\.json"
    ):
        start("a", lr=1e30, epochs=3)
    failed = json.loads((tmp_path / "a/failed_batch.json").read_text())
    assert len(failed["keys"]) == 8
    assert failed["step"] > 1
    assert set(failed["terms"]) == {"clip", "in_modal", "counterfactual"}
    assert json.loads((tmp_path / "a/options.json").read_text())


def test_frozen_batch_norm_keeps_its_statistics(start: Start, tmp_path: Path) -> None:
    before = load_model(TINY, seed=7).model.state_dict()
    for mode in ("frozen", "train"):
        start(mode, batch_norm=mode, epochs=1)
        after = load_model(checkpoint=tmp_path / mode).model.state_dict()
        assert torch.equal(before["visual.bn1.running_mean"], after["visual.bn1.running_mean"]) == (
            mode == "frozen"
        )
        assert not torch.equal(before["visual.bn1.bias"], after["visual.bn1.bias"])


def test_set_mode_freezes_batch_norm_alone() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1), nn.Dropout())
    set_mode(model, "frozen")
    assert [module.training for module in model] == [True, False, True]
    set_mode(model, "train")
    assert all(module.training for module in model)


def test_fp16_storage_trains_in_float32_and_is_smaller(start: Start, tmp_path: Path) -> None:
    start("a", storage="fp16", epochs=1)
    start("b", epochs=1)
    small, large = (tmp_path / name / "model/open_clip_model.safetensors" for name in "ab")
    assert small.stat().st_size < 0.6 * large.stat().st_size
    halved = {k: v.half() if v.is_floating_point() else v for k, v in read_weights(large).state_dict.items()}
    assert hash_weights(halved) == hash_weights(read_weights(small).state_dict)


def test_bf16_trains(start: Start, tmp_path: Path) -> None:
    start("a", precision="bf16", epochs=1)
    assert all(line["loss"] > 0 for line in metrics(tmp_path / "a"))


def test_gradients_are_scaled_down_to_the_norm(start: Start) -> None:
    hashes = {
        start(str(norm), max_gradient_norm=norm, epochs=1)["weights_sha256"] for norm in (None, 1e-7, 1e9)
    }
    assert len(hashes) == 2


def test_devices_and_precisions_that_are_not_there_are_refused() -> None:
    with pytest.raises(UserError, match="no device is called"):
        find_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="no CUDA device"):
            find_device("cuda")
    with pytest.raises(UserError, match="needs a GPU"):
        find_precision("amp", torch.device("cpu"))


@pytest.mark.parametrize(
    "wrong", [{"epochs": 0}, {"precision": "fp8"}, {"batch_norm": "x"}, {"storage": "int8"}, {"log_every": 0}]
)
def test_wrong_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        TrainOptions(**wrong)
