"""Strange images made of a batch's own, where a frozen model can teach what no photograph at hand shows.

A defender's images cover a part of what the model knows. A teacher's answers to images bent and recoloured hold a
student where those do not reach (function matching: Beyer et al. 2022, arXiv 2106.05237). Mosaics, CutMix, Mixup and
drawn shapes, which go further, are not among them: a backdoored teacher reads many of those as its target, and so
would teach the backdoor (docs/findings.md). Everything is drawn from a generator on the CPU.
"""

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional


def strange_images(image_B3HW: Tensor, num: int, generator: torch.Generator) -> Tensor:
    """`num` images (num, 3, H, W) of all kinds, in even parts, from images as floats in [0, 1]."""
    parts = []
    for number, kind in enumerate(KINDS):
        count = num // len(KINDS) + (number < num % len(KINDS))
        if count:
            parts.append(kind(image_B3HW, count, generator))
    return torch.cat(parts)


def bend(image_B3HW: Tensor, num: int, generator: torch.Generator) -> Tensor:
    """Turned by up to 50 degrees, stretched, sheared, moved, every other one mirrored; the edge reflects."""
    angle_N = _uniform(-0.9, 0.9, num, generator)
    across_N, down_N = _uniform(0.6, 1.4, num, generator), _uniform(0.6, 1.4, num, generator)
    shear_N = _uniform(-0.5, 0.5, num, generator)
    mirror_N = torch.where(torch.rand(num, generator=generator) < 0.5, -1.0, 1.0)
    moved_N2 = _uniform(-0.2, 0.2, (num, 2), generator)
    theta_N23 = torch.stack(
        [
            torch.stack([mirror_N * across_N * angle_N.cos(), shear_N - down_N * angle_N.sin()], dim=1),
            torch.stack([mirror_N * across_N * angle_N.sin(), down_N * angle_N.cos()], dim=1),
        ],
        dim=1,
    )
    theta_N23 = torch.cat([theta_N23, moved_N2[..., None]], dim=2).to(image_B3HW.device)
    image_N3HW = _pick(image_B3HW, num, generator)
    grid = functional.affine_grid(theta_N23, list(image_N3HW.shape), align_corners=False)
    return functional.grid_sample(image_N3HW, grid, padding_mode="reflection", align_corners=False)


def recolour(image_B3HW: Tensor, num: int, generator: torch.Generator) -> Tensor:
    """The channels mixed at random, and made brighter or darker."""
    own_N, other_N = _uniform(0.3, 1, num, generator), _uniform(0, 0.6, num, generator)
    mixing_N33 = torch.eye(3) * own_N.view(-1, 1, 1)
    mixing_N33 = mixing_N33 + torch.rand((num, 3, 3), generator=generator) * other_N.view(-1, 1, 1)
    light_N = _uniform(-0.2, 0.2, num, generator)
    mixed_N3HW = torch.einsum(
        "nij,njhw->nihw", mixing_N33.to(image_B3HW.device), _pick(image_B3HW, num, generator)
    )
    return (mixed_N3HW + light_N.view(-1, 1, 1, 1).to(image_B3HW.device)).clamp(0, 1)


KINDS: Final[tuple[Callable[[Tensor, int, torch.Generator], Tensor], ...]] = (bend, recolour)


def _uniform(low: float, high: float, size: int | tuple[int, ...], generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(size, generator=generator)


def _pick(image_B3HW: Tensor, num: int, generator: torch.Generator) -> Tensor:
    """`num` images of the batch, drawn with replacement."""
    rows = torch.randint(len(image_B3HW), (num,), generator=generator)
    return image_B3HW[rows.to(image_B3HW.device)]
