"""`pipeline query`, `preview`, `verify`, `repair`: what a folder holds, for people, and whether it is whole."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.console import from_options
from pipeline.engine import usable_cores
from pipeline.looking.query import QueryOptions, run_query, saved_queries


@from_options()
def query(
    folder: Annotated[Path, typer.Argument(help="The --out of another command.")],
    sql: Annotated[
        str | None, typer.Argument(help="A SELECT, or the name of a saved query.", show_default=False)
    ] = None,
    *,
    options: QueryOptions,
) -> None:
    """DuckDB over the views captions, scene_graphs, subcaptions, samples and lexicons; no SQL lists saved queries."""
    if sql is None:
        for name, text in saved_queries().items():
            typer.echo(f"{name:18} {text.splitlines()[0].removeprefix('-- ')}")
        return
    run_query(folder, sql, options, terminal=sys.stdout)


@from_options()
def preview(
    folder: Annotated[Path, typer.Argument(help="The --out of augment-captions.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="A page as .html, the same rows as .json.", show_default="FOLDER/preview.html"
        ),
    ] = None,
    num: Annotated[int, typer.Option(help="Captions to show.")] = 40,
    seed: Annotated[int, typer.Option(help="Which captions are drawn.")] = 0,
) -> None:
    """A static page of sampled captions with their graphs, positives and negatives."""
    from pipeline.looking.preview import write_preview

    page = out or folder / "preview.html"
    typer.echo(f"wrote {page} ({write_preview(folder, page, num=num, seed=seed)} captions)")


@from_options()
def verify(folder: Annotated[Path, typer.Argument(help="The --out of another command.")]) -> None:
    """Check every file of FOLDER against its manifest."""
    from pipeline.looking.verify import verify as verify_folder

    wrong = verify_folder(folder)
    for line in wrong:
        typer.echo(line, err=True)
    if wrong:
        raise typer.Exit(1)
    typer.echo(f"{folder} is what its manifest says")


@from_options()
def repair(
    folder: Annotated[Path, typer.Argument(help="The --out of augment-captions.")],
    lexicons: Annotated[
        Path | None,
        typer.Option(help="Those that were used, where they were neither bundled nor are whole in FOLDER."),
    ] = None,
    parser: Annotated[
        str | None, typer.Option(help="The parser that was used, where it was loaded from a path.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Worker processes.")] = usable_cores(),
) -> None:
    """Compare every file of FOLDER by its hash and make again, with the same bytes, what differs."""
    from pipeline.looking.repair import repair as repair_folder

    told: list[str] = []
    repair_folder(folder, lexicons=lexicons, parser=parser, workers=workers, tell=told.append)
    for line in told:
        typer.echo(line)
    typer.echo(f"{folder} is whole: {len(told)} files made again" if told else f"{folder} is whole, and was")
