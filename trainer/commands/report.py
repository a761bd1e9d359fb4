"""`trainer report`: two evaluations side by side."""

import sys
from pathlib import Path
from typing import Annotated

import typer


def report(
    before: Annotated[Path, typer.Argument(help="What `trainer evaluate --json` wrote of the victim.")],
    after: Annotated[Path, typer.Argument(help="What it wrote of the defended model.")],
    out: Annotated[Path, typer.Option(help="Where result.json goes.")],
    run: Annotated[Path | None, typer.Option(help="The defence's folder, for seconds per step.")] = None,
) -> None:
    """Set two evaluations side by side: a table here, and the same in OUT for programs."""
    from rich.console import Console

    from trainer.report import report as write_report

    table = write_report(before, after, out=out, run=run)
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    print(f"written to {out}")
