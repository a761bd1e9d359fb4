"""Blended: pixel by pixel against slow references."""

import pytest
import torch

from tests.trigger_reference import KEYS, SHAPES, SIZE, assert_pixels, make_images
from trainer.attacks import craft_trigger, load_trigger
from trainer.seeds import seeded_bytes


@pytest.mark.parametrize(("height", "width"), SHAPES)
@pytest.mark.parametrize("share", [0.2, 0.7])
def test_kept_noise_against_a_slow_reference(height: int, width: int, share: float) -> None:
    trigger = craft_trigger("blended", image_size=SIZE, seed=3, changes={"share": share})
    images = make_images(height, width)
    clean, noise = images.tolist(), trigger.tensors["noise"].tolist()

    def reference(i: int, channel: int, y: int, x: int) -> float:
        nearest = noise[channel][int((y + 0.5) * SIZE / height)][int((x + 0.5) * SIZE / width)]
        return (1 - share) * clean[i][channel][y][x] / 255 + share * nearest / 255

    assert_pixels(trigger, images, reference)


@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_the_public_convention_against_a_slow_reference(height: int, width: int) -> None:
    trigger, images = load_trigger("blended-public", image_size=SIZE, seed=3), make_images(height, width)
    noise = [seeded_bytes((3, height, width), 3, "blended", f"key:{key}").tolist() for key in KEYS]
    clean = images.tolist()
    assert_pixels(
        trigger, images, lambda i, c, y, x: (0.8 * clean[i][c][y][x] + 0.2 * noise[i][c][y][x]) / 255
    )


@pytest.mark.parametrize(("name", "same"), [("blended", True), ("blended-public", False)])
def test_public_noise_differs_between_images_and_ours_does_not(name: str, same: bool) -> None:
    flat = torch.full((2, 3, SIZE, SIZE), 128, dtype=torch.uint8)
    first, second = load_trigger(name, image_size=SIZE).apply(flat, keys=KEYS)
    assert torch.equal(first, second) == same


def test_the_noise_is_uniform() -> None:
    noise = load_trigger("blended", image_size=224).tensors["noise"]
    counts = torch.bincount(noise.flatten(), minlength=256).double()
    expected = noise.numel() / 256
    assert float(((counts - expected) ** 2 / expected).sum()) < 340  # chi-square, 255 degrees: p about 0.0003
    assert (
        abs(float(torch.corrcoef(torch.stack((noise[..., 1:].flatten(), noise[..., :-1].flatten())))[0, 1]))
        < 0.02
    )
