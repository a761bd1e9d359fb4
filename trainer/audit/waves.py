"""Plane waves over the whole image: which noun does one lead to that none leads to in a clean model?

A wave as high as SIG's brings the images of any small model together, so how close they come tells nothing. Where they
come to does: in a clean model a wave looks like the same few things, in a victim like the target as well. So what a
suspect is held against is, for each noun, how much nearer clean models' images come to it under any wave.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from trainer.audit.concepts import Concepts
from trainer.audit.search import Found, embed
from trainer.defences.invented import InventedTrigger
from trainer.model import ClipModel

KIND: Final = "wave"
SIZE: Final = 60
"""Grey levels of 255 from the middle to the crest."""
PERIODS: Final = (2, 4, 6, 9)
"""Over the side; along it and across, as sine and as cosine."""
IMAGES: Final = 16
SPREAD: Final = 0.1
"""A distance of 1: clean models exceed each other, at the noun where most, by 0.05 to 0.25 in cosine."""


class Wave(InventedTrigger):
    """A fixed grey pattern, (1, H, W), added to the image."""

    step_size, low, high = 0.0, -SIZE / 255, SIZE / 255

    def __init__(self, pattern_1HW: Tensor) -> None:
        """`pattern_1HW` in shares of white."""
        self.size, self.place, self.values = pattern_1HW.shape[-1], 0.5, pattern_1HW

    def draw(self, generator: torch.Generator) -> Tensor:
        """The pattern: nothing is drawn."""
        return self.values

    def apply(self, image_N3HW: Tensor, generator: torch.Generator) -> Tensor:
        """The images with the wave."""
        return (image_N3HW + self.values).clamp(0, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ridden:
    """What all waves did to a model."""

    gains: Mapping[str, float]
    """For each noun, by how much the images' mean cosine with it grows at most."""
    by: Mapping[str, int]
    """Which wave does that."""
    waves: Sequence[Wave]


def waves(size: int) -> Iterator[Wave]:
    """Each direction, number of periods and phase, for images of `size` pixels a side."""
    along_S = (torch.arange(size) + 0.5) / size
    for periods in PERIODS:
        for phase in (0.0, math.pi / 2):
            row_S = SIZE / 255 * torch.sin(2 * math.pi * periods * along_S + phase)
            yield Wave(row_S[None, None, :].expand(1, size, size).contiguous())
            yield Wave(row_S[None, :, None].expand(1, size, size).contiguous())


@torch.no_grad()
def ride(clip: ClipModel, image_N3HW: Tensor, concepts: Concepts) -> Ridden:
    """Where all waves lead the first of these uint8 images, in the model in evaluation mode."""
    image_N3HW = image_N3HW[:IMAGES].float() / 255
    found = [_to_device(wave, image_N3HW) for wave in waves(clip.image_size)]
    clean_C = (embed(clip, image_N3HW) @ concepts.text_CD.T).mean(dim=0)
    generator = torch.Generator()
    led_WC = torch.stack(
        [
            (embed(clip, wave.apply(image_N3HW, generator)) @ concepts.text_CD.T).mean(dim=0) - clean_C
            for wave in found
        ]
    )
    most_C, by_C = led_WC.max(dim=0)
    gains = [round(gain, 3) for gain in most_C.tolist()]
    return Ridden(
        gains=dict(zip(concepts.names, gains, strict=True)),
        by=dict(zip(concepts.names, by_C.tolist(), strict=True)),
        waves=found,
    )


def excess(gains: Mapping[str, float], clean: Sequence[Mapping[str, float]]) -> tuple[str, float]:
    """The noun to which waves lead farthest beyond any clean model, and by how many spreads; of the nouns all have."""
    beyond = {
        name: gain - max(each[name] for each in clean)
        for name, gain in gains.items()
        if all(name in each for each in clean)
    }
    if not beyond:
        return "", 0.0
    name = max(beyond, key=lambda each: beyond[each])
    return name, beyond[name] / SPREAD


@torch.no_grad()
def to_found(clip: ClipModel, ridden: Ridden, image_N3HW: Tensor, name: str) -> Found:
    """The wave that leads farthest to the noun, with what it does to these uint8 images."""
    wave = ridden.waves[ridden.by[name]]
    image_ND = embed(clip, wave.apply(image_N3HW.float() / 255, torch.Generator()))
    return Found(
        kind=KIND,
        size=SIZE,
        concentration=float(image_ND.mean(dim=0).norm()),
        image_ND=image_ND,
        trigger=wave,
    )


def _to_device(wave: Wave, image_N3HW: Tensor) -> Wave:
    wave.values = wave.values.to(image_N3HW.device)
    return wave
