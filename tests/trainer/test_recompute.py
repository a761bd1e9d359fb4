"""Memory saved by computing twice: the same weights as without."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.errors import UserError
from trainer.batches import BatchOptions, BatchStream
from trainer.data import find_shards, index_shards
from trainer.defences import DEFENCES, build_defence
from trainer.defences.defence import Setting
from trainer.learner import build_learner, update
from trainer.losses import total_loss
from trainer.model import load_model
from trainer.optim import OptimOptions
from trainer.ranks import Ranks
from trainer.train import BatchNorm, set_mode

ANCHORED = {"bank": "patch,smooth", "pool": 1, "invent_steps": 0, "craft_images": 2, "invent_images": 4}


@pytest.fixture
def learn(write_shards: Callable[..., Path]) -> Callable[..., dict[str, Tensor]]:
    """Three steps of a tiny CLIP; the weights after them."""
    index = index_shards(find_shards(str(write_shards(30))))

    def learn(
        method: str, *, enter: Any = "in-step", batch_norm: BatchNorm = "frozen", **how: Any
    ) -> dict[str, Tensor]:
        clip = load_model("cleanerclip-tiny-32", seed=1)
        given = ANCHORED if method == "anchored" else {}
        defence = build_defence(DEFENCES[method].options(**given), Setting(clip=clip, seed=0))
        batching = BatchOptions(batch_size=10, triples=9, triples_enter=enter, triples_per_step=5)
        stream = BatchStream(index, clip, needs=defence.needs, options=batching)
        learner = build_learner(
            clip,
            optim=OptimOptions(eps=1e-3),
            device="cpu",
            precision="fp32",
            texts=defence.needs.texts,
            **how,
        )
        defence.prepare(stream.again().epoch(0))
        set_mode(clip.model, batch_norm)
        for step, batch in enumerate(stream.epoch(0)):
            pixels = defence.pixels(batch, step=step)
            found = learner.embed(batch, pixels_N3HW=pixels, texts=defence.needs.texts)
            update(
                learner, total_loss(defence.terms(found), defence.weights), lr=1e-3, max_gradient_norm=None
            )
        return {name: tensor.clone() for name, tensor in clip.model.state_dict().items()}

    return learn


def apart(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    difference = sum(float((one[name] - other[name]).double().square().sum()) for name in one)
    return (difference / sum(float(tensor.double().square().sum()) for tensor in one.values())) ** 0.5


@pytest.mark.parametrize(
    ("method", "enter"),
    [("ft", "in-step"), ("cleanerclip", "in-step"), ("cleanerclip", "every-step"), ("anchored", "in-step")],
)
def test_a_batch_in_parts_is_the_whole_batch(
    learn: Callable[..., dict[str, Tensor]], method: str, enter: str
) -> None:
    start = load_model("cleanerclip-tiny-32", seed=1).model.state_dict()
    whole, parts = learn(method, enter=enter), learn(method, enter=enter, parts=4)
    assert apart(whole, start) > 1e-5
    assert apart(whole, parts) < (5e-6 if method == "anchored" else 1e-6)  # it sums more, in another order


def test_activations_computed_again_change_nothing(learn: Callable[..., dict[str, Tensor]]) -> None:
    kept = learn("cleanclip", batch_norm="train")
    again = learn("cleanclip", batch_norm="train", grad_checkpointing=True)
    assert all(torch.equal(kept[name], again[name]) for name in kept)


def test_running_statistics_move_once_for_each_part(learn: Callable[..., dict[str, Tensor]]) -> None:
    parts = learn("ft", batch_norm="train", parts=2)
    assert int(parts["visual.bn1.num_batches_tracked"]) == 2 * 3


def test_batch_norm_over_several_processes_needs_gpus() -> None:
    with pytest.raises(
        UserError, match="batch_norm sync needs GPUs: torch has no other; choose train or frozen"
    ):
        build_learner(
            load_model("cleanerclip-tiny-32"),
            optim=OptimOptions(),
            device="cpu",
            precision="fp32",
            sync_batch_norm=True,
            ranks=Ranks(rank=0, world=2),
        )
