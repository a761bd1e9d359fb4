"""Several processes: the same weights as one, whatever their number; what happens when one of them ends."""

import json
import multiprocessing
import os
import socket
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
import torch

from pipeline.errors import UserError
from tests.square_shards import WriteShards
from trainer import learner as learner_module
from trainer import train as train_module
from trainer.batches import BatchOptions
from trainer.checkpoint import read_weights
from trainer.defences import DEFENCES
from trainer.launch import Source, defend
from trainer.model import ModelChoice
from trainer.optim import OptimOptions
from trainer.ranks import Ranks
from trainer.train import TrainOptions

SERVER = multiprocessing.get_context("forkserver")
"""Its processes come from one that has imported torch and done nothing: one that has trained has threads, and what is
forked from it may wait for their locks for ever."""
SERVER.set_forkserver_preload(["trainer.launch", "trainer.model"])
STEPS = 20
GIVEN: Final[dict[str, dict[str, Any]]] = {
    "anchored": {"pool": 1, "invent_steps": 2, "craft_images": 4, "invent_images": 16},
}


APART = {"anchored": 3e-6}
"""How far the weights may be apart, where not 1e-6: triggers step by the signs of their gradients, and the sign of
what is all but zero is a matter of rounding."""


def run_ranks(
    world: int, given: dict[str, Any], out: Path, *, dies: tuple[int, int] | None = None
) -> list[str]:
    """A run in that many processes, as torchrun starts them; what each fails with, "" where it does not.

    `dies`: the rank of one that ends in the middle, and at which step.
    """
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    told = out.with_suffix(".said")
    told.mkdir(exist_ok=True)
    processes = [
        SERVER.Process(target=_one_rank, args=(rank, (world, port), given, told, dies))
        for rank in range(world)
    ]
    for process in processes:
        process.start()
    deadline = time.monotonic() + 120
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        process.kill()
        process.join()
    return [(told / str(r)).read_text() if (told / str(r)).exists() else "killed" for r in range(world)]


def _one_rank(
    rank: int,
    world_and_port: tuple[int, int],
    given: dict[str, Any],
    told: Path,
    dies: tuple[int, int] | None,
) -> None:
    world, port = world_and_port
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    original, steps = learner_module.update, 0

    def update(*args: Any, **kwargs: Any) -> None:
        nonlocal steps
        steps += 1
        if dies == (rank, steps):
            os._exit(1)
        original(*args, **kwargs)

    setattr(train_module, "update", update)  # noqa: B010  # in a process of its own
    said = ""
    try:
        defend(**given)
    except UserError as error:
        said = str(error)
    except BaseException:
        said = traceback.format_exc()
    (told / str(rank)).write_text(said)
    os._exit(0)


@pytest.fixture
def work(write_shards: WriteShards, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """What `defend` is given for 20 steps of a tiny CLIP without batch norm."""
    shards = str(write_shards(42, shards=3))

    def build(
        out: str, method: str, *, resume: bool = False, save_every: int | None = None
    ) -> dict[str, Any]:
        return {
            "model": ModelChoice(
                checkpoint=tmp_path / "start.pt", model="cleanerclip-tiny-32", activation="gelu"
            ),
            "source": Source(shards=shards),
            "defence": DEFENCES[method].options(**GIVEN.get(method, {})),
            "batches": BatchOptions(batch_size=8, triples=30),
            "optim": OptimOptions(lr=1e-4, warmup=1, eps=1e-3),
            "options": TrainOptions(epochs=4, batch_norm="frozen", save_every=save_every, device="cpu"),
            "out": tmp_path / out,
            "resume": resume,
        }

    from trainer.model import load_model

    torch.save(load_model("cleanerclip-tiny-32", seed=3).model.state_dict(), tmp_path / "start.pt")
    return build


def distance(one: Path, other: Path) -> float:
    """How far the weights of two runs are apart, relative to their size."""
    first, second = (read_weights(folder).state_dict for folder in (one, other))
    apart = sum(float((first[name].double() - second[name].double()).square().sum()) for name in first)
    return (apart / sum(float(tensor.double().square().sum()) for tensor in first.values())) ** 0.5


@pytest.mark.parametrize(
    ("method", "world"),
    [("cleanerclip", 2), ("cleanerclip", 4), ("par", 2), ("anchored", 2), ("anchored", 3)],
)
def test_several_processes_learn_what_one_does(
    work: Callable[..., dict[str, Any]], tmp_path: Path, method: str, world: int
) -> None:
    defend(**work("one", method))
    assert run_ranks(world, work("many", method), tmp_path / "many") == [""] * world
    assert distance(tmp_path / "start.pt", tmp_path / "one") > 3e-5
    assert distance(tmp_path / "one", tmp_path / "many") < APART.get(method, 1e-6)
    one, many = (json.loads((tmp_path / name / "summary.json").read_text()) for name in ("one", "many"))
    assert one["steps"] == many["steps"] == STEPS
    lines = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("one", "many")]
    assert [json.loads(line)["loss"] for line in lines[0]] == pytest.approx(
        [json.loads(line)["loss"] for line in lines[1]], rel=1e-5, abs=1e-6
    )


def test_a_process_that_dies_ends_the_run_which_goes_on_with_another_number(
    work: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    defend(**work("one", "cleanerclip"))
    started = time.monotonic()
    said = run_ranks(3, work("many", "cleanerclip", save_every=4), tmp_path / "many", dies=(1, 13))
    assert time.monotonic() - started < 100
    assert said[1] == "killed"
    for rank in (0, 2):
        assert f"process {rank} of 3 lost another one" in said[rank]
        assert "--resume goes on from the last saved state, with any number of processes" in said[rank]
    defend(**work("many", "cleanerclip", resume=True, save_every=4))
    assert distance(tmp_path / "one", tmp_path / "many") < 1e-6


def test_shares_are_all_rows_once() -> None:
    for world in range(1, 9):
        shares = [Ranks(rank=rank, world=world).share(range(37)) for rank in range(world)]
        assert [row for share in shares for row in share] == list(range(37))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
