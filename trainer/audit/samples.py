"""The images that an audit looks at, and the captions whose nouns it knows; from any shards that can be trained on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from pipeline.errors import UserError
from trainer.data import Skipped, read_shard
from trainer.images import BrokenImage, decode
from trainer.model import ClipModel

MOST_SHARDS: Final = 8
LEAST_IMAGES: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Images as the model takes them, and captions."""

    keys: tuple[str, ...]
    image_N3HW: Tensor
    """uint8."""
    captions: tuple[str, ...]
    """Of all samples of the shards that were read, more than there are images."""


def read_samples(
    clip: ClipModel, shards: tuple[Path, ...], *, image_shards: tuple[Path, ...] = (), num: int
) -> Samples:
    """`num` images, fewer where there are fewer, from at most eight shards spread over all; the same at every call.

    Raises:
        UserError: Shards that do not go together, or fewer than eight images that can be read.
    """
    if image_shards and len(image_shards) != len(shards):
        raise UserError(
            f"{len(shards)} text shards and {len(image_shards)} image shards: one is needed for each"
        )
    beside = image_shards or (None,) * len(shards)
    step = max(1, len(shards) // MOST_SHARDS)
    chosen = list(zip(shards, beside, strict=True))[::step][:MOST_SHARDS]
    keys: list[str] = []
    images: list[Tensor] = []
    captions: list[str] = []
    skipped = Skipped()
    for number, (shard, images_of) in enumerate(chosen):
        wanted = -(-num * (number + 1) // len(chosen))
        for sample in read_shard(shard, skipped=skipped, images=images_of):
            captions.append(sample.caption)
            if len(images) < wanted:
                try:
                    images.append(clip.resize(decode(sample.image)))
                    keys.append(sample.key)
                except BrokenImage:
                    skipped.add("broken_image", sample.key)
    if len(images) < LEAST_IMAGES:
        told = f"; left out: {dict(skipped.counts)}" if skipped.counts else ""
        raise UserError(
            f"{len(images)} images with captions can be read, an audit needs {LEAST_IMAGES}{told}"
        )
    return Samples(keys=tuple(keys), image_N3HW=torch.stack(images), captions=tuple(captions))
