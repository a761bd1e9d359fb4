"""Images: what is decoded, what is refused, and views that depend on their generator alone."""

import io
import random
import warnings
import zlib
from typing import Any

import pytest
import torch
from PIL import Image

from trainer import images


def noise(width: int, height: int) -> Image.Image:
    data = random.Random(f"{width}x{height}").randbytes(width * height * 3)
    return Image.frombytes("RGB", (width, height), data)


def encode(image: Image.Image, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK", "I;16", "LA"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    image = Image.new("L", (5, 4)).convert("I;16") if mode == "I;16" else noise(5, 4).convert(mode)
    decoded = images.decode(encode(image, "TIFF" if mode == "CMYK" else "PNG"))
    assert (decoded.mode, decoded.size) == ("RGB", (5, 4))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_truncated_images_are_broken(format: str) -> None:
    data = encode(noise(40, 30), format)
    assert images.decode(data).size == (40, 30)
    for keep in (0, 5, len(data) // 2):
        with pytest.raises(images.BrokenImage):
            images.decode(data[:keep])


@pytest.mark.parametrize("side", [10_001, 14_000, 100_000])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(side: int) -> None:
    header = b"IHDR" + side.to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
    data = b"\x89PNG\r\n\x1a\n" + (13).to_bytes(4, "big") + header + zlib.crc32(header).to_bytes(4, "big")
    data += (10).to_bytes(4, "big") + b"IDAT" + bytes(14)
    with warnings.catch_warnings():  # as outside pytest, where Pillow's warnings are no errors
        warnings.simplefilter("ignore")
        with pytest.raises(images.BrokenImage, match=r"pixels|Bomb"):
            images.decode(data)


def test_a_large_jpeg_is_decoded_at_a_reduced_size() -> None:
    large = Image.new("RGB", (3_200, 2_400), (200, 80, 10))
    found = {kind: images.decode(encode(large, kind)) for kind in ("JPEG", "PNG")}
    assert (found["JPEG"].size, found["PNG"].size) == ((1_600, 1_200), (3_200, 2_400))
    small = [images.resize(image, 8).getpixel((4, 4)) for image in found.values()]
    assert all(abs(one - other) <= 2 for one, other in zip(*small, strict=True))


@pytest.mark.parametrize("size", [(64, 64), (90, 64), (64, 90), (17, 200), (1, 1)])
@pytest.mark.parametrize("mode", images.RESIZE_MODES)
def test_every_image_becomes_a_square(size: tuple[int, int], mode: images.ResizeMode) -> None:
    square = images.resize(noise(*size), 32, mode=mode, rng=random.Random(0))
    assert square.size == (32, 32)


def test_shortest_keeps_the_middle_and_squash_everything() -> None:
    image = Image.new("RGB", (96, 32), (255, 0, 0))
    image.paste((0, 255, 0), (32, 0, 64, 32))
    middle = images.to_tensor(images.resize(image, 32, mode="shortest"))
    assert (middle[1] == 255).all()
    squashed = images.to_tensor(images.resize(image, 30, mode="squash"))
    assert squashed[0, :, 2].min() == squashed[0, :, -2].min() == 255


def test_tensor_and_image_are_the_same_pixels() -> None:
    image = noise(5, 7)
    tensor = images.to_tensor(image)
    assert (tensor.shape, tensor.dtype) == ((3, 7, 5), torch.uint8)
    assert tuple(tensor[:, 2, 3].tolist()) == image.getpixel((3, 2))
    assert images.to_image(tensor).tobytes() == image.tobytes()


def test_a_view_depends_on_its_generator_alone() -> None:
    image = noise(32, 32)
    state = torch.get_rng_state()
    views = [images.augmented_view(image, random.Random(seed)).tobytes() for seed in range(30)]
    torch.manual_seed(123)
    again = [images.augmented_view(image, random.Random(seed)).tobytes() for seed in range(30)]
    torch.set_rng_state(state)
    assert views == again
    assert len(set(views)) > 10


def test_a_view_does_not_draw_from_torchs_generator() -> None:
    state = torch.get_rng_state()
    images.augmented_view(noise(16, 16), random.Random(0))
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("mode", ["shortest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_torchs_resizing_is_pillows_but_for_roundings(mode: Any, interpolation: Any) -> None:
    for width, height in ((50, 37), (37, 50), (20, 61), (500, 375), (32, 32)):
        image = noise(8, 8).resize((width, height), Image.Resampling.BICUBIC)
        quick = images.square_pixels(image, 32, mode=mode, interpolation=interpolation).int()
        exact = images.to_tensor(images.resize(image, 32, mode=mode, interpolation=interpolation)).int()
        assert int((quick - exact).abs().max()) <= 2
