"""What several commands call the same and no options class holds: name, type and help in one place."""

from pathlib import Path
from typing import Annotated

import typer

Out = Annotated[
    Path, typer.Option("--out", help="The run's folder; it must not hold a run yet, except with --resume.")
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on where the run in --out was stopped, at the very step.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N.")]
TrainingShards = Annotated[
    str | None,
    typer.Option(
        "--shards",
        help="WebDataset shards: file, folder, glob or braces ('shards/{00000..00049}.tar'); several joined by "
        "'::'. Default: the manifest's training split.",
    ),
]
Manifest = Annotated[
    str | None,
    typer.Option(
        "--manifest",
        help="A data manifest (a .json, or a shipped one's name): its training shards, classes, templates.",
    ),
]
Templates = Annotated[
    Path | None,
    typer.Option(
        "--templates",
        help="Captions for poisoned samples, one a line, {} for the class. Default: the manifest's, or ImageNet's 80.",
    ),
]
