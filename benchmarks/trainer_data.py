"""How fast the trainer prepares batches from files: 500 x 375 JPEGs to 224 px, for `ft` and for `cleanclip`.

    OMP_NUM_THREADS=1 python -m benchmarks.trainer_data [--samples 512] [--workers 1 --workers 2]

Prints a Markdown table: samples per second of CPU time in one process, and beside it those of open_clip's own loader
with the same decoding, resizing, normalising and tokens (for `cleanclip` the same AutoAugment views and second texts,
too); then, per number of worker processes, samples per second of wall time, which other work on the machine lowers.
"""

import argparse
import io
import json
import random
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
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
    options = parser.parse_args()
    torch.set_num_threads(1)
    clip = load_model(options.model)
    with tempfile.TemporaryDirectory() as folder:
        shards = write_photographs(Path(folder), options.samples)
        print("| method | samples/s of CPU | open_clip's loader | ratio |\n| --- | --- | --- | --- |")
        for method in METHODS:
            ours = measure(ours_over(clip, shards, method), clock=time.process_time)
            theirs = measure(open_clips_over(clip, shards, method), clock=time.process_time)
            print(f"| {method} | {ours:.0f} | {theirs:.0f} | {ours / theirs:.2f} |", flush=True)
        if options.workers:
            print("\n| method | workers | samples/s |\n| --- | --- | --- |")
        for method in METHODS:
            for workers in options.workers:
                found = measure(ours_over(clip, shards, method, workers=workers), clock=time.perf_counter)
                print(f"| {method} | {workers} | {found:.0f} |", flush=True)


def write_photographs(folder: Path, num: int) -> str:
    """Shards of noisy gradients, which a JPEG of quality 85 stores in 40 KB, as it does photographs of this size."""
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
                smooth = Image.fromarray(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)).resize((500, 375))
                noisy = np.asarray(smooth).astype(np.int16) + rng.integers(-12, 12, (375, 500, 3))
                picture = io.BytesIO()
                Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(picture, "JPEG", quality=85)
                texts = [" ".join(random.Random(f"{number}:{n}").choices(words, k=10)) for n in range(3)]
                record = json.dumps({"views": texts[1:]}).encode()
                members = {"jpg": picture.getvalue(), "json": record, "txt": texts[0].encode()}
                for extension, data in members.items():
                    member = tarfile.TarInfo(f"{number:06d}.{extension}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    return str(folder)


def measure(batches: Iterable[int], *, clock: Callable[[], float]) -> float:
    """Samples per second behind the first two batches: what starts, has started."""
    rows = iter(batches)
    next(rows), next(rows)
    started = clock()
    num = sum(rows)
    return num / (clock() - started)


def ours_over(clip: ClipModel, shards: str, method: str, *, workers: int = 0) -> Iterable[int]:
    """Our batches, normalised as the device would; how many samples each has."""
    index = index_shards(find_shards(shards))
    options = BatchOptions(batch_size=BATCH, workers=workers)
    for batch in BatchStream(index, clip, needs=METHODS[method], options=options).epoch(0):
        if not workers:
            clip.normalise(batch.image_M3HW)
            if batch.image_view_B3HW is not None:
                clip.normalise(batch.image_view_B3HW)
        yield batch.num_pairs


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
    return (len(images) for images, _ in islice(loader, size // BATCH))


if __name__ == "__main__":
    main()
