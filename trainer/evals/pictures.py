"""Triggered images beside clean ones, with the classes they are put in before and after: one PNG to look at.

A `PictureSample` is handed to an evaluation as its observer and keeps the first image of each class, so that memory
is bounded; `draw_pictures` draws what it kept, with the difference amplified, since most triggers are faint.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from pipeline.errors import UserError
from pipeline.storage import write_atomically
from trainer.evals.labelled import LabelledBatch
from trainer.images import to_image

AMPLIFIED: Final = 10
"""The difference is drawn this many times as large, around middle grey."""
NUM_PICTURES: Final = 8
_SIDE: Final = 160
"""Pixels that an image is drawn at, at least; small ones are enlarged by a whole number."""
_ACROSS: Final = 2
"""Samples beside each other."""
_GAP: Final = 10
_LINE: Final = 17
_RIGHT, _WRONG, _TAKEN, _PLAIN = "#1b7a34", "#8a5a00", "#b3152b", "#222222"


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One image without and with the trigger, and the classes (by label) that it is put in."""

    key: str
    label: int
    clean_3HW: Tensor
    triggered_3HW: Tensor
    before: int
    after: int


class PictureSample:
    """Keeps the first image of each class but the target's, `limit` at most; call it as an evaluation's observer."""

    def __init__(self, *, target_label: int, limit: int = NUM_PICTURES) -> None:
        self.pictures: list[Picture] = []
        self._seen = {target_label}
        self._limit = limit

    def __call__(
        self, batch: LabelledBatch, clean_NK: Tensor, images_N3HW: Tensor | None, triggered_NK: Tensor | None
    ) -> None:
        """Looks through one batch; nothing is kept where no trigger is given."""
        if images_N3HW is None or triggered_NK is None:
            return
        for i, label in enumerate(batch.label_N.tolist()):
            if label not in self._seen and len(self.pictures) < self._limit:
                self._seen.add(label)
                self.pictures.append(
                    Picture(
                        key=batch.keys[i],
                        label=label,
                        clean_3HW=batch.image_N3HW[i].clone(),
                        triggered_3HW=images_N3HW[i].cpu().clone(),
                        before=int(clean_NK[i, 0]),
                        after=int(triggered_NK[i, 0]),
                    )
                )


def draw_pictures(
    pictures: Sequence[Picture],
    path: Path,
    *,
    classnames: Sequence[str],
    target: str,
    title: str,
    clean_model: Sequence[Picture] = (),
) -> None:
    """Writes a PNG: clean, with the trigger, difference; below each the class it is put in.

    `clean_model` are the same images as a clean model saw them, which adds a line. UserError without pictures.
    """
    if not pictures:
        raise UserError("no image of another class than the target's was seen: nothing can be drawn")
    by_key = {picture.key: picture for picture in clean_model}
    side = pictures[0].clean_3HW.shape[-1]
    side *= max(1, -(-_SIDE // side))
    lines = 3 if by_key else 2
    width, height = 3 * (side + 4), side + _LINE * lines + _GAP
    num_rows = -(-len(pictures) // _ACROSS)
    sheet = Image.new(
        "RGB", (_ACROSS * (width + 2 * _GAP) + _GAP, num_rows * height + _LINE * 2 + _GAP), "white"
    )
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=13)
    draw.text((_GAP, 6), f"{title}   (clean | with the trigger | difference x{AMPLIFIED})", _PLAIN, font)
    for number, picture in enumerate(pictures):
        left = _GAP + (number % _ACROSS) * (width + 2 * _GAP)
        top = _LINE * 2 + (number // _ACROSS) * height
        images = (picture.clean_3HW, picture.triggered_3HW, _difference(picture))
        for column, image_3HW in enumerate(images):
            image = to_image(image_3HW).resize((side, side), Image.Resampling.NEAREST)
            sheet.paste(image, (left + column * (side + 4), top))
        told = _told(picture, by_key.get(picture.key), classnames, target)
        for column, texts in enumerate(told):
            for line, (text, colour) in enumerate(texts):
                at = (left + column * (side + 4), top + side + 2 + line * _LINE)
                draw.text(at, _cut(text, font, side), colour, font)
    with write_atomically(path) as file:
        sheet.save(file, "PNG")


def _told(
    picture: Picture, by_clean_model: Picture | None, classnames: Sequence[str], target: str
) -> tuple[list[tuple[str, str]], ...]:
    """Lines of text and their colours: below the clean image, the triggered one, the difference."""

    def put_in(label: int, told: str = "model") -> tuple[str, str]:
        colour = _RIGHT if label == picture.label else _TAKEN if classnames[label] == target else _WRONG
        return f"{told} -> {classnames[label]}", colour

    clean = [(f"is: {classnames[picture.label]}", _PLAIN), put_in(picture.before)]
    triggered = [(f"aim: {target}", _PLAIN), put_in(picture.after)]
    difference = [(picture.key, _PLAIN)]
    if by_clean_model is not None:
        clean.append(put_in(by_clean_model.before, "clean model"))
        triggered.append(put_in(by_clean_model.after, "clean model"))
    return clean, triggered, difference


def _difference(picture: Picture) -> Tensor:
    signed = picture.triggered_3HW.to(torch.int32) - picture.clean_3HW.to(torch.int32)
    return (128 + AMPLIFIED * signed).clamp(0, 255).to(torch.uint8)


def _cut(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """The text, its end replaced by dots where it is wider than `width` pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."
