"""Triangles: pixel by pixel against a slow reference."""

from fractions import Fraction

import pytest

from tests.trigger_reference import SHAPES, SIZE, assert_pixels, make_images
from trainer.attacks import craft_trigger


@pytest.mark.parametrize(("height", "width"), SHAPES)
@pytest.mark.parametrize(("count", "share"), [(16, 0.25), (3, 0.8)])
def test_against_a_slow_reference(height: int, width: int, count: int, share: float) -> None:
    trigger = craft_trigger("triangles", image_size=SIZE, changes={"count": count, "share": share})
    images = make_images(height, width)
    clean = images.tolist()

    def reference(i: int, channel: int, y: int, x: int) -> float:
        down, across = Fraction(y * count, height) % 1, Fraction(x * count, width) % 1
        return (1 - share) * clean[i][channel][y][x] / 255 + share * (0.4 if down >= across else 0.8)

    assert_pixels(trigger, images, reference)
