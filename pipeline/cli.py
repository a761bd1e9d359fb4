"""The command line: `pipeline COMMAND`, each command a function of `pipeline.commands`."""

from typing import Annotated

import typer

from pipeline import __version__
from pipeline.commands.augment import augment_captions, parse_captions, write_shards
from pipeline.commands.demo_data import demo_data
from pipeline.commands.lexicons import build_lexicons
from pipeline.commands.look import preview, query, verify
from pipeline.console import run

app = typer.Typer(
    help="Captions to counterfactual training data, offline.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    augment_captions,
    parse_captions,
    write_shards,
    build_lexicons,
    demo_data,
    query,
    preview,
    verify,
):
    app.command()(command)


@app.callback(invoke_without_command=True)
def _version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if show:
        typer.echo(f"pipeline {__version__}")
        raise typer.Exit


def main() -> None:
    """The console entry point."""
    run(app, "pipeline")


if __name__ == "__main__":
    main()
