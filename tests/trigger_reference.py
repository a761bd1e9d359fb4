"""Comparing a trigger, pixel by pixel, with what a slow reference says."""

from collections.abc import Callable

import torch

from trainer.attacks.trigger import Trigger

SIZE = 32
SHAPES = ((SIZE, SIZE), (24, 40), (67, 33))
"""Heights and widths that triggers made at SIZE are put into."""
KEYS = ("a", "b")


def make_images(height: int, width: int, *, number: int = 2) -> torch.Tensor:
    """Random images, with black and white among them: uint8 (number, 3, height, width)."""
    generator = torch.Generator().manual_seed(2)
    noise = torch.randint(-60, 316, (number, 3, height, width), generator=generator)
    return noise.clamp(0, 255).to(torch.uint8)


def assert_pixels(
    trigger: Trigger, images: torch.Tensor, reference: Callable[[int, int, int, int], float]
) -> None:
    """Every pixel is `reference(image, channel, y, x)`, a float64 value where black is 0 and white is 1, not clipped.

    As floats within 1e-5; as bytes exactly, but where the reference lies within 0.001 of the border between two.
    """
    cut = trigger.settings.get("rounding") == "cut"
    as_bytes = trigger.apply(images, keys=KEYS).tolist()
    as_floats = trigger.apply(images.double() / 255, keys=KEYS).tolist()
    number, _, height, width = images.shape
    for i in range(number):
        for channel in range(3):
            for y in range(height):
                for x in range(width):
                    value = min(1.0, max(0.0, reference(i, channel, y, x)))
                    assert abs(as_floats[i][channel][y][x] - value) < 1e-5
                    grey = value * 255 + (0.0 if cut else 0.5)
                    allowed = {int(grey - 1e-3), min(255, int(grey + 1e-3))}
                    assert as_bytes[i][channel][y][x] in allowed
