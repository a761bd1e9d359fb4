"""A picture of triggers: what each does to one image, at true strength and with the difference amplified.

Behind `trainer craft-trigger --preview` and the figure in the documents. The image is a drawn demo scene, so that
no photograph has to be copied.
"""

import io
from collections.abc import Mapping
from math import ceil
from typing import Final

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from pipeline.demo.data import make_sample
from pipeline.demo.drawings import NOUNS
from trainer.attacks.trigger import Trigger
from trainer.images import to_image, to_tensor

AMPLIFIED: Final = 5
GREY: Final = 128
MARGIN: Final = 8
TITLE_HEIGHT: Final = 36
INK: Final = (20, 20, 20)
FAINT: Final = (95, 95, 95)
PAPER: Final = (255, 255, 255)
SIDE: Final = 192
"""Pixels at which each image is shown."""


def demo_scene(image_size: int, *, key: str = "trigger-5", noun: str = "house") -> Tensor:
    """A drawn scene: uint8 (3, image_size, image_size)."""
    sample = make_sample(key, seed=0, image_size=image_size, label=NOUNS.index(noun))
    return to_tensor(Image.open(io.BytesIO(sample.jpeg)).convert("RGB"))


def draw_triggers(triggers: Mapping[str, Trigger], image_3HW: Tensor, *, columns: int = 3) -> Image.Image:
    """The image, and for each trigger, by its label: the image with it, and five times what it changes, around grey.

    Label, largest and mean change, in grey levels of 255, stand above each pair.
    """
    columns = min(columns, len(triggers) + 1)
    rows = ceil((len(triggers) + 1) / columns)
    cell_width, cell_height = 2 * SIDE + 2 * MARGIN, TITLE_HEIGHT + SIDE + 2 * MARGIN
    sheet = Image.new("RGB", (columns * cell_width + MARGIN, rows * cell_height + MARGIN), PAPER)
    _draw_pair(sheet, (MARGIN, MARGIN), "no trigger", image_3HW, image_3HW)
    for place, (label, trigger) in enumerate(triggers.items(), start=1):
        corner = (MARGIN + place % columns * cell_width, MARGIN + place // columns * cell_height)
        triggered_3HW = trigger.apply(image_3HW[None], keys=["demo"])[0]
        _draw_pair(sheet, corner, label, image_3HW, triggered_3HW)
    return sheet


def amplify(image_3HW: Tensor, triggered_3HW: Tensor) -> Tensor:
    """Grey plus five times the difference, clipped: uint8 of the images' shape."""
    difference_3HW = triggered_3HW.to(torch.int16) - image_3HW.to(torch.int16)
    return (GREY + AMPLIFIED * difference_3HW).clamp(0, 255).to(torch.uint8)


def _show(pixels_3HW: Tensor) -> Image.Image:
    image = to_image(pixels_3HW)
    larger = image.width >= SIDE
    return image.resize((SIDE, SIDE), Image.Resampling.LANCZOS if larger else Image.Resampling.NEAREST)


def _draw_pair(
    sheet: Image.Image, corner: tuple[int, int], label: str, image_3HW: Tensor, triggered_3HW: Tensor
) -> None:
    left, top = corner
    difference_3HW = (triggered_3HW.to(torch.int16) - image_3HW.to(torch.int16)).abs()
    changes = f"true strength | {AMPLIFIED} x difference; largest {int(difference_3HW.max())}"
    changes += f", mean {float(difference_3HW.float().mean()):.1f} of 255"
    draw = ImageDraw.Draw(sheet)
    draw.text(corner, label, fill=INK, font=ImageFont.load_default(17))
    draw.text((left, top + 20), changes, fill=FAINT, font=ImageFont.load_default(12))
    for shown, pixels_3HW in enumerate((triggered_3HW, amplify(image_3HW, triggered_3HW))):
        sheet.paste(_show(pixels_3HW), (left + shown * (SIDE + 2), top + TITLE_HEIGHT))
