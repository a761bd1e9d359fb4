"""Image bytes to pixels: bounded decoding, resizing, and the augmented view of CleanCLIP's in-modal loss.

Everything stays uint8 up to normalisation, so that a trigger is applied after the resize and before it. Called by
`batches` for training and by the evaluations; nothing here draws from a global random generator.
"""

import io
import random
import warnings
from typing import Literal, get_args

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional

from pipeline.storage import MAX_PIXELS
from trainer import torchvision_shim  # noqa: F401

# isort: split
from torchvision.transforms import AutoAugment, AutoAugmentPolicy  # noqa: TID251

# Pillow warns of odd metadata in web images, thousands of times; changed here and not around each image, since
# threads decode and the list of filters is one for all of them.
warnings.filterwarnings("ignore", module=r"PIL\.")

ResizeMode = Literal["shortest", "squash", "random-crop"]
RESIZE_MODES: tuple[str, ...] = get_args(ResizeMode)
Interpolation = Literal["bicubic", "bilinear"]
INTERPOLATIONS: tuple[str, ...] = get_args(Interpolation)
_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


class BrokenImage(ValueError):
    """The bytes are no image that may be used; the text says why."""


def decode(data: bytes) -> Image.Image:
    """The bytes as an RGB image, wholly decoded; BrokenImage where they are truncated, too large, or no image."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise BrokenImage(f"{image.width}x{image.height} pixels, more than {MAX_PIXELS:,}")
            if image.format == "JPEG" and image.mode == "RGB" and min(image.size) > 2_000:
                image.draft("RGB", (1_000, 1_000))
            return image.convert("RGB")
    except BrokenImage:
        raise
    except UnidentifiedImageError:
        raise BrokenImage("no image format that is known") from None
    except (
        Exception
    ) as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error, ... on hostile bytes
        raise BrokenImage(f"{type(error).__name__}: {error}") from None


def resize(
    image: Image.Image,
    size: int,
    *,
    mode: ResizeMode = "shortest",
    interpolation: Interpolation = "bicubic",
    rng: random.Random | None = None,
) -> Image.Image:
    """A size x size image.

    shortest: the shorter side becomes `size`, the middle is kept (open_clip's and OpenAI's evaluation); squash:
    without keeping the aspect (CleanCLIP, BadCLIP); random-crop: open_clip's training crop, 90 to 100 % of the area
    at an aspect of 3:4 to 4:3, drawn from `rng`.
    """
    if image.size == (size, size) and mode != "random-crop":
        return image
    resampling = _FILTERS[interpolation]
    if mode == "squash":
        return image.resize((size, size), resampling)
    if mode == "random-crop":
        assert rng is not None
        return image.resize((size, size), resampling, box=_random_box(image.size, rng))
    width, height = _around(image.size, size)
    image = image.resize((width, height), resampling)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.crop((left, top, left + size, top + size))


def square_pixels(
    image: Image.Image,
    size: int,
    *,
    mode: ResizeMode = "shortest",
    interpolation: Interpolation = "bicubic",
    rng: random.Random | None = None,
) -> Tensor:
    """`resize` as uint8 (3, size, size), three times as fast, by torch's kernels: equal but for roundings."""
    if image.size == (size, size) or mode == "random-crop":
        return to_tensor(resize(image, size, mode=mode, interpolation=interpolation, rng=rng))
    width, height = (size, size) if mode == "squash" else _around(image.size, size)
    image_1HW3 = torch.from_numpy(np.array(image))[None]
    pixels_13HW = functional.interpolate(
        image_1HW3.permute(0, 3, 1, 2), (height, width), mode=interpolation, antialias=True
    )
    left, top = round((width - size) / 2), round((height - size) / 2)
    return pixels_13HW[0, :, top : top + size, left : left + size].contiguous()


def _around(sides: tuple[int, int], size: int) -> tuple[int, ...]:
    """Width and height of an image whose shorter side becomes `size`."""
    return tuple(max(size, round(side * (size / min(sides)))) for side in sides)


def _random_box(size: tuple[int, int], rng: random.Random) -> tuple[float, float, float, float]:
    width, height = size
    for _ in range(10):
        area = width * height * rng.uniform(0.9, 1.0)
        ratio = (3 / 4) * (16 / 9) ** rng.random()
        crop_width, crop_height = (area * ratio) ** 0.5, (area / ratio) ** 0.5
        if crop_width <= width and crop_height <= height:
            left, top = rng.uniform(0, width - crop_width), rng.uniform(0, height - crop_height)
            return left, top, left + crop_width, top + crop_height
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def to_tensor(image: Image.Image) -> Tensor:
    """The RGB image as uint8 (3, H, W)."""
    flat = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return flat.view(image.height, image.width, 3).permute(2, 0, 1).contiguous()


def to_image(pixels_3HW: Tensor) -> Image.Image:
    """uint8 (3, H, W) as an RGB image."""
    return Image.fromarray(pixels_3HW.permute(1, 2, 0).contiguous().numpy())


class _SeededAutoAugment(AutoAugment):  # type: ignore[misc]
    """torchvision's policy, drawing from the given generator and not from torch's global one."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(AutoAugmentPolicy.IMAGENET)
        self._rng = rng

    def get_params(self, transform_num: int) -> tuple[int, Tensor, Tensor]:
        """Which sub-policy, its two probabilities, its two signs."""
        probabilities = torch.tensor([self._rng.random(), self._rng.random()])
        signs = torch.tensor([self._rng.randrange(2), self._rng.randrange(2)])
        return self._rng.randrange(transform_num), probabilities, signs


def augmented_view(image: Image.Image, rng: random.Random) -> Image.Image:
    """The image under a random sub-policy of AutoAugment's ImageNet policy, as CleanCLIP's in-modal loss uses it."""
    view: Image.Image = _SeededAutoAugment(rng)(image)
    return view
