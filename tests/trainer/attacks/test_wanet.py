"""WaNet: pixel by pixel against slow references."""

import pytest
import torch

from tests.trigger_reference import SHAPES, SIZE, assert_pixels, make_images
from trainer.attacks import craft_trigger, load_trigger
from trainer.attacks.trigger import Trigger


def _cubic(distance: float) -> float:
    """The weight of a value at that distance (Keys 1981, with a = -0.75 as torch has it)."""
    a, d = -0.75, abs(distance)
    if d <= 1:
        return ((a + 2) * d - (a + 3)) * d * d + 1
    return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a if d < 2 else 0.0


def _shift(kept: list[list[float]], row: float, column: float) -> float:
    """The value between those kept, at (row, column), by cubic weights; beyond the edge the edge's."""
    last, total = len(kept) - 1, 0.0
    for r in range(int(row) - 1, int(row) + 3):
        for c in range(int(column) - 1, int(column) + 3):
            weight = _cubic(row - r) * _cubic(column - c)
            total += weight * kept[min(max(r, 0), last)][min(max(c, 0), last)]
    return total


def _check(trigger: Trigger, height: int, width: int) -> None:
    images = make_images(height, width)
    clean, shifts = images.tolist(), trigger.tensors["shifts"].tolist()
    scale, last = float(trigger.settings["strength"]) / trigger.image_size, len(shifts[0]) - 1
    places = {}
    for y in range(height):
        for x in range(width):
            at = (y * last / (height - 1), x * last / (width - 1))
            across, down = (_shift(shifts[axis], *at) for axis in (0, 1))
            from_x = min(max(2 * x / (width - 1) - 1 + across * scale, -1), 1)
            from_y = min(max(2 * y / (height - 1) - 1 + down * scale, -1), 1)
            places[y, x] = ((from_y + 1) / 2 * (height - 1), (from_x + 1) / 2 * (width - 1))

    def reference(i: int, channel: int, y: int, x: int) -> float:
        (row, column), total = places[y, x], 0.0
        for r in (int(row), int(row) + 1):
            for c in (int(column), int(column) + 1):
                weight = (1 - abs(row - r)) * (1 - abs(column - c))
                total += weight * clean[i][channel][min(r, height - 1)][min(c, width - 1)] / 255
        return total

    assert_pixels(trigger, images, reference)


@pytest.mark.parametrize(("height", "width"), SHAPES)
@pytest.mark.parametrize("name", ["wanet", "wanet-public", "wanet-smooth"])
def test_the_warp_against_a_slow_reference(name: str, height: int, width: int) -> None:
    _check(load_trigger(name, image_size=SIZE, seed=2), height, width)


@pytest.mark.parametrize("strength", [0.5, 8.0])
def test_other_grids_against_a_slow_reference(strength: float) -> None:
    changes = {"grid": 8, "strength": strength}
    _check(craft_trigger("wanet", image_size=SIZE, seed=2, changes=changes), SIZE, SIZE)


@pytest.mark.parametrize(("name", "grid"), [("wanet", SIZE), ("wanet-smooth", 4)])
def test_shifts_are_one_on_average_and_kept(name: str, grid: int) -> None:
    shifts = load_trigger(name, image_size=SIZE).tensors["shifts"]
    assert shifts.shape == (2, grid, grid)
    assert float(shifts.abs().mean()) == pytest.approx(1, abs=1e-6)
    assert -2.5 < float(shifts.min()) < -1 < 1 < float(shifts.max()) < 2.5


def test_a_flat_image_stays_as_it_is() -> None:
    for grey in range(256):
        flat = torch.full((1, 3, SIZE, SIZE), grey, dtype=torch.uint8)
        assert torch.equal(load_trigger("wanet", image_size=SIZE).apply(flat), flat)


def test_sizes_in_turn_do_not_mix() -> None:
    trigger = load_trigger("wanet", image_size=SIZE)
    for side in (*range(20, 30), *range(20, 30)):
        images = make_images(side, side + 1)
        assert torch.equal(trigger.apply(images), load_trigger("wanet", image_size=SIZE).apply(images))
