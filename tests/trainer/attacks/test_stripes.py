"""Stripes: pixel by pixel against a slow reference."""

import pytest

from tests.trigger_reference import SHAPES, SIZE, assert_pixels, make_images
from trainer.attacks import craft_trigger, load_trigger


@pytest.mark.parametrize(("height", "width"), SHAPES)
@pytest.mark.parametrize(("count", "share"), [(64, 0.1), (5, 0.6)])
def test_against_a_slow_reference(height: int, width: int, count: int, share: float) -> None:
    trigger = craft_trigger("stripes", image_size=SIZE, seed=1, changes={"count": count, "share": share})
    images, colours = make_images(height, width), trigger.tensors["colours"].tolist()
    clean = images.tolist()

    def reference(i: int, channel: int, y: int, x: int) -> float:
        stripe = colours[channel][int(x * count / width + 1e-9)]
        return ((1 - share) * clean[i][channel][y][x] + share * stripe) / 255

    assert_pixels(trigger, images, reference)


def test_colours_are_bright_kept_and_seeded() -> None:
    colours = [load_trigger("stripes", image_size=SIZE, seed=seed).tensors["colours"] for seed in (0, 0, 1)]
    assert set(colours[0].flatten().tolist()) == {0, 255}
    assert len(set(map(tuple, colours[0].T.tolist()))) == 8
    assert (colours[0] == colours[1]).all()
    assert (colours[0] != colours[2]).any()
