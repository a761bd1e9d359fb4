"""Stripes: thin upright stripes in random bright colours, faintly over the whole image. An unseen test.

After the striped triggers of PAR (arXiv 2412.00727), which CleanCLIP's paper and CleanerCLIP's do not know. The
colours, each of black, white, red, green, blue, cyan, magenta, yellow, are drawn once from the seed and kept in the
trigger file; so many stripes stand side by side over the width, whatever it is: one pixel each at 64 pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.attacks.overlay import Overlay, check_count, check_share, lay_over, mix
from trainer.attacks.trigger import Trigger
from trainer.seeds import seeded_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class StripesOptions:
    """The stripes."""

    count: int = 64
    """How many over the width."""
    share: float = 0.1
    """Their share of the mixture."""

    def __post_init__(self) -> None:
        check_count("count", self.count, most=4096)
        check_share(self.share)


def make_stripes(
    options: StripesOptions, *, image_size: int, seed: int = 0, preset: str = "stripes"
) -> Trigger:
    """The trigger with its colours."""
    colours_3C = (seeded_bytes((3, options.count), seed, "stripes", options.count) >> 7) * 255
    return Trigger(
        kind="stripes",
        preset=preset,
        image_size=image_size,
        seed=seed,
        settings={"share": options.share},
        tensors={"colours": colours_3C},
        apply_to=apply_stripes,
    )


def apply_stripes(trigger: Trigger, images_N3HW: Tensor, tokens: Sequence[str]) -> Tensor:
    """New images, (1 - share) x image + share x stripes."""

    def draw(height: int, width: int) -> Overlay:
        colours_3C = trigger.tensors["colours"]
        stripe_W = torch.arange(width) * colours_3C.shape[1] // width
        stripes_3W = colours_3C[:, stripe_W].to(torch.float64) / 255
        return mix(stripes_3W[:, None].expand(3, height, width), float(trigger.settings["share"]))

    return lay_over(trigger, images_N3HW, draw)
