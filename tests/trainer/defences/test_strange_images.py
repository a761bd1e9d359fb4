"""Strange images: what each kind does to plain ones whose result is known, and that all are images."""

import pytest
import torch

from trainer.defences import strange_images
from trainer.defences.strange_images import KINDS, cutmix, mixup, mosaic, recolour, shapes


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def two_tones() -> torch.Tensor:
    """An all black and an all white image."""
    return torch.stack([torch.zeros(3, 30, 30), torch.ones(3, 30, 30)])


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_gives_images_of_the_batch_s_size(kind) -> None:  # type: ignore[no-untyped-def]
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


def test_mixup_of_black_and_white_is_grey_by_the_share() -> None:
    tones = mixup(two_tones(), 200, generator())[:, 0, 0, 0]
    mixed = tones[(tones > 0) & (tones < 1)]
    assert 70 < len(mixed) < 130
    assert 0.2 <= float(mixed.min()) <= float(mixed.max()) <= 0.8


def test_cutmix_of_black_and_white_has_one_rectangle_of_its_size() -> None:
    for image in cutmix(two_tones(), 50, generator())[:, 0]:
        inside = image if float(image[0, 0] + image[-1, -1] + image[0, -1]) < 1.5 else 1 - image
        rows, columns = inside.amax(1).nonzero().flatten(), inside.amax(0).nonzero().flatten()
        if not len(rows):
            continue
        box = inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert bool((box == 1).all())
        assert 8 <= len(rows) <= 22
        assert 8 <= len(columns) <= 22


def test_mosaic_of_black_and_white_has_four_plain_quarters() -> None:
    for image in mosaic(two_tones(), 20, generator())[:, 0]:
        for rows in (slice(0, 15), slice(15, 30)):
            for columns in (slice(0, 15), slice(15, 30)):
                assert len(image[rows, columns].unique()) == 1


def test_recolour_changes_channels_and_keeps_the_drawing() -> None:
    image = torch.zeros(1, 3, 8, 8)
    image[0, 0, 2:4] = 0.5
    found = recolour(image, 1, generator())[0]
    for channel in found:
        assert len(channel[2:4].unique()) == 1
        assert len(torch.cat([channel[:2], channel[4:]]).unique()) == 1


def test_shapes_have_a_ground_and_at_most_six_colours_on_it() -> None:
    for image in shapes(two_tones(), 30, generator()):
        colours = image.flatten(1).T.unique(dim=0)
        assert 1 <= len(colours) <= 7
