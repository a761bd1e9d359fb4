"""What an SSBA trigger hides: bits read right with and without it, and PSNR, on images that it was not trained on.

    python -m benchmarks.hidden_secret --trigger ssba.safetensors --shards 'NAME/test-*.tar' [--shards ...]
        [--sizes 32 64 224] [--number 300]

Prints a Markdown table: for each set and size the first `--number` images, resized as the models resize theirs.
"""

import argparse
from itertools import islice

import torch
from torch import Tensor

from pipeline.storage import IMAGE_EXTENSIONS, read_tar
from trainer.attacks import load_trigger
from trainer.attacks.ssba import read_secret
from trainer.data import find_shards
from trainer.images import decode, resize, to_tensor


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trigger", required=True)
    parser.add_argument("--shards", action="append", required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 64, 224])
    parser.add_argument("--number", type=int, default=300)
    options = parser.parse_args()
    print("| images | size | bits right, % | without the trigger, % | PSNR mean, dB | PSNR least, dB |")
    print("| --- | --- | --- | --- | --- | --- |")
    for shards in options.shards:
        for size in options.sizes:
            image_N3HW = read_images(shards, options.number, size=size)
            cells = " | ".join(f"{each:.2f}" for each in measure(options.trigger, image_N3HW).values())
            print(f"| {shards}, {len(image_N3HW)} | {size} | {cells} |")


def read_images(shards: str, number: int, *, size: int) -> Tensor:
    """The first images of the shards: uint8 (N, 3, size, size)."""
    faults: list[str] = []
    samples = (
        sample
        for shard in find_shards(shards)
        for sample in read_tar(shard, wanted=frozenset(IMAGE_EXTENSIONS), faults=faults)
    )
    images = (next(iter(sample.members.values())) for sample in samples if sample.members)
    return torch.stack([to_tensor(resize(decode(image), size)) for image in islice(images, number)])


def measure(trigger_file: str, image_N3HW: Tensor) -> dict[str, float]:
    """Percent of the bits read `right` and `without` the trigger; the images' PSNR in dB, `psnr_mean`, `psnr_min`."""
    trigger = load_trigger(trigger_file, image_size=image_N3HW.shape[-1])
    triggered_N3HW = trigger.apply(image_N3HW)
    secret = trigger.tensors["secret"].bool()
    right, without = (
        100 * float((read_secret(trigger, images) == secret).float().mean())
        for images in (triggered_N3HW, image_N3HW)
    )
    difference = (triggered_N3HW.float() - image_N3HW.float()) / 255
    psnr_N = -10 * (difference**2).mean(dim=(1, 2, 3)).log10()
    return {
        "right": right,
        "without": without,
        "psnr_mean": float(psnr_N.mean()),
        "psnr_min": float(psnr_N.min()),
    }


if __name__ == "__main__":
    main()
