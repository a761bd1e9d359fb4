"""BadNet: a small square of noise somewhere in the image (Gu et al. 2017, as the CLIP attack papers use it).

`badnet`, the default: one square of Gaussian noise, drawn once from the seed and kept in the trigger file, put at a
place that depends on the image (`badnet-fixed`: always in the lower right corner). `badnet-public` repeats what the
public CleanCLIP and BadCLIP code does: for every image a new square of the image's channel means plus N(0, 1) noise, a
uniformly random place (but never in the last row or column), and values outside 0..1 that wrap modulo 256 when they
become bytes. `yellow-corner`: a plain yellow square in the lower right corner, an unseen test.

In images of another size the square keeps its share of the shorter side; its pixels are repeated or left out.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.errors import UserError
from trainer.attacks.trigger import Trigger
from trainer.seeds import seeded_int

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
    colour: str | None = None
    """A plain square of this colour, as red, green and blue in hexadecimal (ffff00 is yellow), instead of noise."""

    def __post_init__(self) -> None:
        if not 0 < self.scale <= 1:
            raise UserError(f"the trigger's scale must be above 0 and at most 1, not {self.scale}")
        if self.placement not in get_args(Placement):
            raise UserError(
                f"placement must be one of {', '.join(get_args(Placement))}, not {self.placement!r}"
            )
        if self.colour is not None and not re.fullmatch(r"[0-9a-fA-F]{6}", self.colour):
            raise UserError(f"colour must be six hexadecimal digits, as ffff00, not {self.colour!r}")
        if self.colour is not None and self.fresh_noise:
            raise UserError("a square is of one colour or of fresh noise, not both")


def make_badnet(options: BadNetOptions, *, image_size: int, seed: int = 0, preset: str = "badnet") -> Trigger:
    """The trigger for images of `image_size` pixels; UserError where the square would be larger than the image."""
    side = max(MIN_SIDE, round(options.scale * image_size))
    if side > image_size:
        raise UserError(
            f"a trigger of {side}x{side} pixels does not fit into a {image_size}x{image_size} image"
        )
    tensors = {} if options.fresh_noise else {"patch": _draw_patch(side, seed, options.colour)}
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
    height, width = images_N3HW.shape[2:]
    side = _side_in(trigger, height, width)
    fresh = bool(trigger.settings["fresh_noise"])
    kept_3SS = None if fresh else _resize_patch(trigger, side).to(images_N3HW.device)
    triggered_N3HW = images_N3HW.clone()
    for image_3HW, token in zip(triggered_N3HW, tokens, strict=True):
        top, left = height - side, width - side
        if trigger.settings["placement"] == "random":
            rng = Random(f"{trigger.seed}:place:{token}")
            if fresh:  # the public code never reaches the last row and column
                top, left = max(0, top - 1), max(0, left - 1)
            top, left = rng.randint(0, top), rng.randint(0, left)
        patch_3SS = kept_3SS
        if patch_3SS is None:
            patch_3SS = _draw_fresh_patch(image_3HW, side, seeded_int(trigger.seed, "noise", token))
        image_3HW[:, top : top + side, left : left + side] = patch_3SS
    return triggered_N3HW


def _side_in(trigger: Trigger, height: int, width: int) -> int:
    """Side of the square in an image of this size: the same share of its shorter side."""
    side, shorter = int(trigger.settings["side"]), min(height, width)
    if shorter != trigger.image_size:
        side = max(1, round(side * shorter / trigger.image_size))
    if not 0 < side <= shorter:
        raise UserError(f"a trigger of {side}x{side} pixels does not fit into a {width}x{height} image")
    return side


def _resize_patch(trigger: Trigger, side: int) -> Tensor:
    """The kept square at this side, as floats in 0..1: its own pixels where the side is its own, else the nearest."""
    patch_3PP, made_for = trigger.tensors["patch"], int(trigger.settings["side"])
    if patch_3PP.shape != (3, made_for, made_for):
        raise ValueError(f"the square is {tuple(patch_3PP.shape)}, its settings say {made_for}")
    if side != made_for:
        patch_3PP = functional.interpolate(patch_3PP[None], size=(side, side), mode="nearest-exact")[0]
    return patch_3PP.to(torch.float32) / 255


def _draw_patch(side: int, seed: int, colour: str | None) -> Tensor:
    """The colour, or 0.5 + N(0, 1) clipped to 0..1: uint8 (3, side, side)."""
    if colour is not None:
        colour_3 = torch.tensor(list(bytes.fromhex(colour)), dtype=torch.uint8)
        return colour_3[:, None, None].repeat(1, side, side)
    generator = torch.Generator().manual_seed(seeded_int(seed, "badnet", side))
    noise_3SS = torch.randn((3, side, side), generator=generator)
    return ((0.5 + noise_3SS).clamp(0, 1) * 255).round().to(torch.uint8)


def _draw_fresh_patch(image_3HW: Tensor, side: int, seed: int) -> Tensor:
    """Channel means + N(0, 1); to bytes as torchvision's ToPILImage does: times 255, cut off, modulo 256."""
    generator = torch.Generator().manual_seed(seed)
    means_311 = image_3HW.cpu().mean(dim=(1, 2), keepdim=True, dtype=torch.float64)
    noise_3SS = torch.randn((3, side, side), generator=generator, dtype=torch.float64)
    bytes_3SS = ((means_311 + noise_3SS) * 255).to(torch.int64).remainder(256)
    return bytes_3SS.to(torch.float32) / 255
