"""WaNet: the image is warped a little, everywhere in its own way (Nguyen and Tran 2021).

Three presets. `wanet`, the default, is the grid of the CLIP attack papers: every pixel is fetched from a random place
about half a pixel away (k = image size, s = 1), the same places for every image, drawn once from the seed and kept
in the trigger file. `wanet-public`: the same, cut off to bytes as BadCLIP's public code does it. `wanet-smooth`: the
warp of WaNet's own paper, 4x4 random shifts with smooth bicubic curves between them, a real bend of the picture.

As in the public code: shifts uniform in -1..1, divided by their mean size, times s / image size, added to coordinates
that reach from -1 to 1 over the image, clipped to it, sampled bilinearly with aligned corners. So the mean shift is
s / 2 pixels of the size it was made at. In images of another size shifts keep their share of the side, with bicubic
values between those kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.errors import UserError
from trainer.attacks.trigger import Trigger
from trainer.seeds import seeded_bytes

SMOOTH_SHARE: Final = 1 / 16
"""s of a grid coarser than the pixels, as a share of the image's side: the mean shift is a 32nd of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WanetOptions:
    """The warp."""

    grid: int | None = None
    """k: shifts per side. Default: one for every pixel."""
    strength: float | None = None
    """s: twice the mean shift in pixels. Default: 1 where every pixel has its own, else a 16th of the side."""
    cut: bool = False
    """Cut off to bytes instead of rounding."""

    def __post_init__(self) -> None:
        if self.grid is not None and self.grid < 2:
            raise UserError(f"grid must be at least 2, not {self.grid}")
        if self.strength is not None and not 0 < self.strength < inf:
            raise UserError(f"strength must be above 0, not {self.strength}")


def make_wanet(options: WanetOptions, *, image_size: int, seed: int = 0, preset: str = "wanet") -> Trigger:
    """The trigger for images of `image_size` pixels; UserError for a grid finer than the pixels."""
    grid = options.grid or image_size
    if grid > image_size:
        raise UserError(f"a grid of {grid} shifts a side is finer than an image of {image_size} pixels")
    strength = options.strength or (1.0 if options.grid is None else SMOOTH_SHARE * image_size)
    bytes_ = seeded_bytes((2, grid, grid, 4), seed, "wanet", grid)
    shifts_2KK = bytes_.view(torch.int32)[..., 0].to(torch.float64) / 2**31
    shifts_2KK /= shifts_2KK.abs().mean()
    return Trigger(
        kind="wanet",
        preset=preset,
        image_size=image_size,
        seed=seed,
        settings={"grid": grid, "strength": strength, "rounding": "cut" if options.cut else "nearest"},
        tensors={"shifts": shifts_2KK.to(torch.float32)},
        apply_to=apply_wanet,
    )


def apply_wanet(trigger: Trigger, images_N3HW: Tensor, tokens: Sequence[str]) -> Tensor:
    """New images, each pixel fetched from where the grid says."""
    height, width = images_N3HW.shape[2:]
    places_1HW2 = trigger.prepare(
        "places", height, width, images_N3HW, lambda: _draw_places(trigger, height, width, images_N3HW.device)
    )
    places_NHW2 = places_1HW2.expand(images_N3HW.shape[0], -1, -1, -1)
    return functional.grid_sample(
        images_N3HW, places_NHW2, mode="bilinear", padding_mode="border", align_corners=True
    )


def _draw_places(trigger: Trigger, height: int, width: int, device: torch.device) -> Tensor:
    """Where each pixel comes from: float32 (1, H, W, 2), x then y, -1 to 1 from edge to edge.

    In float32 and in the public code's order: where results are cut off, the last bit decides over a grey level.
    """
    shifts_12KK = trigger.tensors["shifts"][None]
    if shifts_12KK.shape[2:] != (height, width):
        shifts_12KK = functional.interpolate(
            shifts_12KK.to(torch.float64), size=(height, width), mode="bicubic", align_corners=True
        ).to(torch.float32)
    x_W, y_H = (torch.linspace(-1, 1, side) for side in (width, height))
    own_HW2 = torch.stack((x_W.expand(height, width), y_H[:, None].expand(height, width)), dim=-1)
    shifts_HW2 = float(trigger.settings["strength"]) * shifts_12KK[0].permute(1, 2, 0) / trigger.image_size
    return (own_HW2 + shifts_HW2).clamp(-1, 1)[None].to(device)
