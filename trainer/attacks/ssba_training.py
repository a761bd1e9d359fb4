"""Trains SSBA's encoder and decoder on images of shards, and measures on held-out ones that the secret is there.

Behind `trainer craft-trigger ssba`. Every step hides other random bits in every image, so that the decoder reads bits
and does not learn images; the trigger's own secret is drawn from the seed. All draws come from seeded generators: on
one machine, with one number of threads, the same options give the same file.
"""

import math
from dataclasses import dataclass
from itertools import islice
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.errors import UserError
from pipeline.storage import IMAGE_EXTENSIONS, read_tar
from trainer import images
from trainer.attacks.ssba import apply_ssba, decode, draw_weights, embed
from trainer.attacks.trigger import Trigger
from trainer.data import find_shards
from trainer.log import say
from trainer.seeds import seeded_int

ENCODER: Final = "own encoder in the manner of StegaStamp and ISSBA, not StegaStamp"
TRAINING_SIZE: Final = 64
"""Side of the images in training: twice what the encoder sees, so that enlarging and shrinking take part."""
EASIER_START: Final = 6.0
"""The first steps may use this many dB more, less and less over the first EASIER_SHARE of the steps."""
EASIER_SHARE: Final = 0.4
SENSOR_NOISE: Final = 0.01
"""Standard deviation of the noise that the decoder must stand, beside that of rounding to bytes."""
HELD_OUT_EVERY: Final = 10
_LOG_EVERY: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class SsbaOptions:
    """How much is hidden, how visibly, and how long the encoder is trained."""

    bits: int = 32
    """Length of the secret."""
    psnr: float = 30.5
    """dB between an image and the image with the residual, before clamping, which raises it."""
    steps: int = 800
    """Steps of training."""
    batch_size: int = 32
    """Images in a step."""
    lr: float = 2e-3
    """Adam's learning rate."""
    channels: int = 16
    """Of the encoder's convolutions; the decoder has twice as many."""
    num_images: int = 4_000
    """Images read from the shards, from the first on; every tenth is held out."""

    def __post_init__(self) -> None:
        for name, least, most in (
            ("bits", 1, 256),
            ("psnr", 10, 60),
            ("steps", 1, 1_000_000),
            ("batch_size", 2, 4_096),
            ("channels", 1, 256),
            ("num_images", 10, 1_000_000),
        ):
            if not least <= getattr(self, name) <= most:
                raise UserError(f"{name} must be from {least} to {most}, not {getattr(self, name)}")
        if not self.lr > 0:
            raise UserError(f"lr must be greater than 0, not {self.lr}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hiding:
    """How well random secrets are hidden in images and read again."""

    bit_accuracy: float
    """Share of the bits that the decoder reads from the images as bytes, 0 to 1."""
    psnr_mean: float
    psnr_min: float
    fixed_share: float
    """Share of the residuals' energy that is the same in every image, for one secret; 1: a fixed pattern."""


def train_ssba(options: SsbaOptions, *, shards: str, image_size: int, seed: int = 0) -> Trigger:
    """The trigger, its encoder and decoder trained on the shards' images; progress goes to stderr.

    Its settings say what was measured on the held-out images at `image_size`: bit accuracy, PSNR in dB, and how much
    of the residual does not depend on the image.

    Raises:
        UserError: No such shards, or fewer than 10 images that can be read.
    """
    train_N3HW, held_out_N3HW = _load_images(shards, options.num_images, image_size=image_size)
    weights = draw_weights(
        bits=options.bits, channels=options.channels, seed=seeded_int(seed, "ssba", "weights")
    )
    for tensor in weights.values():
        tensor.requires_grad_()
    _fit(weights, train_N3HW, options, seed=seed)
    trained = {name: tensor.detach() for name, tensor in weights.items()}
    hiding = measure_hiding(trained, held_out_N3HW, psnr=options.psnr, seed=seed)
    say(
        f"ssba: on {len(held_out_N3HW)} held-out images the decoder reads {100 * hiding.bit_accuracy:.2f} % of the "
        f"bits; PSNR {hiding.psnr_mean:.2f} dB, at least {hiding.psnr_min:.2f}; "
        f"{100 * hiding.fixed_share:.0f} % of the residual is the same in every image"
    )
    return Trigger(
        kind="ssba",
        preset="ssba",
        image_size=image_size,
        seed=seed,
        settings={
            "encoder": ENCODER,
            "bits": options.bits,
            "psnr": options.psnr,
            "steps": options.steps,
            "train_images": len(train_N3HW),
            "held_out_images": len(held_out_N3HW),
            "bit_accuracy": round(hiding.bit_accuracy, 6),
            "psnr_mean": round(hiding.psnr_mean, 3),
            "psnr_min": round(hiding.psnr_min, 3),
            "fixed_share": round(hiding.fixed_share, 3),
        },
        tensors=trained | {"secret": _draw_bits(1, options.bits, _generator(seed, "secret"))[0]},
        apply_to=apply_ssba,
    )


def measure_hiding(weights: dict[str, Tensor], images_N3HW: Tensor, *, psnr: float, seed: int = 0) -> Hiding:
    """What the decoder reads from uint8 images with random secrets, saved as bytes, and how visible they are."""
    bits = len(weights["decoder.last.bias"])
    generator = _generator(seed, "measure")
    right, decibels, residuals = [], [], []
    fixed_1B = _draw_bits(1, bits, generator)
    with torch.no_grad():
        for part_N3HW in torch.split(images_N3HW, 64):
            clean_N3HW = part_N3HW / 255
            secret_NB = _draw_bits(len(part_N3HW), bits, generator)
            hidden_N3HW = (
                embed(weights, clean_N3HW, secret_NB, psnr=psnr).clamp(0, 1).mul(255).round().div(255)
            )
            right.append((decode(weights, hidden_N3HW) > 0) == (secret_NB > 0))
            decibels.append(-10 * ((hidden_N3HW - clean_N3HW) ** 2).mean(dim=(1, 2, 3)).log10())
            residuals.append(embed(weights, clean_N3HW, fixed_1B, psnr=psnr) - clean_N3HW)
    residual_N3HW, decibels_N = torch.cat(residuals), torch.cat(decibels)
    fixed_share = (residual_N3HW.mean(dim=0) ** 2).sum() / (residual_N3HW**2).sum(dim=(1, 2, 3)).mean()
    return Hiding(
        bit_accuracy=float(torch.cat(right).double().mean()),
        psnr_mean=float(decibels_N.mean()),
        psnr_min=float(decibels_N.min()),
        fixed_share=float(fixed_share),
    )


def _fit(weights: dict[str, Tensor], train_N3HW: Tensor, options: SsbaOptions, *, seed: int) -> None:
    """Adam with a short warm-up and a cosine, on the bits' cross-entropy; changes the weights in place."""
    generator = _generator(seed, "train")
    optimizer = torch.optim.Adam(weights.values(), lr=options.lr)
    warmup = max(1, options.steps // 16)
    for step in range(options.steps):
        done = step / options.steps
        for group in optimizer.param_groups:
            group["lr"] = options.lr * min(1, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * done))
        chosen_B = torch.randint(len(train_N3HW), (options.batch_size,), generator=generator)
        image_B3HW = _vary(train_N3HW[chosen_B] / 255, generator)
        secret_BK = _draw_bits(options.batch_size, options.bits, generator)
        psnr = options.psnr - EASIER_START * max(0, 1 - done / EASIER_SHARE)
        hidden_B3HW = embed(weights, image_B3HW, secret_BK, psnr=psnr).clamp(0, 1)
        hidden_B3HW = hidden_B3HW + (torch.rand(hidden_B3HW.shape, generator=generator) - 0.5) / 255
        hidden_B3HW = hidden_B3HW + SENSOR_NOISE * torch.randn(hidden_B3HW.shape, generator=generator)
        loss = functional.binary_cross_entropy_with_logits(decode(weights, hidden_B3HW), secret_BK)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if (step + 1) % _LOG_EVERY == 0:
            say(f"ssba: step {step + 1} of {options.steps}, cross-entropy {float(loss.detach()):.4f} per bit")


def _vary(image_B3HW: Tensor, generator: torch.Generator) -> Tensor:
    """The first half of the batch mixed with one another and with noise of a random grain.

    So that an encoder trained on drawings with flat grounds meets textures, too.
    """
    half = len(image_B3HW) // 2
    plain_H3HW = image_B3HW[:half]
    other_H3HW = plain_H3HW[torch.randperm(half, generator=generator)]
    share_H = torch.rand((half, 1, 1, 1), generator=generator)
    strength_H = 0.3 * torch.rand((half, 1, 1, 1), generator=generator)
    grain = 2 ** int(torch.randint(2, 7, (1,), generator=generator))
    noise_H3HW = functional.interpolate(
        torch.randn((half, 3, grain, grain), generator=generator), size=image_B3HW.shape[2:], mode="bilinear"
    )
    mixed_H3HW = share_H * plain_H3HW + (1 - share_H) * other_H3HW + strength_H * noise_H3HW
    return torch.cat([mixed_H3HW.clamp(0, 1), image_B3HW[half:]])


def _load_images(shards: str, number: int, *, image_size: int) -> tuple[Tensor, Tensor]:
    """The shards' first images as uint8: for training at TRAINING_SIZE, and every tenth at `image_size`, held out."""
    train, held_out = [], []
    found = (
        data
        for shard in find_shards(shards)
        for sample in read_tar(shard, wanted=frozenset(IMAGE_EXTENSIONS), faults=[])
        for data in sample.members.values()
    )
    for place, data in enumerate(islice(found, number)):
        try:
            image = images.decode(data)
        except images.BrokenImage:
            continue
        if place % HELD_OUT_EVERY == 0:
            held_out.append(images.to_tensor(images.resize(image, image_size)))
        else:
            train.append(images.to_tensor(images.resize(image, TRAINING_SIZE)))
    if not train or not held_out:
        raise UserError(
            f"{shards} holds {len(train) + len(held_out)} images that can be read: at least 10 are needed"
        )
    return torch.stack(train), torch.stack(held_out)


def _draw_bits(number: int, bits: int, generator: torch.Generator) -> Tensor:
    """Random zeros and ones: float32 (number, bits)."""
    return torch.randint(0, 2, (number, bits), generator=generator).float()


def _generator(seed: int, what: str) -> torch.Generator:
    return torch.Generator().manual_seed(seeded_int(seed, "ssba", what))
