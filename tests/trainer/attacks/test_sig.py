"""SIG: pixel by pixel against slow references, the public triple loop among them."""

from math import pi, sin

import pytest
import torch

from tests.trigger_reference import SHAPES, SIZE, assert_pixels, make_images
from trainer.attacks import craft_trigger, load_trigger


@pytest.mark.parametrize(("height", "width"), SHAPES)
@pytest.mark.parametrize("name", ["sig", "sig-public"])
def test_the_wave_against_a_slow_reference(name: str, height: int, width: int) -> None:
    images = make_images(height, width)
    clean = images.tolist()

    def reference(i: int, channel: int, y: int, x: int) -> float:
        return clean[i][channel][y][x] / 255 + 60 / 255 * sin(2 * pi * 6 * x / width)

    assert_pixels(load_trigger(name, image_size=SIZE), images, reference)


def test_cleanclips_blend_against_a_slow_reference() -> None:
    images = make_images(SIZE, SIZE)
    clean = images.tolist()

    def reference(i: int, channel: int, y: int, x: int) -> float:
        return 0.8 * clean[i][channel][y][x] / 255 + 0.2 * 60 / 255 * sin(2 * pi * x * 6 / SIZE)

    assert_pixels(load_trigger("sig-cleanclip", image_size=SIZE), images, reference)


def test_other_waves_against_a_slow_reference() -> None:
    images = make_images(SIZE, SIZE)
    clean = images.tolist()
    trigger = craft_trigger("sig", image_size=SIZE, changes={"periods": 2.5, "strength": 0.1, "share": 0.5})
    assert_pixels(
        trigger,
        images,
        lambda i, c, y, x: 0.5 * clean[i][c][y][x] / 255 + 0.05 * sin(2 * pi * 2.5 * x / SIZE),
    )


def test_every_seed_and_size_is_the_same_wave() -> None:
    images = make_images(16, 48)
    first, second = (load_trigger("sig", image_size=size, seed=size) for size in (16, 224))
    assert torch.equal(first.apply(images), second.apply(images))
    assert first.sha256 == load_trigger("sig", image_size=16, seed=5).sha256
