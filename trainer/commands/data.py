"""`trainer data list` and `trainer data check`: which data sets are known, and whether a local copy is whole."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.console import new_app

app = new_app(
    help="Known data sets, and whether a local copy is the one that its manifest describes.",
    no_args_is_help=True,
)


@app.command("list")
def list_data(
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
) -> None:
    """List the data manifests that come with the trainer."""
    from trainer.manifests import require_manifest, shipped_names

    told = {name: require_manifest(name).description for name in shipped_names()}
    if as_json:
        print(json.dumps(told, indent=2))
        return
    for name, description in told.items():
        print(f"{name:24} {description}")


@app.command("check")
def check(
    manifest: Annotated[str, typer.Argument(help="A data manifest (.json), or a shipped one's name.")],
    root: Annotated[
        Path | None,
        typer.Option(help="Where the manifest's files are. Default: its own folder; of a shipped one, this."),
    ] = None,
    split: Annotated[list[str] | None, typer.Option(help="Only this split; may be given again.")] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Decode every image, not the first 200 of each split.")
    ] = False,
) -> None:
    """Say what is missing from a local copy of a data set, or other than described; exit code 1 where anything is."""
    from trainer.evals.data_check import check_data
    from trainer.manifests import require_manifest

    checks = check_data(require_manifest(manifest, root=root), splits=split or (), full=full)
    for found in checks:
        for problem in found.problems:
            print(problem)
    for found in checks:
        print(found.summary(), file=sys.stderr)
    if any(found.problems for found in checks):
        raise typer.Exit(1)
