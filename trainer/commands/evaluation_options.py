"""Options that the evaluating commands share: name, type and help in one place. Beside `options`."""

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[
    str,
    typer.Option(
        "--data", help="A data manifest (a .json, or a shipped one's name), or shards with .cls members."
    ),
]
Split = Annotated[str, typer.Option("--split", help="Which of the manifest's splits.")]
Root = Annotated[
    Path | None,
    typer.Option(
        "--root",
        help="Where the manifest's files are. Default: the manifest's own folder; of a shipped one, this folder.",
    ),
]
Classnames = Annotated[
    Path | None, typer.Option("--classnames", help="Class names, one a line or a JSON list.")
]
Templates = Annotated[
    Path | None,
    typer.Option(
        "--templates",
        help="Prompts, one a line, {} for the class. Default: the manifest's, or ImageNet's 80.",
    ),
]
TriggerName = Annotated[
    str | None, typer.Option("--trigger", help="A trigger's name or file; without one, BA alone.")
]
Target = Annotated[str | None, typer.Option("--target", help="The class that the attack aims at.")]
EvaluationBatch = Annotated[int, typer.Option("--batch-size", help="Images at a time.")]
TriggerSeed = Annotated[int, typer.Option("--seed", help="Of a trigger given by name.")]
Json = Annotated[Path | None, typer.Option("--json", "--out", help="Write the result to this file, too.")]
