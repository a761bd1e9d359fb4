"""The guard of a defence: what is held out, what it sees, where it stops, which epoch it keeps."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.errors import UserError
from trainer import guard as guard_module
from trainer.batches import BatchOptions
from trainer.checkpoint import hash_weights, read_weights
from trainer.data import SampleReader, find_shards, index_shards
from trainer.defences.ft import FtOptions
from trainer.guard import Guard, Look, hold_out
from trainer.launch import Source, defend
from trainer.model import ModelChoice, load_model
from trainer.optim import OptimOptions
from trainer.train import TrainOptions

TINY = "cleanerclip-tiny-32"


@pytest.fixture(autouse=True)
def _a_quarter_is_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_module, "SHARE", 0.25)
    monkeypatch.setattr(guard_module, "STEPS", 2)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "model.pt"
    torch.save(load_model(TINY, seed=7).model.state_dict(), path)
    return path


@pytest.fixture
def start(
    write_shards: Callable[..., Path], checkpoint: Path, tmp_path: Path
) -> Callable[..., dict[str, Any]]:
    """`defend` by fine-tuning on 80 pairs, 20 of them held out."""
    shards = write_shards(80)

    def run(out: str, *, lr: float = 1e-3, epochs: int = 3, **given: Any) -> dict[str, Any]:
        return defend(
            ModelChoice(model=TINY, checkpoint=checkpoint),
            Source(shards=str(shards)),
            FtOptions(),
            batches=BatchOptions(batch_size=20),
            optim=OptimOptions(lr=lr, warmup=1),
            options=TrainOptions(epochs=epochs, device="cpu", save_every=2),
            out=tmp_path / out,
            **given,
        )

    return run


def test_samples_are_held_out_once_and_read_as_before(write_shards: Callable[..., Path]) -> None:
    whole = index_shards(find_shards(str(write_shards(80))))
    kept, held = hold_out(whole, seed=0)
    assert held is not None
    assert (len(kept.keys), len(held.keys)) == (60, 20)
    assert {*kept.keys, *held.keys} == {*whole.keys}
    assert [{part.keys[n] for n in part.triples} for part in (kept, held)] == [{*kept.keys}, {*held.keys}]
    assert hold_out(whole, seed=0)[1] == held
    assert hold_out(whole, seed=1)[1] != held
    before = {key: SampleReader(whole).read(n) for n, key in enumerate(whole.keys)}
    for part in (kept, held):
        for number, key in enumerate(part.keys):
            assert SampleReader(part).read(number) == before[key]


def test_small_shards_are_not_watched(write_shards: Callable[..., Path]) -> None:
    whole = index_shards(find_shards(str(write_shards(60))))
    assert hold_out(whole, seed=0) == (whole, None)


def test_a_run_says_what_was_watched_and_keeps_the_best_epoch(
    start: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Look, "worth", property(lambda look: -9 * abs(look.epoch - 2)))
    summary = start("run")
    assert summary["guard"]["chosen"] == 2
    assert summary["guard"]["held_out"] == 20
    assert [look["epoch"] for look in summary["guard"]["looks"]] == [0, 1, 2, 3]
    assert summary["guard"] == json.loads((tmp_path / "run/guard.json").read_text())
    assert summary["samples"] == 60
    second = read_weights(tmp_path / "run/checkpoints/epoch_2.safetensors").state_dict
    assert summary["weights_sha256"] == hash_weights(second)
    assert hash_weights(
        read_weights(tmp_path / "run/model/open_clip_model.safetensors").state_dict
    ) == hash_weights(second)


@pytest.mark.parametrize(
    ("agreements", "kept"), [((0.77, 0.75), 2), ((0.9, 0.7), 1), ((0.7, 0.9), 2), ((0.8, 0.9, 0.85), 3)]
)
def test_an_earlier_epoch_is_kept_where_it_is_better_by_more_than_chance(
    tmp_path: Path, agreements: tuple[float, ...], kept: int
) -> None:
    guard = object.__new__(Guard)
    guard.out, guard.image_N3HW = tmp_path, torch.zeros(100, 3, 8, 8)
    guard.looks = [
        Look(epoch=epoch, retrieval=0.7, agreement=agreement, screen={"patch": 0.5})
        for epoch, agreement in enumerate((1.0, *agreements))
    ]
    assert guard._best() == kept


def test_a_guard_changes_no_weight_and_goes_on_as_if_never_stopped(
    start: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = start("straight")
    with monkeypatch.context() as patch:
        patch.setattr(Guard, "_look", _look_away)
        unseen = start("unseen")
    for epoch in (1, 3):
        one, other = (
            hash_weights(read_weights(tmp_path / out / f"checkpoints/epoch_{epoch}.safetensors").state_dict)
            for out in ("straight", "unseen")
        )
        assert one == other
    assert unseen["steps"] == straight["steps"]

    class Stopped(Exception):
        pass

    seen = Guard.look

    def stop(guard: Guard, epoch: int) -> bool:
        if epoch == 2:
            raise Stopped
        return seen(guard, epoch)

    with monkeypatch.context() as patch:
        patch.setattr(Guard, "look", stop)
        with pytest.raises(Stopped):
            start("stopped")
    assert start("stopped", resume=True)["guard"] == straight["guard"]


def test_a_collapse_ends_the_run_at_the_last_sound_epoch(
    start: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Guard, "collapsed", lambda guard, look: look.epoch >= 2)
    summary = start("run")
    assert (summary["epochs"], summary["guard"]["chosen"]) == (2, 1)
    assert "collapsed in epoch 2" in summary["guard"]["why"]


def test_a_destroyed_model_is_not_written(
    start: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Look(epoch=0, retrieval=0.9, agreement=1.0, screen={"patch": 0.5})
    monkeypatch.setattr(Guard, "_look", _all_alike_after(first))
    with pytest.raises(UserError, match="destroyed the model: of 90 % retrieval"):
        start("run")
    assert not (tmp_path / "run/model").exists()


def _look_away(guard: Guard, epoch: int, image_ND: torch.Tensor, text_ND: torch.Tensor) -> None:
    """In the place of `Guard._look`: the model is not touched."""
    guard.looks.append(Look(epoch=epoch, retrieval=0.5, agreement=0.5, screen={"patch": 0.5}))


def _all_alike_after(first: Look) -> Callable[..., None]:
    """In the place of `Guard._look`: all images in one place from the first epoch on."""
    honest = Guard._look

    def look(guard: Guard, epoch: int, image_ND: torch.Tensor, text_ND: torch.Tensor) -> None:
        if epoch == 0:
            guard.looks.append(first)
        else:
            honest(guard, epoch, image_ND[:1].expand_as(image_ND), text_ND)

    return look


def test_the_screen_sees_a_model_that_reads_everything_alike(
    write_shards: Callable[..., Path], tmp_path: Path
) -> None:
    clip = load_model(TINY, seed=7)
    _, held = hold_out(index_shards(find_shards(str(write_shards(80)))), seed=0)
    assert held is not None
    looking_DI = torch.randn((32, 3 * 8 * 8), generator=torch.Generator().manual_seed(0))

    def sees(image_N3HW: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(image_N3HW, 8).flatten(1) @ looking_DI.T

    clip.model.encode_image = sees
    guard = Guard(clip, held, out=tmp_path, seed=0)
    guard.begin()
    clip.model.encode_image = lambda image_N3HW: sees(image_N3HW)[:1].expand(len(image_N3HW), -1)
    guard.look(1)
    before, after = guard.looks
    assert after.concentration > 0.999
    assert before.concentration < 0.9
    assert after.agreement < before.agreement == 1
    assert after.worth < before.worth


def test_half_of_retrieval_must_be_left(write_shards: Callable[..., Path], tmp_path: Path) -> None:
    _, held = hold_out(index_shards(find_shards(str(write_shards(80)))), seed=0)
    assert held is not None
    guard = Guard(load_model(TINY, seed=7), held, out=tmp_path, seed=0)

    def look(retrieval: float) -> Look:
        return Look(epoch=len(guard.looks), retrieval=retrieval, agreement=0.9, screen={"patch": 0.5})

    guard.looks.append(look(0.6))
    assert not guard.collapsed(look(0.31))
    assert guard.collapsed(look(0.29))
    assert guard.collapsed(look(float("nan")))


def test_without_a_guard_nothing_is_held_out(start: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    summary = start("run", guard=False, epochs=1)
    assert "guard" not in summary
    assert summary["samples"] == 80
    assert not (tmp_path / "run/guard.json").exists()
