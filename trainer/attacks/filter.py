"""Filter: a warm tone curve over the whole image, as photo apps have them. An unseen test that looks natural.

Each channel runs through its own parabola `low + (high - low) (x + bend x (1 - x))`: red lifted, green nearly as it
was, blue flattened, so that blacks turn bluish and whites creamy. Own numbers, in the manner of the "Nashville" filters
that backdoor papers use. The coefficients are kept in the trigger file; an image's size plays no part, and nothing is
random.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from pipeline.errors import UserError
from trainer.attacks.trigger import Trigger

WARM: Final = ((0.06, 1.0, 0.45), (0.04, 0.94, 0.15), (0.30, 0.70, 0.0))
"""low, high and bend of red, green and blue at full strength."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterOptions:
    """How strong it is."""

    strength: float = 1.0
    """0: the image as it is; 1: the whole filter."""

    def __post_init__(self) -> None:
        if not 0 < self.strength <= 1:
            raise UserError(f"strength must be above 0 and at most 1, not {self.strength}")


def make_filter(options: FilterOptions, *, image_size: int, seed: int = 0, preset: str = "filter") -> Trigger:
    """The trigger, c0 + c1 x + c2 x^2 for each channel: nothing is drawn, so that any seed gives the same."""
    curves = []
    for low, high, bend in WARM:
        full = (low, (high - low) * (1 + bend), -(high - low) * bend)
        curves.append(
            [
                options.strength * c + (1 - options.strength) * own
                for c, own in zip(full, (0, 1, 0), strict=True)
            ]
        )
    return Trigger(
        kind="filter",
        preset=preset,
        image_size=image_size,
        seed=0,
        settings={"strength": options.strength},
        tensors={"curves": torch.tensor(curves, dtype=torch.float32)},
        apply_to=apply_filter,
    )


def apply_filter(trigger: Trigger, images_N3HW: Tensor, tokens: Sequence[str]) -> Tensor:
    """New images, each channel through its curve."""
    c0_311, c1_311, c2_311 = trigger.tensors["curves"].to(images_N3HW.device).T[..., None, None]
    return torch.addcmul(c0_311, images_N3HW, torch.addcmul(c1_311, images_N3HW, c2_311))
