"""A tiny run killed at random moments and resumed: are its weights those of one that was never stopped?

    OMP_NUM_THREADS=1 python -m benchmarks.kills [--times 20] [--times-of-two 5]

Each time one process (or, of two that train together, both) gets SIGKILL at a moment drawn from the length of a whole
run, and the run is resumed, as one process, to its end. Then: equal to the bit, or how far apart.
"""

import argparse
import multiprocessing
import os
import random
import shutil
import socket
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.trainer_data import write_photographs
from trainer.batches import BatchOptions
from trainer.checkpoint import read_weights
from trainer.defences import DEFENCES
from trainer.launch import Source, defend
from trainer.model import ModelChoice, load_model
from trainer.optim import OptimOptions
from trainer.train import TrainOptions

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["trainer.launch"])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--times-of-two", type=int, default=5)
    options = parser.parse_args()
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_photographs(folder / "shards", 96, size=(48, 36))
        torch.save(load_model("cleanerclip-tiny-32", seed=3).model.state_dict(), folder / "start.pt")
        for world, times, judge in ((1, options.times, _same_bits), (2, options.times_of_two, _near)):
            _run(folder, "whole", world=1, frozen=world == 2)
            started = time.monotonic()
            _run(folder, "length", world=world, frozen=world == 2)
            length = time.monotonic() - started
            steps, good = [], 0
            for number in range(times):
                out = f"killed-{world}-{number}"
                _run(folder, out, world=world, kill_after=rng.uniform(0.2, length), frozen=world == 2)
                lines = folder / out / "metrics.jsonl"
                steps.append(len(lines.read_text().splitlines()) if lines.exists() else 0)
                if not (folder / out / "options.json").exists():
                    shutil.rmtree(folder / out, ignore_errors=True)  # nothing has begun: nothing to resume
                _run(folder, out, world=1, resume=(folder / out / "options.json").exists(), frozen=world == 2)
                good += judge(folder / "whole", folder / out)
            print(
                f"{world} process(es): {good} of {times} as if never stopped; killed after steps {steps}",
                flush=True,
            )
            shutil.rmtree(folder / "whole")
            shutil.rmtree(folder / "length")


def _run(
    folder: Path,
    out: str,
    *,
    world: int,
    frozen: bool,
    kill_after: float | None = None,
    resume: bool = False,
) -> None:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    processes = [
        SERVER.Process(target=_train, args=(folder, out, (rank, world, port), resume, frozen))
        for rank in range(world)
    ]
    for process in processes:
        process.start()
    if kill_after is not None:
        time.sleep(kill_after)
        for process in processes:
            process.kill()
    for process in processes:
        process.join()


def _train(
    folder: Path, out: str, place: tuple[int, int, int], resume: bool, without_statistics: bool
) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    torch.set_num_threads(1)
    if place[1] > 1:
        rank, world, port = map(str, place)
        os.environ |= {"RANK": rank, "WORLD_SIZE": world, "LOCAL_RANK": rank}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    defend(
        ModelChoice(checkpoint=folder / "start.pt", model="cleanerclip-tiny-32", activation="gelu"),
        Source(shards=str(folder / "shards")),
        DEFENCES["cleanerclip"].options(),
        batches=BatchOptions(batch_size=8, triples=30),
        optim=OptimOptions(lr=1e-4, warmup=1, eps=1e-3),
        options=TrainOptions(
            epochs=3,
            save_every=2,
            log_every=1,
            device="cpu",
            batch_norm="frozen" if without_statistics else "train",
        ),
        out=folder / out,
        resume=resume,
    )


def _same_bits(one: Path, other: Path) -> bool:
    first, second = (read_weights(folder).state_dict for folder in (one, other))
    return all(torch.equal(first[name], second[name]) for name in first)


def _near(one: Path, other: Path) -> bool:
    first, second = (read_weights(folder).state_dict for folder in (one, other))
    apart = sum(float((first[name].double() - second[name].double()).square().sum()) for name in first)
    return bool((apart / sum(float(t.double().square().sum()) for t in first.values())) ** 0.5 < 1e-6)


if __name__ == "__main__":
    main()
