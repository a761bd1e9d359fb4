"""Parquet files: tables as wholes, rows of files that do not fit into memory, values that stand more than once."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import UserError, first_line
from pipeline.storage.files import write_atomically

ROW_GROUP_ROWS: Final = 50_000


def write_table(path: Path, table: pa.Table) -> None:
    """Write `table` as one zstd-compressed Parquet file."""
    with write_atomically(path) as file:
        pq.write_table(table, file, compression="zstd", row_group_size=ROW_GROUP_ROWS)


def read_table(path: Path) -> pa.Table:
    """The table of one Parquet file."""
    return pq.ParquetFile(path).read()


class ParquetRows:
    """A Parquet file, read some rows at a time; UserError where it is none or is damaged."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = pq.ParquetFile(path)
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{path} cannot be read as Parquet: {first_line(error)}") from error
        self.names: list[str] = self._file.schema_arrow.names
        """Of the columns."""
        self.holding_bytes: list[str] = [
            field.name for field in self._file.schema_arrow if _holds_bytes(field.type)
        ]
        """Names of the columns of bytes, or of structs with `bytes`, as Hugging Face keeps images."""

    @property
    def metadata(self) -> dict[str, str]:
        """What the footer says beside the columns, as text."""
        found = self._file.schema_arrow.metadata or {}
        return {
            key.decode("utf-8", "replace"): value.decode("utf-8", "replace") for key, value in found.items()
        }

    def rows(self, columns: Sequence[str], *, at_a_time: int) -> Iterator[dict[str, Any]]:
        """The rows in their order, with these columns; `at_a_time` of them are held in memory."""
        for batch in self._batches(batch_size=at_a_time, columns=list(columns)):
            yield from batch.to_pylist()

    def values(self, column: str, numbers: Sequence[int]) -> Iterator[Any]:
        """The values of the rows of these numbers, ascending; no row group that holds none of them is read."""
        wanted, start = set(numbers), 0
        for group in range(self._file.num_row_groups):
            rows = self._file.metadata.row_group(group).num_rows
            if start + rows > min(wanted) and start <= max(wanted):
                number = start
                for batch in self._batches(batch_size=256, row_groups=[group], columns=[column]):
                    for value in batch.column(0):
                        if number in wanted:
                            yield value.as_py()
                        number += 1
            start += rows

    def _batches(self, **what: Any) -> Iterator[pa.RecordBatch]:
        try:
            yield from self._file.iter_batches(**what)
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{self._path} cannot be read as Parquet: {first_line(error)}") from error


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _holds_bytes(field.type) for field in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def find_repeated(folder: Path, column: str) -> list[tuple[str, int, str, int]]:
    """(file, row, value, occurrence) of the second and later rows of a value over all Parquet files of `folder`.

    In the order of the files and rows; out of core.
    """
    if not any(folder.glob("*.parquet")):
        return []
    import duckdb  # noqa: TID251

    query = f"""
        SELECT filename, file_row_number, {column}, occurrence
        FROM (SELECT *, row_number() OVER (PARTITION BY {column} ORDER BY filename, file_row_number) AS occurrence
              FROM (SELECT {column}, filename, file_row_number
                    FROM read_parquet(?, filename = true, file_row_number = true)))
        WHERE occurrence > 1 ORDER BY filename, file_row_number
    """
    with duckdb.connect() as connection:
        rows: list[tuple[str, int, str, int]] = connection.execute(
            query, [str(folder / "*.parquet")]
        ).fetchall()
        return rows
