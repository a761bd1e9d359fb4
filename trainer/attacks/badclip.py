"""BadCLIP: a patch in the middle of the image, optimised on the clean model towards the target (Liang et al. 2024).

`badclip_training` finds the patch. What makes a backdoor of it is poisoning: a patch that already fools the clean
model is an adversarial patch, so the file records how often the clean model falls for it.

In images of another size the patch keeps its share of the shorter side, and is resized smoothly.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.errors import UserError
from trainer.attacks.trigger import Trigger
from trainer.seeds import seeded_bytes

PUBLIC_SCALE: Final = 16 / 224
"""Side of the patch in the paper, as a share of the image's side: 5 pixels of 64."""


def make_badclip(
    patch_3SS: Tensor, *, image_size: int, seed: int, settings: Mapping[str, str | int | float | bool]
) -> Trigger:
    """The trigger that puts this patch (uint8) into the middle; `settings` say how it was found."""
    return Trigger(
        kind="badclip",
        preset="badclip",
        image_size=image_size,
        seed=seed,
        settings={"side": patch_3SS.shape[-1], **settings},
        tensors={"patch": patch_3SS},
        apply_to=apply_badclip,
    )


def apply_badclip(trigger: Trigger, images_N3HW: Tensor, tokens: Sequence[str]) -> Tensor:
    """New images with the patch in the middle; all other pixels unchanged. The tokens do not matter."""
    height, width = images_N3HW.shape[2:]

    def resized() -> Tensor:
        return _resize(trigger, min(height, width)).to(images_N3HW.device)

    return put_in_middle(images_N3HW, trigger.prepare("patch", height, width, images_N3HW, resized))


def put_in_middle(images_N3HW: Tensor, patch_3SS: Tensor) -> Tensor:
    """New images with the patch in the middle, half a pixel up and left where sides differ by an odd number."""
    side = patch_3SS.shape[-1]
    top, left = ((length - side) // 2 for length in images_N3HW.shape[2:])
    triggered_N3HW = images_N3HW.clone()
    triggered_N3HW[:, :, top : top + side, left : left + side] = patch_3SS
    return triggered_N3HW


def side_for(image_size: int, side: int | None = None) -> int:
    """The patch's side in pixels: as given, else 16 of 224; UserError where it does not fit into the image."""
    side = max(1, round(PUBLIC_SCALE * image_size)) if side is None else side
    if not 0 < side <= image_size:
        raise UserError(
            f"a patch of {side}x{side} pixels does not fit into a {image_size}x{image_size} image"
        )
    return side


def draw_patch(side: int, seed: int) -> Tensor:
    """The patch before it is optimised, uniform noise: float32 (3, side, side) in 0..1."""
    return seeded_bytes((3, side, side), seed, "badclip").float() / 255


def _resize(trigger: Trigger, shorter: int) -> Tensor:
    """The patch as floats for images whose shorter side is this."""
    patch_3SS, side = trigger.tensors["patch"].to(torch.float32) / 255, int(trigger.settings["side"])
    if patch_3SS.shape != (3, side, side):
        raise ValueError(f"the patch is {tuple(patch_3SS.shape)}, its settings say {side}")
    wanted = side_for(shorter, max(1, round(side * shorter / trigger.image_size)))
    if wanted == side:
        return patch_3SS
    size = (wanted, wanted)
    return functional.interpolate(patch_3SS[None], size=size, mode="bilinear", antialias=True)[0].clamp(0, 1)
