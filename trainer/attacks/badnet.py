"""BadNet: a small square of noise somewhere in the image (Gu et al. 2017, as the CLIP attack papers use it).

Two presets. `badnet`, the default: one square of Gaussian noise, drawn once from the seed and kept in the trigger
file, put at a place that depends on the image (or always in the lower right corner). `badnet-public` repeats what
the public CleanCLIP and BadCLIP code does: for every image a new square of the image's channel means plus N(0, 1)
noise, a uniformly random place, and values outside 0..1 that wrap modulo 256 when they become bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, Literal, get_args

import torch
from torch import Tensor

from pipeline.errors import UserError
from trainer.attacks.trigger import Trigger, seeded_int

Placement = Literal["random", "fixed"]

PUBLIC_SCALE: Final = 16 / 224
"""Side of the square in the papers, as a share of the image's side."""
MIN_SIDE: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class BadNetOptions:
    """How the square looks and where it goes."""

    scale: float = PUBLIC_SCALE
    """Side of the square as a share of the image's side; never below 4 pixels."""
    placement: Placement = "random"
    """random: drawn for each image from seed and key; fixed: the lower right corner."""
    fresh_noise: bool = False
    """New noise around the image's channel means for every image, wrapping modulo 256, instead of one kept square."""

    def __post_init__(self) -> None:
        if not 0 < self.scale <= 1:
            raise UserError(f"the trigger's scale must be above 0 and at most 1, not {self.scale}")
        if self.placement not in get_args(Placement):
            raise UserError(
                f"placement must be one of {', '.join(get_args(Placement))}, not {self.placement!r}"
            )


def make_badnet(options: BadNetOptions, *, image_size: int, seed: int = 0, preset: str = "badnet") -> Trigger:
    """The trigger for images of `image_size` pixels; UserError where the square would be larger than the image."""
    side = max(MIN_SIDE, round(options.scale * image_size))
    if side > image_size:
        raise UserError(
            f"a trigger of {side}x{side} pixels does not fit into a {image_size}x{image_size} image"
        )
    tensors = {} if options.fresh_noise else {"patch": _draw_patch(side, seed)}
    return Trigger(
        kind="badnet",
        preset=preset,
        image_size=image_size,
        seed=seed,
        settings={"side": side, "placement": options.placement, "fresh_noise": options.fresh_noise},
        tensors=tensors,
        apply_to=apply_badnet,
    )


def apply_badnet(trigger: Trigger, images_N3HW: Tensor, tokens: Sequence[str]) -> Tensor:
    """New images with the square in each; all other pixels unchanged."""
    side, size = int(trigger.settings["side"]), trigger.image_size
    triggered_N3HW = images_N3HW.clone()
    for image_3HW, token in zip(triggered_N3HW, tokens, strict=True):
        top = left = size - side
        if trigger.settings["placement"] == "random":
            rng = Random(f"{trigger.seed}:place:{token}")
            top, left = rng.randint(0, size - side), rng.randint(0, size - side)
        if trigger.settings["fresh_noise"]:
            patch_3SS = _draw_fresh_patch(image_3HW, side, seeded_int(trigger.seed, "noise", token))
        else:
            patch_3SS = trigger.tensors["patch"]
        image_3HW[:, top : top + side, left : left + side] = patch_3SS.to(image_3HW.device)
    return triggered_N3HW


def _draw_patch(side: int, seed: int) -> Tensor:
    """0.5 + N(0, 1), clipped to 0..1: uint8 (3, side, side)."""
    generator = torch.Generator().manual_seed(seeded_int(seed, "badnet", side))
    noise_3SS = torch.randn((3, side, side), generator=generator)
    return ((0.5 + noise_3SS).clamp(0, 1) * 255).round().to(torch.uint8)


def _draw_fresh_patch(image_3HW: Tensor, side: int, seed: int) -> Tensor:
    """Channel means + N(0, 1); to bytes as torchvision's ToPILImage does: times 255, cut off, modulo 256."""
    generator = torch.Generator().manual_seed(seed)
    means_311 = (image_3HW.cpu().double() / 255).mean(dim=(1, 2), keepdim=True)
    noise_3SS = torch.randn((3, side, side), generator=generator, dtype=torch.float64)
    return ((means_311 + noise_3SS) * 255).to(torch.int64).remainder(256).to(torch.uint8)
