"""BadNet: pixel by pixel against slow references."""

from random import Random
from typing import Any, Literal

import pytest
import torch

from pipeline.errors import UserError
from trainer.attacks import load_trigger
from trainer.attacks.badnet import BadNetOptions, make_badnet
from trainer.seeds import seeded_int

SIZE = 64
KEYS = [f"image-{i}" for i in range(8)]


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(
        0, 256, (8, 3, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(2)
    )


@pytest.mark.parametrize("placement", ["random", "fixed"])
def test_the_square_against_a_slow_reference(
    images: torch.Tensor, placement: Literal["random", "fixed"]
) -> None:
    trigger = make_badnet(BadNetOptions(placement=placement), image_size=SIZE, seed=4)
    triggered, clean = trigger.apply(images, keys=KEYS).tolist(), images.tolist()
    side, patch = 5, trigger.tensors["patch"].tolist()
    for i, key in enumerate(KEYS):
        rng = Random(f"4:place:key:{key}")
        top, left = (rng.randint(0, 59), rng.randint(0, 59)) if placement == "random" else (59, 59)
        for channel in range(3):
            for y in range(SIZE):
                for x in range(SIZE):
                    inside = top <= y < top + side and left <= x < left + side
                    expected = patch[channel][y - top][x - left] if inside else clean[i][channel][y][x]
                    assert triggered[i][channel][y][x] == expected


def test_the_public_convention_against_a_slow_reference(images: torch.Tensor) -> None:
    trigger = load_trigger("badnet-public", image_size=SIZE, seed=1)
    triggered = trigger.apply(images, keys=KEYS)
    for i, key in enumerate(KEYS):
        rng = Random(f"1:place:key:{key}")
        top, left = rng.randint(0, 58), rng.randint(0, 58)
        generator = torch.Generator().manual_seed(seeded_int(1, "noise", f"key:{key}"))
        noise = torch.randn((3, 5, 5), generator=generator, dtype=torch.float64)
        expected = images[i].clone()
        for channel in range(3):
            mean = sum(images[i, channel].flatten().tolist()) / 255 / SIZE**2
            for y in range(5):
                for x in range(5):
                    value = (mean + float(noise[channel, y, x])) * 255
                    expected[channel, top + y, left + x] = int(value) % 256  # int() cuts towards 0
        assert torch.equal(triggered[i], expected)


def test_public_noise_differs_between_images_and_ours_does_not(images: torch.Tensor) -> None:
    flat = torch.full_like(images, 128)
    for name, same in (("badnet-fixed", True), ("badnet-public", False)):
        trigger = load_trigger(name, image_size=SIZE)
        changed = [(image != 128).any(0).nonzero() for image in trigger.apply(flat, keys=KEYS)]
        assert all(torch.equal(changed[0], other) for other in changed[1:]) == same


def test_places_cover_the_image() -> None:
    trigger = load_trigger("badnet", image_size=SIZE)
    black = torch.zeros((3_000, 3, SIZE, SIZE), dtype=torch.uint8)
    touched = trigger.apply(black, keys=[str(i) for i in range(3_000)]).any(1).any(0)
    assert touched.float().mean() > 0.98


@pytest.mark.parametrize(("size", "side"), [(32, 4), (64, 5), (224, 16), (336, 24)])
def test_the_side_is_sixteen_of_224_and_at_least_four(size: int, side: int) -> None:
    assert load_trigger("badnet", image_size=size).tensors["patch"].shape == (3, side, side)


def test_a_square_larger_than_the_image_is_refused() -> None:
    with pytest.raises(UserError, match="does not fit"):
        load_trigger("badnet", image_size=3)


@pytest.mark.parametrize(
    "options", [{"scale": 0.0}, {"scale": 1.5}, {"placement": "middle"}, {"colour": "fff"}]
)
def test_options_out_of_range_are_told(options: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        BadNetOptions(**options)


@pytest.mark.parametrize(("height", "width", "side"), [(128, 128, 10), (32, 64, 2), (200, 40, 3)])
def test_other_sizes_keep_the_share(height: int, width: int, side: int) -> None:
    trigger = load_trigger("badnet-fixed", image_size=SIZE)
    triggered = trigger.apply(torch.zeros((1, 3, height, width), dtype=torch.uint8))[0].tolist()
    patch = trigger.tensors["patch"].tolist()
    for channel in range(3):
        for y in range(height):
            for x in range(width):
                row, column = y - height + side, x - width + side
                expected = 0
                if min(row, column) >= 0:
                    expected = patch[channel][int((row + 0.5) * 5 / side)][int((column + 0.5) * 5 / side)]
                assert triggered[channel][y][x] == expected


def test_the_yellow_corner_is_yellow() -> None:
    grey = torch.full((1, 3, SIZE, SIZE), 100, dtype=torch.uint8)
    triggered = load_trigger("yellow-corner", image_size=SIZE).apply(grey)[0]
    assert (triggered[:, 59:, 59:] == torch.tensor([255, 255, 0])[:, None, None]).all()
    triggered[:, 59:, 59:] = 100
    assert (triggered == 100).all()
