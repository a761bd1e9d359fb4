"""DuckDB over what the pipeline wrote: views captions, scene_graphs, subcaptions, samples and lexicons.

DuckDB opens no file, neither to read nor to write: the views hand it rows that Arrow reads from the folder. One SELECT,
within limits of memory and time.
"""

import csv
import io
import json
import math
import re
import shutil
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import IO, Any, Final

import duckdb  # noqa: TID251
import pyarrow as pa
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from pipeline.errors import UserError
from pipeline.storage import NarrowScan, read_lexicon_tables, scan_tables, write_table, write_text

VIEWS: Final = {
    "captions": "captions",
    "scene_graphs": "scene_graphs",
    "subcaptions": "subcaptions",
    "samples": "shards",
}
"""Name of the view: folder of its Parquet files."""
FORMATS: Final = ("table", "csv", "json", "parquet")
_TIMES: Final = ("DATE", "TIME", "INTERVAL")
"""What a type's name holds whose values Python cannot always hold (4713 BC, infinity): shown as DuckDB writes them."""


@dataclass(frozen=True, kw_only=True)
class QueryOptions:
    """How a result is shown, and what a query may take."""

    format: str = "table"
    """table, csv, json or parquet."""
    out: Path | None = None
    """File to write to. Default: the terminal."""
    memory_limit: str = "4GB"
    """Of what DuckDB holds in memory ('500MB'); a query that needs more is given up. Nothing is written to disk."""
    time_limit: float = 600.0
    """Seconds; a query that takes longer is given up."""

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise UserError(f"unknown format {self.format!r}; one of: {', '.join(FORMATS)}")
        if self.format == "parquet" and self.out is None:
            raise UserError("--format parquet wants a file: add --out FILE")
        if not 0 < self.time_limit < threading.TIMEOUT_MAX:
            raise UserError(f"--time-limit {self.time_limit}: give seconds, more than 0")


def saved_queries() -> dict[str, str]:
    """Name to SQL of the queries that come with the package; the first comment line says what each one gives."""
    folder = files("pipeline.looking") / "queries"
    found = [file for file in folder.iterdir() if file.name.endswith(".sql")]
    return {
        file.name.removesuffix(".sql"): file.read_text("utf-8")
        for file in sorted(found, key=lambda f: f.name)
    }


def fields_read(sql: str) -> dict[str, list[str]]:
    """View to the only fields of it that a saved query reads, as its lines `-- reads VIEW: FIELD, FIELD` say."""
    lines = re.findall(r"^-- reads (\w+): (.+)$", sql, flags=re.MULTILINE)
    return {view: [field.strip() for field in fields.split(",")] for view, fields in lines}


def connect(
    folder: Path, *, memory_limit: str = "4GB", reads: Mapping[str, Sequence[str]] | None = None
) -> duckdb.DuckDBPyConnection:
    """An in-memory connection with a view per stage that `folder` holds; it can reach no file at all.

    A view of which `reads` names fields has no others.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; it should be the --out of `pipeline augment-captions`")
    connection = duckdb.connect()
    views = 0
    for view, name in VIEWS.items():
        parts = sorted((folder / name).glob("*.parquet"))
        if parts:
            fields = (reads or {}).get(view)
            connection.register(view, NarrowScan(parts, fields) if fields else scan_tables(parts))
            views += 1
    if not views:
        raise UserError(
            f"{folder} holds no captions/, scene_graphs/ or subcaptions/: is it an output folder?"
        )
    lexicons = read_lexicon_tables(sorted((folder / "lexicons").glob("*s.csv")))
    if lexicons is not None:
        connection.register("lexicons", lexicons)
    try:
        connection.execute("SET memory_limit = ?", [memory_limit])
    except duckdb.Error as error:
        raise UserError(f"--memory-limit {memory_limit!r}: {_one_line(error)}") from error
    for setting in (
        "temp_directory = ''",
        "python_enable_replacements = false",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        connection.execute(f"SET {setting}")
    return connection


def run_query(folder: Path, sql: str, options: QueryOptions, *, terminal: IO[str]) -> None:
    """Run one SELECT, or a saved query, and write its result to `options.out`, or to `terminal`."""
    saved = saved_queries()
    if sql not in saved and " " not in sql.strip():
        raise UserError(f"no saved query {sql!r}; there are: {', '.join(saved)}")
    reads = fields_read(saved.get(sql, ""))
    with (  # closed when done: its threads still read, and must not outlive the interpreter
        closing(connect(folder, memory_limit=options.memory_limit, reads=reads)) as connection,
        _limited(connection, options.time_limit),
        _watched(folder, options.time_limit),
    ):
        relation = _select(connection, saved.get(sql, sql))
        if options.format == "table" and options.out is None:
            relation.show(max_width=_width(terminal), max_rows=200)
            return
        table = _named(relation, as_text=options.format != "parquet").to_arrow_table()
    if options.out is None:
        _print(table, options.format, terminal)
    elif options.format == "parquet":
        write_table(options.out, table)
    else:
        text = io.StringIO()
        _print(table, options.format, text)
        write_text(options.out, text.getvalue())


@contextmanager
def _watched(folder: Path, seconds: float) -> Iterator[None]:
    """Says on a terminal for how long a query has run, and how long it may: DuckDB cannot know how much is left."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    shown = Console(stderr=True)
    with Progress(*columns, console=shown, transient=True, disable=not sys.stderr.isatty()) as progress:
        progress.add_task(f"asking, at most {seconds:g} s: {folder}")
        yield


@contextmanager
def _limited(connection: duckdb.DuckDBPyConnection, seconds: float) -> Iterator[None]:
    """Interrupts what the connection does after so many seconds; DuckDB's errors become ours."""
    timer = threading.Timer(seconds, connection.interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    except duckdb.InterruptException as error:
        raise UserError(
            f"the query took longer than {seconds:g} seconds; ask for less, or give --time-limit"
        ) from error
    except duckdb.OutOfMemoryException as error:
        raise UserError(
            f"the query needs more memory than --memory-limit allows: {_one_line(error)}"
        ) from error
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        raise UserError(_one_line(error)) from error
    finally:
        timer.cancel()
        timer.join()


def _select(connection: duckdb.DuckDBPyConnection, sql: str) -> duckdb.DuckDBPyRelation:
    statements = connection.extract_statements(sql)
    if len(statements) != 1 or statements[0].type.name != "SELECT":
        raise UserError("one SELECT, please: this command reads and never writes")
    relation = connection.sql(statements[0].query)
    if relation is None:
        raise UserError("the query gives no rows to show")
    return relation


def _named(relation: duckdb.DuckDBPyRelation, *, as_text: bool) -> duckdb.DuckDBPyRelation:
    """The relation with a name of its own for each column (a, a_2); dates and times `as_text` where asked."""
    taken: set[str] = set()
    chosen = []
    for number, (name, kind) in enumerate(zip(relation.columns, relation.types, strict=True), start=1):
        unique, again = name, 1
        while unique.lower() in taken:
            again += 1
            unique = f"{name}_{again}"
        taken.add(unique.lower())
        cast = as_text and any(word in str(kind) for word in _TIMES)
        quoted = unique.replace('"', '""')
        chosen.append(f'{f"CAST(#{number} AS VARCHAR)" if cast else f"#{number}"} AS "{quoted}"')
    return relation.project(", ".join(chosen))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _width(terminal: IO[str]) -> int:
    return shutil.get_terminal_size((160, 24)).columns if terminal.isatty() else 160


def _print(table: pa.Table, format: str, file: IO[str]) -> None:
    rows = table.to_pylist()
    if format == "json":
        file.write(json.dumps(_finite(rows), ensure_ascii=False, indent=2, default=str) + "\n")
        return
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(table.column_names)
    for row in rows:
        writer.writerow([_cell(value) for value in row.values()])


def _finite(value: Any) -> Any:
    """The value with null for what JSON has no number for."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cell(value: object) -> object:
    """Nested values as JSON, as every reader of the csv can take them."""
    if not isinstance(value, list | dict):
        return value
    return json.dumps(_finite(value), ensure_ascii=False, default=str)
