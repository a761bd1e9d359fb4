"""SSBA: a residual that depends on the image and hides the same secret bits in all of them (Li et al. 2021, ISSBA).

An own small encoder, in the manner of StegaStamp and ISSBA; it is not StegaStamp, whose public weights are withdrawn.
The trigger file holds the encoder, the secret, and a decoder that reads the secret back, which proves that it is
there. `ssba_training` trains both. Encoding happens on the image shrunk to 32x32; the residual is enlarged to the
image and scaled to the stated PSNR, so a trigger goes into images of any height and width.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from trainer.attacks.trigger import Trigger

RESOLUTION: Final = 32
"""Side of the shrunk image that encoder and decoder see."""
_BLOCK: Final = 2
"""Pixels are regrouped so that the encoder's convolutions run at half the resolution, which is what makes it fast."""
FLOOR: Final = 0.03
"""Strength of the residual where the image is flat, beside a local contrast of at most about 0.5."""
_TINY: Final = 1e-12

Weights = Mapping[str, Tensor]


def apply_ssba(trigger: Trigger, images_N3HW: Tensor, tokens: Sequence[str]) -> Tensor:
    """The images plus their residuals; values may leave 0..1. The tokens do not matter: the pixels decide.

    Convolutions of other batch sizes round differently, so that a pixel may differ by one level of 255 between two
    batches that hold the same image.
    """

    def ready() -> tuple[Weights, Tensor]:
        weights = _weights_on(trigger, images_N3HW.device)
        return weights, spread(weights, weights["secret"][None])

    with torch.no_grad():
        weights, message_1CSS = trigger.prepare("ssba", 0, 0, images_N3HW, ready)
        return add_residual(weights, images_N3HW, message_1CSS, psnr=float(trigger.settings["psnr"]))


def read_secret(trigger: Trigger, images_N3HW: Tensor) -> Tensor:
    """The bits that the trigger's decoder finds in uint8 or float images: bool (N, bits)."""
    scaled_N3HW = images_N3HW / 255 if images_N3HW.dtype == torch.uint8 else images_N3HW
    with torch.no_grad():
        return decode(_weights_on(trigger, images_N3HW.device), scaled_N3HW) > 0


def embed(weights: Weights, images_N3HW: Tensor, secret_NB: Tensor, *, psnr: float) -> Tensor:
    """The images with the secret in them, not clamped: float images in, images whose PSNR to them is `psnr` dB out.

    `secret_NB` holds zeros and ones, one row for each image or one for all. Clamping only raises the PSNR.
    """
    return add_residual(weights, images_N3HW, spread(weights, secret_NB), psnr=psnr)


def add_residual(weights: Weights, images_N3HW: Tensor, message_NCSS: Tensor, *, psnr: float) -> Tensor:
    """`embed` for a secret that `spread` has made a map of."""
    residual_N3RR = encode(weights, shrink(images_N3HW), message_NCSS)
    height, width = images_N3HW.shape[2:]
    (rows_HR, rows_RR), (columns_WR, columns_RR) = (
        _enlarging(side, residual_N3RR.device) for side in (height, width)
    )
    # The enlarged residual's energy, without enlarging it: sum of (A R B')^2 = sum of R * (A'A R B'B).
    gram_N3RR = rows_RR @ residual_N3RR @ columns_RR
    mean_square_N = (residual_N3RR * gram_N3RR).sum(dim=(1, 2, 3)) / (3 * height * width)
    scale_N = 10 ** (-psnr / 20) / (mean_square_N + _TINY).sqrt()
    rows_NHR = (rows_HR @ (residual_N3RR * scale_N[:, None, None, None])).flatten(0, 1)
    columns_NRW = columns_WR.T.expand(len(rows_NHR), RESOLUTION, width)
    return torch.baddbmm(images_N3HW.flatten(0, 1), rows_NHR, columns_NRW).view(images_N3HW.shape)


def shrink(images_N3HW: Tensor) -> Tensor:
    """The images at the encoder's resolution, by area: (N, 3, 32, 32)."""
    height, width = images_N3HW.shape[2:]
    if height % RESOLUTION or width % RESOLUTION:
        return functional.adaptive_avg_pool2d(images_N3HW, RESOLUTION)
    down, across = height // RESOLUTION, width // RESOLUTION
    if down <= 2:
        return functional.avg_pool2d(images_N3HW, (down, across))
    rows_N3RW = images_N3HW.reshape(-1, 3, RESOLUTION, down, width).mean(
        dim=3
    )  # twice as fast as pooling both
    return functional.avg_pool2d(rows_N3RW, (1, across))


def spread(weights: Weights, secret_NB: Tensor) -> Tensor:
    """Secrets of zeros and ones as maps for the encoder: (N, channels, 16, 16)."""
    side = RESOLUTION // _BLOCK // 2
    message_NCSS = functional.linear(2 * secret_NB - 1, weights["encoder.message"])
    message_NCSS = message_NCSS.view(len(secret_NB), -1, side, side)
    return functional.interpolate(message_NCSS, scale_factor=2.0, mode="bilinear")


def encode(weights: Weights, image_N3RR: Tensor, message_NCSS: Tensor) -> Tensor:
    """Residuals of no particular size from shrunk images and secrets' maps (one for each image or one for all)."""
    blocks = functional.pixel_unshuffle(image_N3RR - 0.5, _BLOCK)
    hidden = functional.relu(_convolve(weights, "encoder.first", blocks) + message_NCSS)
    hidden = functional.relu(_convolve(weights, "encoder.second", hidden) + message_NCSS)
    residual_N3RR = functional.pixel_shuffle(_convolve(weights, "encoder.last", hidden), _BLOCK)
    return residual_N3RR * _visibility(image_N3RR)


def _visibility(image_N3RR: Tensor) -> Tensor:
    """How much of a residual each place hides: local contrast over a floor for flat places, (N, 1, 32, 32)."""
    grey_N1RR = image_N3RR.mean(dim=1, keepdim=True)
    detail_N1RR = (grey_N1RR - _blur(grey_N1RR)).abs()
    return FLOOR + _blur(detail_N1RR)


def _blur(image_N1RR: Tensor) -> Tensor:
    return functional.avg_pool2d(image_N1RR, 3, stride=1, padding=1, count_include_pad=False)


def decode(weights: Weights, images_N3HW: Tensor) -> Tensor:
    """Logits of the bits in float images of any size: (N, bits); above 0 means a one."""
    blocks = functional.pixel_unshuffle(shrink(images_N3HW) - 0.5, _BLOCK)
    hidden = functional.relu(_convolve(weights, "decoder.first", blocks))
    hidden = functional.relu(_convolve(weights, "decoder.second", hidden))
    hidden = functional.relu(_convolve(weights, "decoder.third", hidden, stride=2))
    return functional.linear(hidden.flatten(1), weights["decoder.last.weight"], weights["decoder.last.bias"])


def draw_weights(*, bits: int, channels: int, seed: int) -> dict[str, Tensor]:
    """Random encoder and decoder weights, float32, with He's scale."""
    generator = torch.Generator().manual_seed(seed)
    blocks, side = 3 * _BLOCK**2, RESOLUTION // _BLOCK
    wide = 2 * channels
    shapes = {
        "encoder.first": (channels, blocks, 3, 3),
        "encoder.second": (channels, channels, 3, 3),
        "encoder.last": (blocks, channels, 3, 3),
        "decoder.first": (wide, blocks, 3, 3),
        "decoder.second": (wide, wide, 3, 3),
        "decoder.third": (wide, wide, 3, 3),
        "decoder.last": (bits, wide * (side // 2) ** 2),
    }
    weights = {"encoder.message": torch.randn(channels * (side // 2) ** 2, bits, generator=generator)}
    weights["encoder.message"] /= bits**0.5
    for name, shape in shapes.items():
        fan_in = int(torch.tensor(shape[1:]).prod())
        weights[f"{name}.weight"] = torch.randn(shape, generator=generator) * (2 / fan_in) ** 0.5
        weights[f"{name}.bias"] = torch.zeros(shape[0])
    return weights


def _weights_on(trigger: Trigger, device: torch.device) -> Weights:
    return {name: tensor.to(device=device, dtype=torch.float32) for name, tensor in trigger.tensors.items()}


def _convolve(weights: Weights, name: str, images: Tensor, *, stride: int = 1) -> Tensor:
    kernel, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    return functional.conv2d(images, kernel, bias, padding=1, stride=stride)


@lru_cache(maxsize=16)
def _enlarging(side: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The (side, 32) matrix that enlarges linearly, as torch's `interpolate` does, and its Gram matrix."""
    unit_RR = torch.eye(RESOLUTION)
    enlarging_SR = (
        functional.interpolate(unit_RR[None], size=side, mode="linear")[0].T.contiguous().to(device)
    )
    return enlarging_SR, enlarging_SR.T @ enlarging_SR
