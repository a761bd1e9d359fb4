"""Options of `trainer craft-trigger` for the kinds that learn from data: ssba, badclip, imported."""

from pathlib import Path
from typing import Annotated

import typer

from trainer.commands.options import SHARDS

LearnedShards = Annotated[
    str | None,
    typer.Option(
        "--shards", help=f"ssba, badclip: images (and captions) to learn from, or --manifest. {SHARDS}"
    ),
]
LearnedManifest = Annotated[
    str | None,
    typer.Option(
        "--manifest", help="ssba, badclip: a data manifest: its training shards; badclip: its classes."
    ),
]
CleanCheckpoint = Annotated[
    Path | None, typer.Option("--checkpoint", help="badclip: the clean model's weights.")
]
CleanModel = Annotated[
    str | None,
    typer.Option("--model", help="badclip: the clean model's name, where the weights do not say it."),
]
LearnedTarget = Annotated[str | None, typer.Option("--target", help="badclip: the class to aim at.")]
ImportedImages = Annotated[
    Path | None,
    typer.Option("--images", help="imported: a folder or tar of poisoned images, named by their keys."),
]
LearnedDevice = Annotated[str | None, typer.Option("--device", help="badclip: auto, cpu, cuda, cuda:N.")]
Bits = Annotated[int | None, typer.Option(help="ssba: length of the secret. Default: 32.")]
Psnr = Annotated[
    float | None, typer.Option(help="ssba: dB between an image with and without it. Default: 30.5.")
]
Steps = Annotated[
    int | None, typer.Option(help="ssba, badclip: steps of training. Default: ssba 800, badclip 400.")
]
Side = Annotated[int | None, typer.Option(help="badclip: of the patch, in pixels. Default: 16 of 224.")]
MaxCleanAsr = Annotated[
    float | None,
    typer.Option(
        help="badclip: stop before the clean model's ASR on held-out images passes this percentage. Default: 10."
    ),
]
LearningRate = Annotated[
    float | None, typer.Option("--lr", help="ssba, badclip: Adam's. Default: ssba 2e-3, badclip 1e-3.")
]
LearnedBatch = Annotated[
    int | None, typer.Option("--batch-size", help="ssba, badclip: images in a step. Default: 32, 64.")
]
NumImages = Annotated[
    int | None, typer.Option(help="ssba, badclip: images to read, the shards' first. Default: 4,000, 2,000.")
]
