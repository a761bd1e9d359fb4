"""DuckDB over what the pipeline wrote: views captions, scene_graphs, subcaptions, samples and lexicons.

The connection reads the output folder and nothing else: no other file, no network, no extension, one SELECT.
"""

import csv
import io
import json
import shutil
from importlib.resources import files
from pathlib import Path
from typing import IO, Any, Final

import duckdb  # noqa: TID251

from pipeline.errors import UserError
from pipeline.storage import write_table, write_text

VIEWS: Final = {
    "captions": "captions/*.parquet",
    "scene_graphs": "scene_graphs/*.parquet",
    "subcaptions": "subcaptions/*.parquet",
    "samples": "shards/*.parquet",
}
FORMATS: Final = ("table", "csv", "json", "parquet")
READ_ONLY: Final = ("SELECT", "EXPLAIN", "RELATION")


def saved_queries() -> dict[str, str]:
    """Name to SQL of the queries that come with the package; the first comment line says what each one gives."""
    folder = files("pipeline.looking") / "queries"
    found = [file for file in folder.iterdir() if file.name.endswith(".sql")]
    return {
        file.name.removesuffix(".sql"): file.read_text("utf-8")
        for file in sorted(found, key=lambda f: f.name)
    }


def connect(folder: Path) -> duckdb.DuckDBPyConnection:
    """An in-memory connection with a view per stage that `folder` holds; it can reach no other file."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; it should be the --out of `pipeline augment-captions`")
    root = folder.resolve()
    connection = duckdb.connect()
    views = 0
    for view, pattern in VIEWS.items():
        if any(root.glob(pattern)):
            source = _literal(root / pattern)
            connection.execute(f"CREATE VIEW {view} AS SELECT * FROM read_parquet({source})")
            views += 1
    if any((root / "lexicons").glob("*s.csv")):
        source = _literal(root / "lexicons" / "*s.csv")
        connection.execute(
            f"CREATE VIEW lexicons AS SELECT parse_filename(filename, true) AS lexicon, * EXCLUDE (filename) "
            f"FROM read_csv({source}, header = true, all_varchar = true, union_by_name = true, filename = true)"
        )
    if not views:
        raise UserError(
            f"{folder} holds no captions/, scene_graphs/ or subcaptions/: is it an output folder?"
        )
    connection.execute(f"SET allowed_directories = [{_literal(root)}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


def _literal(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def run_query(folder: Path, sql: str, *, format: str, out: Path | None, terminal: IO[str]) -> None:
    """Run one read-only query and write its result to `out`, or to `terminal`."""
    if format not in FORMATS:
        raise UserError(f"unknown format {format!r}; one of: {', '.join(FORMATS)}")
    if format == "parquet" and out is None:
        raise UserError("--format parquet wants a file: add --out FILE")
    saved = saved_queries()
    if sql not in saved and " " not in sql.strip():
        raise UserError(f"no saved query {sql!r}; there are: {', '.join(saved)}")
    relation = _select(connect(folder), saved.get(sql, sql))
    try:
        if format == "table" and out is None:
            relation.show(max_width=_width(terminal), max_rows=200)
            return
        table = relation.to_arrow_table()
    except duckdb.Error as error:
        raise UserError(_one_line(error)) from error
    if out is None:
        _print(table, format, terminal)
        return
    if format == "parquet":
        write_table(out, table)
    else:
        text = io.StringIO()
        _print(table, format, text)
        write_text(out, text.getvalue())


def _select(connection: duckdb.DuckDBPyConnection, sql: str) -> duckdb.DuckDBPyRelation:
    try:
        statements = connection.extract_statements(sql)
        if len(statements) != 1 or statements[0].type.name not in READ_ONLY:
            raise UserError("one SELECT, please: this command reads and never writes")
        relation = connection.sql(statements[0].query)
    except duckdb.Error as error:
        raise UserError(_one_line(error)) from error
    if relation is None:
        raise UserError("the query gives no rows to show")
    return relation


def _one_line(error: duckdb.Error) -> str:
    return " ".join(str(error).split())


def _width(terminal: IO[str]) -> int:
    return shutil.get_terminal_size((160, 24)).columns if terminal.isatty() else 160


def _print(table: Any, format: str, file: IO[str]) -> None:
    rows = table.to_pylist()
    if format == "json":
        file.write(json.dumps(rows, ensure_ascii=False, indent=2, default=str) + "\n")
        return
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(table.column_names)
    for row in rows:
        writer.writerow([_cell(value) for value in row.values()])


def _cell(value: object) -> object:
    """Nested values as JSON, as every reader of the csv can take them."""
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, list | dict) else value
