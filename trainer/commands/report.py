"""`trainer report`: two evaluations side by side, or what `trainer bench` found, as a table or a page."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipeline.errors import UserError
from pipeline.storage import write_json, write_text
from trainer.bench.results import read_pictures, read_results, results_table, table_of
from trainer.report import report as write_report


def report(
    before: Annotated[
        Path,
        typer.Argument(help="What `trainer evaluate --json` wrote of the victim; or the folder of a bench."),
    ],
    after: Annotated[
        Path | None, typer.Argument(help="What it wrote of the defended model.", show_default=False)
    ] = None,
    *,
    out: Annotated[
        Path,
        typer.Option(help="Where the result goes: a page as .html, .json; of a bench .md, too."),
    ],
    run: Annotated[
        Path | None, typer.Option(help="The defence's folder, for seconds per step, loss and options.")
    ] = None,
    pictures: Annotated[
        list[Path] | None,
        typer.Option(
            help="What `trainer evaluate --pictures` drew, to be shown on the page: before, and again, after.",
            show_default=False,
        ),
    ] = None,
    shards: Annotated[
        str | None,
        typer.Option(
            help="Shards that the defence learned from: some of their counterfactual captions are shown on the page.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Set two evaluations side by side, or the methods of a bench: a table here, and the same in OUT.

    One evaluation alone makes a page, too.
    """
    if before.is_dir():
        _report_bench(before, out)
    elif out.suffix == ".html":
        from trainer.report_page import write_report_page  # here: it needs matplotlib, which a table does not

        write_report_page(before, after, out=out, run=run, pictures=pictures or (), shards=shards)
    elif out.suffix != ".json":
        raise UserError(f"evaluations are written as .html or .json, not {out.name!r}")
    elif after is None:
        raise UserError(
            f"{before} is one evaluation: give the one after the defence, too, or a bench's folder; --out x.html makes "
            "a page of one"
        )
    else:
        table = write_report(before, after, out=out, run=run)
        Console(width=None if sys.stdout.isatty() else 120).print(table)
    print(f"written to {out}")


def _report_bench(folder: Path, out: Path) -> None:
    file = folder / "results.parquet"
    if not file.is_file():
        raise UserError(
            f"{folder} holds no results.parquet: make it with `trainer bench SUITE --out {folder}`"
        )
    rows = read_results(file)
    table = results_table(table_of(rows))
    if out.suffix == ".html":
        from trainer.bench.page import write_page  # here: it needs matplotlib, which a table does not

        write_page(out, rows, pictures=read_pictures(folder))
    elif out.suffix == ".md":
        write_text(out, table + "\n")
    elif out.suffix == ".json":
        write_json(out, rows)
    else:
        raise UserError(f"a bench is written as .html, .md or .json, not {out.name!r}")
    print(table)
