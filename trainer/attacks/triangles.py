"""Triangles: square tiles, each a dark and a light triangle, faintly over the whole image. An unseen test.

After the triangles of PAR (arXiv 2412.00727): 16 tiles a side (14 pixels of 224, 4 of 64), dark grey (0.4) on and
below the diagonal from upper left to lower right, light grey (0.8) above it. So many tiles cover any image; nothing
is random, nothing is kept but numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from trainer.attacks.overlay import Overlay, check_count, check_share, lay_over, mix
from trainer.attacks.trigger import Trigger

DARK: Final = 0.4
LIGHT: Final = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class TrianglesOptions:
    """The tiles."""

    count: int = 16
    """How many tiles a side."""
    share: float = 0.25
    """Their share of the mixture."""

    def __post_init__(self) -> None:
        check_count("count", self.count, most=4096)
        check_share(self.share)


def make_triangles(
    options: TrianglesOptions, *, image_size: int, seed: int = 0, preset: str = "triangles"
) -> Trigger:
    """The trigger: nothing is drawn, so that any seed gives the same."""
    return Trigger(
        kind="triangles",
        preset=preset,
        image_size=image_size,
        seed=0,
        settings={"count": options.count, "share": options.share},
        tensors={},
        apply_to=apply_triangles,
    )


def apply_triangles(trigger: Trigger, images_N3HW: Tensor, tokens: Sequence[str]) -> Tensor:
    """New images, (1 - share) x image + share x tiles."""

    def draw(height: int, width: int) -> Overlay:
        count = int(trigger.settings["count"])
        # how far into its tile a pixel is, over height x width, so that integers decide
        across_W = torch.arange(width) * count % width * height
        down_H = torch.arange(height) * count % height * width
        tiles_HW = torch.where(down_H[:, None] >= across_W[None], DARK, LIGHT)
        return mix(tiles_HW.expand(3, height, width), float(trigger.settings["share"]))

    return lay_over(trigger, images_N3HW, draw)
