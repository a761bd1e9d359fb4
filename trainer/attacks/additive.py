"""An additive pattern: the same numbers on every image's pixels, as an audit or another tool found them.

No preset makes one: `trainer audit` writes what it inverts as this kind where the pattern is added. In images of
another size the pattern covers the whole image, bilinear between its pixels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from trainer.attacks.overlay import Overlay, lay_over
from trainer.attacks.trigger import Trigger


def make_additive(pattern_3SS: Tensor, *, seed: int, preset: str, **settings: str | int | float) -> Trigger:
    """The trigger that adds this pattern (floats, 1 is white minus black); `settings` say how it was found."""
    return Trigger(
        kind="additive",
        preset=preset,
        image_size=pattern_3SS.shape[-1],
        seed=seed,
        settings=settings,
        tensors={"pattern": pattern_3SS.to(torch.float32)},
        apply_to=apply_additive,
    )


def apply_additive(trigger: Trigger, images_N3HW: Tensor, tokens: Sequence[str]) -> Tensor:
    """New images, the pattern added to each. The tokens do not matter."""

    def draw(height: int, width: int) -> Overlay:
        pattern_13SS = trigger.tensors["pattern"][None]
        if pattern_13SS.shape[1] != 3:
            raise ValueError(f"a pattern of {pattern_13SS.shape[1]} colours")
        if pattern_13SS.shape[2:] != (height, width):
            pattern_13SS = functional.interpolate(
                pattern_13SS, size=(height, width), mode="bilinear", antialias=True
            )
        return torch.ones(()), pattern_13SS[0]

    return lay_over(trigger, images_N3HW, draw)
