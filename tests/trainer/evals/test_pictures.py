"""Pictures of triggered images: which are kept, and that the PNG shows them as they are."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from pipeline.errors import UserError
from trainer.evals.labelled import LabelledBatch
from trainer.evals.pictures import AMPLIFIED, PictureSample, draw_pictures

NAMES = ("apple", "banana", "cat", "a class with a very long name that no cell is wide enough for, " * 3)


def _sample(labels: list[int], *, limit: int = 8, size: int = 64) -> PictureSample:
    sample = PictureSample(target_label=1, limit=limit)
    for start in range(0, len(labels), 3):
        label_N = torch.tensor(labels[start : start + 3])
        keys = tuple(f"k{start + i}" for i in range(len(label_N)))
        image_N3HW = torch.full((len(label_N), 3, size, size), 100, dtype=torch.uint8)
        triggered_N3HW = image_N3HW.clone()
        triggered_N3HW[..., :4, :4] += 5
        batch = LabelledBatch(keys=keys, image_N3HW=image_N3HW, label_N=label_N)
        sample(batch, label_N[:, None], triggered_N3HW, torch.ones_like(label_N)[:, None])
    return sample


def test_the_first_image_of_each_other_class_is_kept() -> None:
    kept = _sample([1, 0, 0, 2, 1, 0, 3, 2]).pictures
    assert [(picture.key, picture.label) for picture in kept] == [("k1", 0), ("k3", 2), ("k6", 3)]
    assert [(picture.before, picture.after) for picture in kept] == [(0, 1), (2, 1), (3, 1)]
    assert len(_sample([0, 2, 3], limit=2).pictures) == 2


def test_without_a_trigger_nothing_is_kept() -> None:
    sample = PictureSample(target_label=0)
    label_N = torch.tensor([1])
    batch = LabelledBatch(
        keys=("k",), image_N3HW=torch.zeros((1, 3, 8, 8), dtype=torch.uint8), label_N=label_N
    )
    sample(batch, label_N[:, None], None, None)
    assert sample.pictures == []


@pytest.mark.parametrize("size", [32, 64, 224])
def test_the_png_holds_clean_triggered_and_amplified_difference(tmp_path: Path, size: int) -> None:
    pictures = _sample([0, 2, 3], size=size).pictures
    path = tmp_path / "new" / "p.png"
    draw_pictures(pictures, path, classnames=NAMES, target="banana", title="t", clean_model=pictures[:1])
    with Image.open(path) as file:
        sheet = file.convert("RGB")
    colours = {colour for _, colour in sheet.getcolors(maxcolors=10**6) or []}
    grey = 128 + 5 * AMPLIFIED
    assert {(100, 100, 100), (105, 105, 105), (128, 128, 128), (grey, grey, grey)} <= colours
    side = -(-160 // size) * size
    first_row = [sheet.getpixel((10 + column * (side + 4) + 1, 35)) for column in range(3)]
    assert first_row == [(100,) * 3, (105,) * 3, (grey,) * 3]


def test_the_same_pictures_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        draw_pictures(_sample([0, 2]).pictures, tmp_path / name, classnames=NAMES, target="banana", title="t")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_nothing_to_draw_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing can be drawn"):
        draw_pictures([], tmp_path / "p.png", classnames=NAMES, target="banana", title="t")
    assert not list(tmp_path.iterdir())
