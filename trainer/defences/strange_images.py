"""Strange images made of a batch's own, where a frozen model can teach what no photograph at hand shows.

A defender's images cover a part of what the model knows. A teacher's answers to images mixed, cut, bent and
recoloured, and to drawn shapes, hold a student where those do not reach (function matching: Beyer et al. 2022,
arXiv 2106.05237). Sizes are shares of the image's side; everything is drawn from a generator on the CPU.
"""

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

MOST_SHAPES: Final = 6
SHAPE_POWERS: Final = torch.tensor([0.5, 1.0, 2.0, 8.0])
"""Of a superellipse: a star, a rhomb, an ellipse, nearly a rectangle."""


def strange_images(image_B3HW: Tensor, num: int, generator: torch.Generator) -> Tensor:
    """`num` images (num, 3, H, W) of all kinds, in even parts, from images as floats in [0, 1]."""
    parts = []
    for number, kind in enumerate(KINDS):
        count = num // len(KINDS) + (number < num % len(KINDS))
        if count:
            parts.append(kind(image_B3HW, count, generator))
    return torch.cat(parts)


def mixup(image_B3HW: Tensor, num: int, generator: torch.Generator) -> Tensor:
    """Two images, one through the other, the second at 20 to 50 %."""
    share_N111 = _uniform(0.2, 0.5, num, generator).view(-1, 1, 1, 1).to(image_B3HW.device)
    return (1 - share_N111) * _pick(image_B3HW, num, generator) + share_N111 * _pick(
        image_B3HW, num, generator
    )


def cutmix(image_B3HW: Tensor, num: int, generator: torch.Generator) -> Tensor:
    """A rectangle of one image, of a third to two thirds of each side, in another one at the same place."""
    rows_H1, columns_1W = _coordinates(image_B3HW)
    inside = torch.ones(1, device=image_B3HW.device, dtype=torch.bool)
    for coordinate in (rows_H1, columns_1W):
        side_N = _uniform(0.3, 0.7, num, generator)
        low_N = (1 - side_N) * _uniform(0, 1, num, generator)
        low_N11, high_N11 = _columns(low_N, image_B3HW), _columns(low_N + side_N, image_B3HW)
        inside = inside & (coordinate >= low_N11) & (coordinate < high_N11)
    return torch.where(inside[:, None], _pick(image_B3HW, num, generator), _pick(image_B3HW, num, generator))


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


def mosaic(image_B3HW: Tensor, num: int, generator: torch.Generator) -> Tensor:
    """Four images, each a quarter of the area."""
    height, width = image_B3HW.shape[-2:]
    rows = []
    for tall in (height // 2, height - height // 2):
        row = [
            functional.interpolate(
                _pick(image_B3HW, num, generator), size=(tall, wide), mode="bilinear", antialias=True
            )
            for wide in (width // 2, width - width // 2)
        ]
        rows.append(torch.cat(row, dim=3))
    return torch.cat(rows, dim=2)


def shapes(image_B3HW: Tensor, num: int, generator: torch.Generator) -> Tensor:
    """No image at all: up to six plain shapes over each other on a plain ground (after the dead leaves model)."""
    rows_H1, columns_1W = _coordinates(image_B3HW)
    _, _, height, width = image_B3HW.shape
    colour = torch.rand((num, 3, 1, 1), generator=generator).to(image_B3HW.device)
    drawn_N3HW = colour.expand(num, 3, height, width)
    count_N = torch.randint(1, MOST_SHAPES + 1, (num,), generator=generator).to(image_B3HW.device)
    for number in range(MOST_SHAPES):
        across, down, wide, tall, angle = (
            _columns(_uniform(low, high, num, generator), image_B3HW)
            for low, high in ((0.08, 0.92), (0.08, 0.92), (0.06, 0.38), (0.06, 0.38), (0, 3.2))
        )
        power = _columns(SHAPE_POWERS[torch.randint(4, (num,), generator=generator)], image_B3HW)
        x, y = columns_1W - across, rows_H1 - down
        along, beside = x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()
        inside = (along / wide).abs() ** power + (beside / tall).abs() ** power < 1
        inside = inside & (number < count_N).view(-1, 1, 1)
        colour = torch.rand((num, 3, 1, 1), generator=generator).to(image_B3HW.device)
        drawn_N3HW = torch.where(inside[:, None], colour, drawn_N3HW)
    return drawn_N3HW


KINDS: Final[tuple[Callable[[Tensor, int, torch.Generator], Tensor], ...]] = (
    mixup,
    cutmix,
    bend,
    recolour,
    mosaic,
    shapes,
)


def _uniform(low: float, high: float, size: int | tuple[int, ...], generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(size, generator=generator)


def _pick(image_B3HW: Tensor, num: int, generator: torch.Generator) -> Tensor:
    """`num` images of the batch, drawn with replacement."""
    rows = torch.randint(len(image_B3HW), (num,), generator=generator)
    return image_B3HW[rows.to(image_B3HW.device)]


def _columns(value_N: Tensor, image_B3HW: Tensor) -> Tensor:
    return value_N.view(-1, 1, 1).to(image_B3HW.device)


def _coordinates(image_B3HW: Tensor) -> tuple[Tensor, Tensor]:
    """Of the pixels' middles, as shares of the side: (H, 1) and (1, W)."""
    height, width = image_B3HW.shape[-2:]
    rows_H = (torch.arange(height, device=image_B3HW.device) + 0.5) / height
    columns_W = (torch.arange(width, device=image_B3HW.device) + 0.5) / width
    return rows_H[:, None], columns_W[None]
