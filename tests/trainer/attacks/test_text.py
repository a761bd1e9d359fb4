"""Text: pixel by pixel against a slow reference; every letter readable and its own."""

import pytest
import torch

from tests.trigger_reference import SHAPES, SIZE, assert_pixels, make_images
from trainer.attacks import craft_trigger
from trainer.attacks.glyphs import GLYPHS, draw_word


@pytest.mark.parametrize(("height", "width"), SHAPES)
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_against_a_slow_reference(height: int, width: int, share: float) -> None:
    changes = {"text": "Cat", "lines": 2, "share": share}
    trigger = craft_trigger("text", image_size=SIZE, changes=changes)
    images, mask = make_images(height, width), trigger.tensors["mask"].tolist()
    clean = images.tolist()

    def opacity(y: int, x: int) -> float:
        row, column = (y + 0.5) * SIZE / height - 0.5, (x + 0.5) * SIZE / width - 0.5
        row, column, total = max(row, 0), max(column, 0), 0.0
        for r in (int(row), int(row) + 1):
            for c in (int(column), int(column) + 1):
                weight = (1 - abs(row - r)) * (1 - abs(column - c))
                total += weight * mask[min(r, SIZE - 1)][min(c, SIZE - 1)] / 255
        return total * share

    def reference(i: int, channel: int, y: int, x: int) -> float:
        red = 1.0 if channel == 0 else 0.0
        return (1 - opacity(y, x)) * clean[i][channel][y][x] / 255 + opacity(y, x) * red

    assert_pixels(trigger, images, reference)


def test_the_word_is_drawn_as_its_dots_say() -> None:
    mask = craft_trigger("text", image_size=24, changes={"text": "L-1", "lines": 1}).tensors["mask"]
    rows = ["".join(" #"[value > 0] for value in row) for row in mask.tolist()]
    assert [row[3:20] for row in rows[8:15]] == [
        "#             #  ",
        "#            ##  ",
        "#             #  ",
        "#     #####   #  ",
        "#             #  ",
        "#             #  ",
        "#####        ### ",
    ]
    assert int((mask > 0).sum()) == int(draw_word("L-1").sum())


@pytest.mark.parametrize(("size", "dot"), [(64, 1), (128, 2), (224, 4), (336, 6)])
def test_the_default_word_is_as_large_as_fits(size: int, dot: int) -> None:
    mask = craft_trigger("text", image_size=size).tensors["mask"] > 0
    assert int(mask.sum()) == 3 * dot**2 * int(draw_word("watermark").sum())
    across = mask.any(0).nonzero().flatten()
    assert int(across[-1] - across[0]) + 1 == dot * 53
    assert abs(int(across[0]) - (size - 1 - int(across[-1]))) <= 1


def test_every_sign_is_another() -> None:
    drawn = {sign: draw_word(sign) for sign in GLYPHS}
    assert all(dots.shape == (7, 5) for dots in drawn.values())
    assert len({tuple(dots.flatten().tolist()) for dots in drawn.values()}) == len(GLYPHS)
    assert torch.equal(draw_word("a b")[:, 12:], drawn["B"])
