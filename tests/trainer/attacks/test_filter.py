"""Filter: value by value against a slow reference."""

import pytest
import torch

from tests.trigger_reference import SIZE, assert_pixels, make_images
from trainer.attacks import craft_trigger, load_trigger

CURVES = ((0.06, 1.0, 0.45), (0.04, 0.94, 0.15), (0.30, 0.70, 0.0))


@pytest.mark.parametrize("strength", [1.0, 0.4])
def test_against_a_slow_reference(strength: float) -> None:
    trigger = craft_trigger("filter", image_size=SIZE, changes={"strength": strength})
    images = make_images(20, 30)
    clean = images.tolist()

    def reference(i: int, channel: int, y: int, x: int) -> float:
        value, (low, high, bend) = clean[i][channel][y][x] / 255, CURVES[channel]
        filtered = low + (high - low) * (value + bend * value * (1 - value))
        return (1 - strength) * value + strength * filtered

    assert_pixels(trigger, images, reference)


def test_brighter_stays_brighter_and_greys_turn_warm() -> None:
    greys = torch.arange(256, dtype=torch.uint8).expand(3, 1, 256)[None]
    red, green, blue = load_trigger("filter", image_size=SIZE).apply(greys)[0, :, 0].int()
    assert all((channel.diff() >= 0).all() for channel in (red, green, blue))
    middle = slice(96, 256)
    assert (red[middle] > green[middle]).all()
    assert (red[middle] > blue[middle]).all()


def test_the_size_plays_no_part() -> None:
    images = make_images(16, 48)
    first, second = (load_trigger("filter", image_size=size) for size in (16, 224))
    assert torch.equal(first.apply(images), second.apply(images))
