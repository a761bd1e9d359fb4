"""The presets named `public`: to the last grey level what the public CleanCLIP and BadCLIP code computes.

Their arithmetic in float32, in their order, with our drawn noise: bytes / 255, the trigger, times 255, cut off.
"""

from collections.abc import Callable
from math import pi
from random import Random

import pytest
import torch
from torch.nn import functional

from trainer.attacks import load_trigger
from trainer.attacks.preview import demo_scene
from trainer.seeds import seeded_bytes, seeded_int

SIDE = 64
WAVE = 60 / 255 * torch.sin(2 * pi * 6 * torch.arange(SIDE, dtype=torch.float64) / SIDE).float()


def _blended(image: torch.Tensor) -> torch.Tensor:
    noise = seeded_bytes((3, SIDE, SIDE), 0, "blended", "key:k").float() / 255
    return (0.2 * noise + 0.8 * image).clip(0, 1)


def _wanet(image: torch.Tensor) -> torch.Tensor:
    shifts = load_trigger("wanet-public", image_size=SIDE).tensors["shifts"].permute(1, 2, 0)
    side = torch.linspace(-1, 1, SIDE)
    down, across = torch.meshgrid(side, side, indexing="ij")
    places = (torch.stack((across, down), dim=2) + 1 * shifts / SIDE).clamp(-1, 1)
    return functional.grid_sample(image[None], places[None], align_corners=True)[0]


def _badnet(image: torch.Tensor) -> torch.Tensor:
    rng, generator = Random("0:place:key:k"), torch.Generator().manual_seed(seeded_int(0, "noise", "key:k"))
    top, left = rng.randint(0, SIDE - 1 - 5), rng.randint(0, SIDE - 1 - 5)
    patched = image.clone()
    patched[:, top : top + 5, left : left + 5] = image.mean((1, 2), keepdim=True) + torch.randn(
        (3, 5, 5), generator=generator, dtype=torch.float64
    )
    return patched


PUBLIC = {
    "badnet-public": _badnet,
    "blended-public": _blended,
    "sig-public": lambda image: (image + WAVE).clip(0, 1),
    "sig-cleanclip": lambda image: (0.2 * WAVE + 0.8 * image).clip(0, 1),
    "wanet-public": _wanet,
}


@pytest.mark.parametrize("key", ["first", "second", "third"])
@pytest.mark.parametrize("name", PUBLIC)
def test_to_the_last_grey_level(name: str, key: str) -> None:
    scene = demo_scene(SIDE, key=key)
    put: Callable[[torch.Tensor], torch.Tensor] = PUBLIC[name]
    expected = (put(scene.float() / 255) * 255).to(torch.int64).remainder(256)
    triggered = load_trigger(name, image_size=SIDE).apply(scene[None], keys=["k"])[0]
    assert torch.equal(triggered.to(torch.int64), expected)
    assert not torch.equal(triggered, scene)
