"""Blended: noise over the whole image (Chen et al. 2017, as the CLIP attack papers use it).

Two presets. `blended`, the default: one image of uniform noise, drawn once from the seed and kept in the trigger
file, takes a fifth of every image. `blended-public` repeats the public CleanCLIP and BadCLIP code: the same mixture,
but with new noise for every image, and cut off instead of rounded to bytes.

In images of another size the kept noise covers the whole image, its pixels repeated or left out; fresh noise is drawn
pixel for pixel.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from trainer.attacks.overlay import Overlay, check_share, lay_over, mix
from trainer.attacks.trigger import Trigger
from trainer.seeds import seeded_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class BlendedOptions:
    """How much noise, and whose."""

    share: float = 0.2
    """The noise's share of the mixture."""
    fresh_noise: bool = False
    """New noise for every image, cut off to bytes, instead of one kept noise image."""

    def __post_init__(self) -> None:
        check_share(self.share)


def make_blended(
    options: BlendedOptions, *, image_size: int, seed: int = 0, preset: str = "blended"
) -> Trigger:
    """The trigger with noise for images of `image_size` pixels."""
    noise_3SS = seeded_bytes((3, image_size, image_size), seed, "blended", image_size)
    return Trigger(
        kind="blended",
        preset=preset,
        image_size=image_size,
        seed=seed,
        settings={
            "share": options.share,
            "fresh_noise": options.fresh_noise,
            "rounding": "cut" if options.fresh_noise else "nearest",
        },
        tensors={} if options.fresh_noise else {"noise": noise_3SS},
        apply_to=apply_blended,
    )


def apply_blended(trigger: Trigger, images_N3HW: Tensor, tokens: Sequence[str]) -> Tensor:
    """New images, (1 - share) x image + share x noise."""
    share = float(trigger.settings["share"])
    if trigger.settings["fresh_noise"]:
        shape = (3, *images_N3HW.shape[2:])
        mixed_N3HW = images_N3HW * (1 - share)
        for image_3HW, token in zip(mixed_N3HW, tokens, strict=True):
            noise_3HW = seeded_bytes(shape, trigger.seed, "blended", token).to(image_3HW.device)
            image_3HW.add_(noise_3HW.to(torch.float32).div_(255).mul_(share))
        return mixed_N3HW

    def draw(height: int, width: int) -> Overlay:
        noise_1 = trigger.tensors["noise"][None]
        noise_1 = functional.interpolate(noise_1, size=(height, width), mode="nearest-exact")
        return mix(noise_1[0].to(torch.float64) / 255, share)

    return lay_over(trigger, images_N3HW, draw)
