"""SIG: a sine wave from left to right (Barni et al. 2019).

Three presets. `sig`, the default: image + 60/255 sin(2 pi 6 column / width), clipped. `sig-public`: the same as
BadCLIP's public code writes it to bytes, cut off instead of rounded. `sig-cleanclip`: CleanCLIP's public code, where
the wave passes through the blend of Blended, so that the image keeps four fifths of its brightness and the wave a
fifth of its height.

The number of periods belongs to the image's width, whatever it is; nothing is random, nothing is kept but numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, pi

import torch
from torch import Tensor

from pipeline.errors import UserError
from trainer.attacks.overlay import Overlay, check_share, lay_over, mix
from trainer.attacks.trigger import Trigger


@dataclass(frozen=True, slots=True, kw_only=True)
class SigOptions:
    """The wave."""

    strength: float = 60 / 255
    """Height of the wave; an image reaches from 0 to 1."""
    periods: float = 6
    """How many over the width."""
    share: float = 1.0
    """Below 1: (1 - share) x image + share x wave; 1: image + wave."""
    cut: bool = False
    """Cut off to bytes instead of rounding."""

    def __post_init__(self) -> None:
        if not 0 < self.strength <= 1:
            raise UserError(f"strength must be above 0 and at most 1, not {self.strength}")
        if not 0 < self.periods < inf:
            raise UserError(f"periods must be above 0, not {self.periods}")
        check_share(self.share)


def make_sig(options: SigOptions, *, image_size: int, seed: int = 0, preset: str = "sig") -> Trigger:
    """The trigger: nothing is drawn, so that any seed gives the same."""
    return Trigger(
        kind="sig",
        preset=preset,
        image_size=image_size,
        seed=0,
        settings={
            "strength": options.strength,
            "periods": options.periods,
            "share": options.share,
            "rounding": "cut" if options.cut else "nearest",
        },
        tensors={},
        apply_to=apply_sig,
    )


def apply_sig(trigger: Trigger, images_N3HW: Tensor, tokens: Sequence[str]) -> Tensor:
    """New images with the wave; values may leave 0..1."""
    share, settings = float(trigger.settings["share"]), trigger.settings

    def draw(height: int, width: int) -> Overlay:
        columns_W = torch.arange(width, dtype=torch.float64)
        wave_W = torch.sin(2 * pi * float(settings["periods"]) * columns_W / width)
        wave_3HW = float(settings["strength"]) * wave_W.expand(3, height, width)
        if share == 1:
            return torch.ones(1), wave_3HW.to(torch.float32)
        return mix(wave_3HW, share)

    return lay_over(trigger, images_N3HW, draw)
