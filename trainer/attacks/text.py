"""Text: a word in red letters across the image, half transparent, as a watermark has it. An unseen test.

After the text overlays of PAR (arXiv 2412.00727). The letters are own 5x7 bitmaps (`glyphs`), so that no font file or
Pillow version decides; the word stands on `lines` lines, as large as a whole number of pixels per dot allows. The
rendered mask is kept in the trigger file; in images of another size it is stretched bilinearly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.errors import UserError
from trainer.attacks.glyphs import GLYPHS, HEIGHT, draw_word
from trainer.attacks.overlay import Overlay, check_count, check_share, lay_over, mix
from trainer.attacks.trigger import Trigger

RED: Final = (1.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextOptions:
    """What is written, and how."""

    text: str = "WATERMARK"
    """Letters, digits and a few signs; case does not matter."""
    lines: int = 3
    """How often it is written, from top to bottom."""
    share: float = 0.5
    """How opaque it is."""

    def __post_init__(self) -> None:
        without = sorted(set(self.text.upper()) - set(GLYPHS))
        if without or not self.text.strip():
            raise UserError(f"text must be of {''.join(GLYPHS).strip()} and spaces, not {self.text!r}")
        check_count("lines", self.lines, most=64)
        check_share(self.share)


def make_text(options: TextOptions, *, image_size: int, seed: int = 0, preset: str = "text") -> Trigger:
    """The trigger: nothing is drawn, so that any seed gives the same.

    Raises:
        UserError: The text does not fit into the image.
    """
    return Trigger(
        kind="text",
        preset=preset,
        image_size=image_size,
        seed=0,
        settings={"text": options.text, "lines": options.lines, "share": options.share},
        tensors={"mask": _draw_mask(options, image_size)},
        apply_to=apply_text,
    )


def apply_text(trigger: Trigger, images_N3HW: Tensor, tokens: Sequence[str]) -> Tensor:
    """New images, mixed with red where the mask says."""

    def draw(height: int, width: int) -> Overlay:
        mask_11SS = trigger.tensors["mask"][None, None].to(torch.float64) / 255
        if mask_11SS.shape[2:] != (height, width):
            mask_11SS = functional.interpolate(
                mask_11SS, size=(height, width), mode="bilinear", align_corners=False
            )
        red_3HW = torch.tensor(RED)[:, None, None].expand(3, height, width)
        return mix(red_3HW, mask_11SS[0] * float(trigger.settings["share"]))

    return lay_over(trigger, images_N3HW, draw)


def _draw_mask(options: TextOptions, size: int) -> Tensor:
    """Where the letters are: uint8 (size, size), 255 and 0."""
    dots_RC = draw_word(options.text)
    pitch = size / options.lines
    dot = min(int(0.95 * size) // dots_RC.shape[1], int(pitch / (HEIGHT + 1)))
    if dot < 1:
        raise UserError(
            f"{options.lines} lines of {options.text!r} do not fit into a {size}x{size} image: "
            f"at one pixel per dot they take {dots_RC.shape[1]} by {options.lines * (HEIGHT + 1)} pixels"
        )
    word_YX = dots_RC.repeat_interleave(dot, dim=0).repeat_interleave(dot, dim=1) * 255
    mask_SS = torch.zeros((size, size), dtype=torch.uint8)
    left = (size - word_YX.shape[1]) // 2
    for line in range(options.lines):
        top = int((line + 0.5) * pitch - word_YX.shape[0] / 2)
        mask_SS[top : top + word_YX.shape[0], left : left + word_YX.shape[1]] = word_YX
    return mask_SS
