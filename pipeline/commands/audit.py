"""`pipeline audit-negatives`: how far language alone gives negatives away."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from pipeline.console import from_options
from pipeline.looking.audit import AuditOptions, audit


@from_options()
def audit_negatives(
    folder: Annotated[Path, typer.Argument(help="The --out of augment-captions.")],
    options: AuditOptions,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
) -> None:
    """How well words, or form alone, tell negatives from positives that were not learnt from: 0.5 is chance."""
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in audit(folder, options)], indent=2))
        return
    typer.echo("| kind | learnt | tried | words and pairs | of one kind | form alone |")
    typer.echo("| --- | --- | --- | --- | --- | --- |")
    for row in audit(folder, options):
        found = (row.words, row.kind_alone, row.form)
        areas = " | ".join("too few" if area is None else f"{area:.3f}" for area in found)
        typer.echo(f"| {row.kind} | {row.learnt:,} | {row.tried:,} | {areas} |")
