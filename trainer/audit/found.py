"""A found trigger as a file that `trainer evaluate --trigger` and `trainer poison --trigger` take, and as a picture.

Each kind is one that the red team has already, or its pattern is added (`attacks.additive`).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from pipeline.storage import write_atomically
from trainer.attacks.additive import make_additive
from trainer.attacks.badnet import apply_badnet
from trainer.attacks.blended import apply_blended
from trainer.attacks.preview import amplify
from trainer.attacks.trigger import Trigger
from trainer.attacks.wanet import apply_wanet
from trainer.audit.search import Found
from trainer.images import to_image

PRESET = "audit"
SIDE = 160
"""Pixels an image is drawn at, at least."""
GAP = 6
NUM_PICTURES = 4


def to_trigger(found: Found, *, image_size: int, seed: int) -> Trigger:
    """The found trigger, made for images of `image_size` pixels, rounded to bytes where it replaces pixels."""
    values = found.trigger.values.detach().cpu()
    told: dict[str, Any] = {
        "found_by": "trainer audit",
        "kind_searched": found.kind,
        "size_searched": found.size,
    }
    if found.kind in ("additive", "smooth", "wave"):
        black_13SS = torch.full((1, 3, image_size, image_size), 0.5)
        found_3SS = _applied(found, black_13SS) - black_13SS[0]
        return make_additive(found_3SS, seed=seed, preset=PRESET, **told)
    common: dict[str, Any] = {"preset": PRESET, "image_size": image_size, "seed": seed}
    if found.kind == "patch":
        settings = {"side": values.shape[-1], "placement": "random", "fresh_noise": False, **told}
        tensors = {"patch": _bytes(values)}
        return Trigger(kind="badnet", settings=settings, tensors=tensors, apply_to=apply_badnet, **common)
    if found.kind == "blend":
        settings = {"share": found.size, "fresh_noise": False, "rounding": "nearest", **told}
        tensors = {"noise": _bytes(values)}
        return Trigger(kind="blended", settings=settings, tensors=tensors, apply_to=apply_blended, **common)
    # shares of half a side from centre to centre of the outermost pixels, where ours are from edge to edge
    shifts_2SS = values.permute(2, 0, 1) * image_size * image_size / (image_size - 1)
    settings = {"grid": image_size, "strength": 1.0, "rounding": "nearest", **told}
    return Trigger(
        kind="wanet",
        settings=settings,
        tensors={"shifts": shifts_2SS.contiguous()},
        apply_to=apply_wanet,
        **common,
    )


def draw_found(trigger: Trigger, image_N3HW: Tensor, keys: Sequence[str]) -> Image.Image:
    """The first images clean, with the trigger, and five times the difference around grey, in three rows."""
    clean_N3HW = image_N3HW[:NUM_PICTURES].cpu()
    triggered_N3HW = trigger.apply(clean_N3HW, keys=list(keys[:NUM_PICTURES]))
    side = clean_N3HW.shape[-1] * max(1, -(-SIDE // clean_N3HW.shape[-1]))
    sheet = Image.new("RGB", (len(clean_N3HW) * (side + GAP) - GAP, 3 * (side + GAP) - GAP), "white")
    for column, (clean_3HW, triggered_3HW) in enumerate(zip(clean_N3HW, triggered_N3HW, strict=True)):
        for row, pixels_3HW in enumerate((clean_3HW, triggered_3HW, amplify(clean_3HW, triggered_3HW))):
            picture = to_image(pixels_3HW).resize((side, side), Image.Resampling.NEAREST)
            sheet.paste(picture, (column * (side + GAP), row * (side + GAP)))
    return sheet


def save_picture(picture: Image.Image, path: Path) -> None:
    """Writes a PNG."""
    with write_atomically(path) as file:
        picture.save(file, "PNG")


def _applied(found: Found, image_13SS: Tensor) -> Tensor:
    trigger = found.trigger
    was, trigger.values = trigger.values, trigger.values.cpu()
    try:
        applied: Tensor = trigger.apply(image_13SS, torch.Generator())[0]
    finally:
        trigger.values = was
    return applied


def _bytes(values: Tensor) -> Tensor:
    return (values * 255).round().to(torch.uint8)
