"""Laying a pattern over images: what the families that add the same to every image have in common.

An overlay is `image * kept + added`, with `kept` a scalar or a plane and `added` a picture, drawn once per image size.
Used by `blended`, `sig`, `stripes`, `triangles` and `text`.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from pipeline.errors import UserError
from trainer.attacks.trigger import Trigger

Overlay = tuple[Tensor, Tensor]
"""`kept`, broadcast to (3, H, W), and `added` (3, H, W): float32."""


def lay_over(trigger: Trigger, images_N3HW: Tensor, draw: Callable[[int, int], Overlay]) -> Tensor:
    """New images, `image * kept + added`; `draw(height, width)` gives the two, and is asked once per size."""
    device = images_N3HW.device
    height, width = images_N3HW.shape[2:]

    def place() -> Overlay:
        kept, added_3HW = draw(height, width)
        return kept.to(device), added_3HW.to(device)

    kept, added_3HW = trigger.prepare("overlay", height, width, images_N3HW, place)
    return torch.addcmul(added_3HW, images_N3HW, kept)


def mix(pattern_3HW: Tensor, share: float | Tensor) -> Overlay:
    """The overlay that replaces `share` of the image (a number, or a plane (1, H, W)) with the pattern."""
    share_1HW = torch.as_tensor(share, dtype=torch.float64)
    added_3HW = share_1HW * pattern_3HW.to(torch.float64)
    return (1 - share_1HW).to(torch.float32), added_3HW.to(torch.float32)


def check_share(share: float) -> None:
    """UserError unless 0 < share <= 1."""
    if not 0 < share <= 1:
        raise UserError(f"share must be above 0 and at most 1, not {share}")


def check_count(name: str, count: int, *, most: int) -> None:
    """UserError unless 1 <= count <= most."""
    if not 1 <= count <= most:
        raise UserError(f"{name} must be between 1 and {most}, not {count}")
