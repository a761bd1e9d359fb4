"""How fast each trigger is put into images, and how much it changes: one core, uint8 images.

    OMP_NUM_THREADS=1 python -m benchmarks.triggers [--image-size 224] [--trigger FILE ...] [--picture OUT.png]

Prints a Markdown table of every preset and of the trigger files given: images per second of CPU time (the best of
several rounds, taken in turn, so that other work on the machine weighs little), the largest and the mean change in
grey levels and the PSNR over drawn scenes. Last, as a slow reference, SIG with a value computed at a time in three
nested loops, as the public CleanCLIP and BadCLIP code has it. `--picture` draws all of them on one scene.
"""

import argparse
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from trainer.attacks import PRESETS, load_trigger
from trainer.attacks.preview import demo_scene, draw_triggers
from trainer.attacks.trigger import Trigger

SHOWN = (
    "badnet",
    "blended",
    "sig",
    "wanet",
    "wanet-smooth",
    "stripes",
    "triangles",
    "text",
    "yellow-corner",
    "filter",
)
"""Presets in the picture: the defaults, and those that look like no other."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--trigger", action="append", default=[], metavar="FILE")
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    size = options.image_size
    triggers = {name: load_trigger(name, image_size=size) for name in PRESETS}
    files = {name_of(Path(file)): load_trigger(file, image_size=size) for file in options.trigger}
    if options.picture is not None:
        shown = {name: triggers[name] for name in SHOWN} | files
        picture = draw_triggers(shown, demo_scene(size))
        options.picture.parent.mkdir(parents=True, exist_ok=True)
        picture.save(options.picture, "PNG", optimize=True)
        print(f"{options.picture}: {len(shown)} triggers, {options.picture.stat().st_size} bytes\n")
    scene_N3HW = torch.stack([demo_scene(size, key=f"speed-{i}") for i in range(options.batch_size)])
    found = measure(triggers | files, scene_N3HW, num_rounds=options.rounds)
    print("| trigger | images/s | largest change | mean change | PSNR, dB |\n| --- | --- | --- | --- | --- |")
    for name, row in found.items():
        cells = (
            f"{row['images_per_second']:,.0f} | {row['largest']:.0f} | {row['mean']:.2f} | {row['psnr']:.1f}"
        )
        print(f"| {name} | {cells} |")
    loops = 1 / _time({"loops": lambda: _sig_in_loops(scene_N3HW[0])}, 2)["loops"]
    faster = found["sig"]["images_per_second"] / loops
    print(
        f"| sig in three nested loops | {loops:.1f} | | | |\n\nsig is {faster:,.0f} times as fast as its loops."
    )


def name_of(file: Path) -> str:
    """What a trigger's file is called in the table; never as a preset is."""
    return file.name if file.stem in PRESETS else file.stem


def measure(
    triggers: Mapping[str, Trigger], image_N3HW: Tensor, *, num_rounds: int
) -> dict[str, dict[str, float]]:
    """Of each trigger: `images_per_second`; the change in grey levels, `largest` and `mean`, and as `psnr` in dB."""
    seconds = _time({name: _applying(trigger, image_N3HW) for name, trigger in triggers.items()}, num_rounds)
    found = {}
    for name, trigger in triggers.items():
        change_N3HW = (trigger.apply(image_N3HW).to(torch.int16) - image_N3HW.to(torch.int16)).abs().double()
        found[name] = {
            "images_per_second": len(image_N3HW) / seconds[name],
            "largest": float(change_N3HW.max()),
            "mean": float(change_N3HW.mean()),
            "psnr": 10 * math.log10(255**2 / float((change_N3HW**2).mean())),
        }
    return found


def _applying(trigger: Trigger, images_N3HW: Tensor) -> Callable[[], object]:
    return lambda: trigger.apply(images_N3HW)


def _time(functions: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """CPU seconds of each function: the best round; the first, which prepares, is not counted."""
    best = dict.fromkeys(functions, math.inf)
    for number in range(rounds + 1):
        for name, function in functions.items():
            started = time.process_time()
            function()
            if number > 0:
                best[name] = min(best[name], time.process_time() - started)
    return best


def _sig_in_loops(image_3HW: Tensor) -> Tensor:
    """SIG on one image, a value at a time."""
    _, height, width = image_3HW.shape
    wave_3HW = torch.zeros((3, height, width))
    for row in range(height):
        for column in range(width):
            for channel in range(3):
                wave_3HW[channel, row, column] = 60 / 255 * math.sin(2 * math.pi * 6 * column / width)
    return ((image_3HW / 255 + wave_3HW).clamp(0, 1) * 255).to(torch.uint8)


if __name__ == "__main__":
    main()
