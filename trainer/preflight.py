"""What a run will be, before its first step: what it reads, trains, needs and takes; what will not fit is said.

`look` is cheap and stands before every run; `rehearse` takes a few steps on a model that is thrown away, for
`--dry-run`. Warnings name the option that mends it.
"""

import os
import shutil
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from trainer.batches import PART, PARTS_AHEAD, Batch, BatchStream
from trainer.data import SampleReader
from trainer.defences.defence import Defence
from trainer.images import to_image
from trainer.learner import Learner, update
from trainer.log import duration
from trainer.train import TrainOptions, compute_loss, memory_gb, set_mode

CAPTIONS: Final = 1_000
"""How many captions are looked at."""
STEPS: Final = 4
"""Steps that are timed, the first of them left out."""
SHOWN: Final = 32
SIDE: Final = 96
_SHARED: Final = Path("/dev/shm")


def look(stream: BatchStream, learner: Learner, *, options: TrainOptions, out: Path) -> Iterator[str]:
    """Lines on the shards, captions, model and disk; those that begin with "warning" are what may not fit."""
    index, clip, world = stream.index, learner.clip, learner.ranks.world
    left_out = sum(index.skipped.counts.values())
    yield f"data: {len(index.keys):,} samples in {len(index.shards)} shards, {left_out:,} left out"
    if left_out > len(index.keys):
        yield "warning: more samples are left out than can be used: " + ", ".join(index.skipped.counts)
    yield _captions(stream)
    weights = list(clip.model.parameters())
    trained = sum(weight.numel() for weight in weights if weight.requires_grad)
    kept = sum(weight.numel() for weight in weights) * 4
    activation = "quickgelu" if clip.config.get("quick_gelu") else "gelu"
    loss = "sigmoid loss" if clip.sigmoid else "softmax loss"
    yield (
        f"model: {clip.name}, {activation}, {loss}, {clip.image_size} px; {trained / 1e6:.1f} of "
        f"{kept / 4e6:.1f} million parameters trained; {learner.device}, {learner.precision}"
    )
    yield f"memory: {(kept + 12 * trained) / 1e9:.2f} GB for weights, gradients and AdamW, beside activations"
    yield from _disk(kept, trained, options=options, out=out)
    yield from _workers(stream, world)


def _captions(stream: BatchStream) -> str:
    reader, num = SampleReader(stream.index), min(CAPTIONS, len(stream.index.keys))
    step = len(stream.index.keys) // num
    captions = [reader.read(position * step).caption for position in range(num)]
    tokens_NL = stream.preparer.tokenizer(captions)
    cut = int((tokens_NL[:, -1] != 0).sum())
    return (
        f"captions: of {num:,} looked at, {100 * cut / num:.1f} % fill the {tokens_NL.shape[1]} tokens that the model "
        "reads, and are cut there"
    )


def _disk(kept: int, trained: int, *, options: TrainOptions, out: Path) -> Iterator[str]:
    stored = kept // (2 if options.storage == "fp16" else 1)
    needed = stored * (options.epochs + 1) + 2 * (
        kept + 8 * trained
    )  # the state is written beside the old one
    there = out if out.exists() else next(parent for parent in out.absolute().parents if parent.exists())
    free = shutil.disk_usage(there).free
    yield f"disk: at most {needed / 1e9:.2f} GB in {out}, {free / 1e9:.1f} GB free"
    if needed > free:
        yield f"warning: {out} has too little space: --storage fp16, fewer --epochs, or another --out"


def _workers(stream: BatchStream, world: int) -> Iterator[str]:
    workers, cores = stream.options.workers, os.cpu_count() or 1
    yield f"processes: {world} that train, {workers} beside each that decode, {cores} cores"
    if (workers + 1) * world > 2 * cores:
        yield f"warning: more processes than {cores} cores can feed: lower --workers"
    side = stream.preparer.image_size
    ahead = world * workers * PARTS_AHEAD * PART * 3 * side * side * (2 if stream.needs.views else 1)
    if _SHARED.exists() and ahead > (free := shutil.disk_usage(_SHARED).free):
        yield (
            f"warning: decoded images wait in {_SHARED}, up to {ahead / 1e9:.2f} GB, and {free / 1e9:.2f} GB are free: "
            "lower --workers, or give the container more (docker run --shm-size)"
        )


def rehearse(
    stream: BatchStream, learner: Learner, defence: Defence, *, options: TrainOptions, out: Path
) -> Iterator[str]:
    """Takes a few steps, which change the model, and draws the first batch: lines on time and memory."""
    set_mode(learner.clip.model, options.batch_norm)
    batches = list(islice(stream.epoch(0), STEPS))
    with learner.autocast():
        defence.prepare(batch.to(learner.device) for batch in batches)
    started = time.perf_counter()
    for step, host_batch in enumerate(batches):
        if step == 1 or len(batches) == 1:  # the first one allocates
            started = time.perf_counter()
        loss, _, _ = compute_loss(learner, defence, host_batch.to(learner.device), step=step)
        update(learner, loss, lr=1e-12, max_gradient_norm=None)
        float(loss.detach())  # waits for the device
    each = (time.perf_counter() - started) / max(1, len(batches) - 1)
    total = stream.steps_per_epoch * options.epochs
    picture = out / "batch.png"
    if learner.ranks.is_first:
        out.mkdir(parents=True, exist_ok=True)
        draw(batches[0]).save(picture)
    yield f"time: {each:.2f} s a step without waiting for data, {duration(each * total)} for {total:,} steps"
    most = memory_gb(learner.device)
    yield f"memory: {most:.2f} GB at most in these steps; --parts and --grad-checkpointing save some"
    yield f"drawn: {picture}, the first batch as the model sees it"


def draw(batch: Batch) -> Image.Image:
    """The first images of a batch, each with its view below where there is one, and its key."""
    num = min(SHOWN, batch.num_pairs)
    columns, rows = min(8, num), 1 if batch.image_view_B3HW is None else 2
    height = rows * SIDE + 14
    sheet = Image.new("RGB", (columns * SIDE, -(-num // columns) * height), (255, 255, 255))
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(10)
    for number in range(num):
        left, top = number % columns * SIDE, number // columns * height
        shown = [batch.image_M3HW[number]]
        if batch.image_view_B3HW is not None:
            shown.append(batch.image_view_B3HW[number])
        for row, pixels_3HW in enumerate(shown):
            sheet.paste(to_image(pixels_3HW.cpu()).resize((SIDE, SIDE)), (left, top + row * SIDE))
        pen.text((left + 2, top + rows * SIDE), batch.keys[number][-14:], fill=(20, 20, 20), font=font)
    return sheet
