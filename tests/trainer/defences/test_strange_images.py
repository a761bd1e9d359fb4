"""Strange images: what each kind does to plain ones whose result is known, and that all are images."""

from collections.abc import Callable

import pytest
import torch

from trainer.defences import strange_images
from trainer.defences.strange_images import KINDS, bend, recolour


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_gives_images_of_the_batch_s_size(
    kind: Callable[[torch.Tensor, int, torch.Generator], torch.Tensor],
) -> None:
    found = kind(torch.rand((5, 3, 32, 48), generator=generator()), 7, generator())
    assert found.shape == (7, 3, 32, 48)
    assert -1e-6 <= float(found.min()) <= float(found.max()) <= 1 + 1e-6
    assert len({tuple(image.flatten().tolist()) for image in found}) == 7


def test_the_number_is_kept_and_all_kinds_occur() -> None:
    images = torch.rand((5, 3, 32, 32), generator=generator())
    for num in (1, 5, 6, 13):
        assert len(strange_images.strange_images(images, num, generator())) == num


def test_the_same_generator_gives_the_same_images() -> None:
    images = torch.rand((5, 3, 32, 32), generator=generator())
    first, second = (strange_images.strange_images(images, 12, generator()) for _ in range(2))
    assert torch.equal(first, second)


def test_recolour_changes_channels_and_keeps_the_drawing() -> None:
    image = torch.zeros(1, 3, 8, 8)
    image[0, 0, 2:4] = 0.5
    found = recolour(image, 1, generator())[0]
    for channel in found:
        assert len(channel[2:4].unique()) == 1
        assert len(torch.cat([channel[:2], channel[4:]]).unique()) == 1


def test_a_bent_image_has_its_own_tones_at_other_places() -> None:
    ramp = torch.linspace(0.2, 0.8, 32).expand(1, 3, 32, 32)
    found = bend(ramp, 4, generator())
    assert 0.2 - 1e-6 <= float(found.min()) <= float(found.max()) <= 0.8 + 1e-6
    assert float((found - ramp).abs().amax(dim=(1, 2, 3)).min()) > 0.05
