"""How fast the trainer prepares batches from files: 500 x 375 JPEGs to 224 px, for `ft` and for `cleanclip`.

    OMP_NUM_THREADS=1 python -m benchmarks.trainer_data [--samples 512] [--workers 1 --workers 2]
        [--before CHECKOUT] [--no-sides] [--method ft]

Prints a Markdown table: samples per second of CPU time in one process, and beside it those of open_clip's own loader
with the same decoding, resizing, normalising and tokens (for `cleanclip` the same AutoAugment views and second texts,
too), and of an older checkout of this repository; each is a process of its own, they take turns, the medians are
printed. Then, per number of worker processes, samples per second of wall time, which other work on the machine lowers;
beside it what two loaders of one worker each, which know nothing of each other, prepare together: the machine's limit.
Each side prepares two epochs, of which the second counts; with workers four, of which the last three count.
"""

import argparse
import io
import json
import os
import random
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image

from trainer.batches import BatchOptions, BatchStream, Needs
from trainer.data import find_shards, index_shards
from trainer.images import augmented_view
from trainer.model import ClipModel, load_model

BATCH = 64
METHODS = {"ft": Needs(), "cleanclip": Needs(views=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--workers", type=int, action="append", default=[])
    parser.add_argument("--model", default="RN50")
    parser.add_argument("--before", type=Path, help="a checkout to compare with")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-sides", action="store_true", help="workers alone")
    parser.add_argument("--method", action="append", choices=METHODS)
    parser.add_argument("--side", nargs=4, help=argparse.SUPPRESS)  # which, method, workers, shards
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.side:
        print(measure_side(load_model(options.model), *options.side), flush=True)
        return
    with tempfile.TemporaryDirectory() as folder:
        shards = write_photographs(Path(folder), options.samples)
        sides = ["ours", "open_clip"] + (["before"] if options.before else [])
        methods = options.method or list(METHODS)
        if not options.no_sides:
            print("| method | ours | " + " | ".join(f"{side} | ratio" for side in sides[1:]) + " |")
        for method in () if options.no_sides else methods:
            found = in_turns([(side, method, "0") for side in sides], shards, options)
            told = " | ".join(f"{each:.0f} | {found[0] / each:.2f}" for each in found[1:])
            print(f"| {method} | {found[0]:.0f} | {told} |", flush=True)
        for method in methods if options.workers else ():
            rows = [("ours", method, str(workers)) for workers in options.workers]
            *found, two = in_turns([*rows, ("two", method, "1")], shards, options)
            for workers, each in zip(options.workers, found, strict=True):
                print(f"{method}, {workers} workers: {each:.0f} samples/s of wall time", flush=True)
            print(
                f"{method}, two loaders of one worker: {two:.0f} samples/s of wall time together", flush=True
            )


def in_turns(sides: list[tuple[str, str, str]], shards: str, options: argparse.Namespace) -> list[float]:
    """The median of each side over the rounds, in which they take turns."""
    found: list[list[float]] = [[] for _ in sides]
    for _ in range(options.rounds):
        for each, side in zip(found, sides, strict=True):
            root = options.before if side[0] == "before" else Path(__file__).parents[1]
            name, num = ("ours", 2) if side[0] == "two" else (side[0], 1)
            command = [sys.executable, __file__, "--model", options.model, "--side", name, *side[1:], shards]
            each.append(started_together(command, num, root=root))
    return [median(each) for each in found]


def started_together(command: list[str], num: int, *, root: Path) -> float:
    """The sum of what `num` processes of the command tell, which measure at the same time."""
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
            )
            for _ in range(num)
        ]
        for process in processes:
            assert process.stdout
            process.stdout.readline()  # it is ready
        for process in processes:
            assert process.stdin
            process.stdin.write("go\n")
            process.stdin.flush()
        return sum(float(process.stdout.readline()) for process in processes if process.stdout)


def measure_side(clip: ClipModel, side: str, method: str, workers: str, shards: str) -> float:
    """Samples per second of one side: of processor time, with workers of wall time."""
    if side == "open_clip":
        return measure(open_clips_over(clip, shards, method), clock=time.process_time)
    clock = time.perf_counter if int(workers) else time.process_time
    return measure(ours_over(clip, shards, method, workers=int(workers)), clock=clock)


def write_photographs(folder: Path, num: int, *, size: tuple[int, int] = (500, 375)) -> str:
    """Shards of noisy gradients, which a JPEG of quality 85 stores in 40 KB, as it does photographs of this size.

    Each has three texts (caption, two views), a positive and a negative.
    """
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    words = (
        "a",
        "big",
        "black",
        "dog",
        "chasing",
        "red",
        "ball",
        "on",
        "the",
        "grass",
        "near",
        "an",
        "old",
        "house",
    )
    for shard in range(2):
        with tarfile.open(folder / f"{shard:05d}.tar", "w") as tar:
            for number in range(shard, num, 2):
                smooth = Image.fromarray(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)).resize(size)
                noisy = np.asarray(smooth).astype(np.int16) + rng.integers(-12, 12, (*size[::-1], 3))
                picture = io.BytesIO()
                Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(picture, "JPEG", quality=85)
                texts = [" ".join(random.Random(f"{number}:{n}").choices(words, k=10)) for n in range(3)]
                record = json.dumps(
                    {"views": texts[1:], "positive": texts[1], "negatives": texts[2:]}
                ).encode()
                members = {"jpg": picture.getvalue(), "json": record, "txt": texts[0].encode()}
                for extension, data in members.items():
                    member = tarfile.TarInfo(f"{number:06d}.{extension}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    return str(folder)


def measure(batches: Iterable[int], *, clock: Callable[[], float]) -> float:
    """Samples per second behind the first 0: what starts, has started, and the others are as far."""
    rows = iter(batches)
    while next(rows):
        pass
    print("ready", flush=True)
    sys.stdin.readline()
    started = clock()
    num = sum(rows)
    return num / (clock() - started)


def ours_over(clip: ClipModel, shards: str, method: str, *, workers: int = 0) -> Iterable[int]:
    """Our batches, normalised as the device would; how many samples each has."""
    index = index_shards(find_shards(shards))
    options = BatchOptions(batch_size=BATCH, workers=workers)
    stream = BatchStream(index, clip, needs=METHODS[method], options=options)
    for epoch in range(4 if workers else 2):
        for batch in stream.epoch(epoch):
            if not workers:
                clip.normalise(batch.image_M3HW)
                if batch.image_view_B3HW is not None:
                    clip.normalise(batch.image_view_B3HW)
            yield batch.num_pairs
        if epoch == 0:
            yield 0


def open_clips_over(clip: ClipModel, shards: str, method: str) -> Iterable[int]:
    """open_clip's loader over the same shards, in one process."""
    import webdataset.utils

    webdataset.utils.enforce_security = False  # else its opener takes no local files
    from open_clip.transform import image_transform  # noqa: TID251
    from open_clip_train.data import get_wds_dataset  # type: ignore[import-untyped]

    transform = image_transform(clip.image_size, is_train=False)
    views = METHODS[method].views

    def image(picture: Image.Image) -> Any:
        if not views:
            return transform(picture)
        return torch.stack([transform(picture), transform(augmented_view(picture, random.Random(0)))])

    def tokens(text: str) -> Any:
        return [clip.tokenizer([text, text] if views else [text])]

    pattern = "::".join(str(path) for path in find_shards(shards))
    size = len(index_shards(find_shards(shards)).keys)
    options = SimpleNamespace(
        val_data=pattern, val_num_samples=size, batch_size=BATCH, workers=0, world_size=1
    )
    loader = get_wds_dataset(options, image, is_train=False, tokenizer=tokens).dataloader
    for epoch in range(2):
        yield from (len(images) for images, _ in islice(loader, size // BATCH))
        if epoch == 0:
            yield 0


if __name__ == "__main__":
    main()
