"""The command line: `pipeline COMMAND`, each command a function of `pipeline.commands`."""

from typing import Annotated

import typer

from pipeline import __version__
from pipeline.console import Command, lazy_app, limit_threads, run

COMMANDS = {
    "augment-captions": Command(
        "pipeline.commands.augment:augment_captions",
        "Captions in, scene graphs, sub-captions and training shards out.",
    ),
    "parse-captions": Command(
        "pipeline.commands.augment:parse_captions", "Captions in, scene graphs out; or one caption explained."
    ),
    "write-shards": Command(
        "pipeline.commands.augment:write_shards", "Training shards from sub-captions made before."
    ),
    "build-lexicons": Command(
        "pipeline.commands.lexicons:build_lexicons", "The three lexicons of replacement terms."
    ),
    "count-pairs": Command(
        "pipeline.commands.pairs:count_pairs", "How often captions put words together, for plausible draws."
    ),
    "query": Command("pipeline.commands.look:query", "DuckDB over what was made; saved queries."),
    "preview": Command(
        "pipeline.commands.look:preview", "A page of captions with their graphs and negatives."
    ),
    "audit-negatives": Command(
        "pipeline.commands.audit:audit_negatives", "How far language alone gives negatives away."
    ),
    "verify": Command("pipeline.commands.look:verify", "Check every file of a folder against its manifest."),
    "repair": Command(
        "pipeline.commands.look:repair",
        "Make again what is damaged in a folder, without the original command.",
    ),
    "demo-data": Command(
        "pipeline.commands.demo_data:demo_data", "Drawn scenes with captions: a small world to try."
    ),
}
EXTRAS = {name: "lexicons" for name in ("nltk", "wordfreq", "lemminflect", "openai")} | {
    "sklearn": "audit",
    "ray": "ray",
}
"""Which extra installs a package that some commands need."""
app = lazy_app("Captions to counterfactual training data, offline.", COMMANDS)


@app.callback(invoke_without_command=True)
def _version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if show:
        typer.echo(f"pipeline {__version__}")
        raise typer.Exit


def main() -> None:
    """The console entry point."""
    limit_threads()  # before a command imports numpy
    run(app, "pipeline", extras=EXTRAS)


if __name__ == "__main__":
    main()
