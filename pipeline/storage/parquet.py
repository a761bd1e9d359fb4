"""Parquet files: tables as wholes, rows of files that do not fit into memory, values that stand more than once."""

import contextlib
import ctypes
import re
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet as pq

from pipeline.errors import BadInput, UserError, first_line
from pipeline.storage.files import write_atomically
from pipeline.storage.remote import RemoteError, is_remote

ROW_GROUP_ROWS: Final = 50_000
MAX_ROWS_IN_MEMORY: Final = 1_000_000
"""Of which one column is looked at as a whole: some 40 MB of keys."""


class _NoPandas(MetaPathFinder):
    """Says that there is no pandas."""

    def find_spec(self, name: str, *_: Any) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name)


def forgo_pandas() -> None:
    """Let Arrow know of no pandas in this process: it imports it at its first list, 0.4 s and 40 MB for nothing.

    For processes that are ours alone: an Arrow that knows no pandas takes a Series for a list.
    """
    if "pandas" not in sys.modules:
        sys.meta_path.insert(0, finder := _NoPandas())
        try:
            pa.array([0])
        finally:
            sys.meta_path.remove(finder)


def give_back_memory() -> None:
    """Hand the system what Arrow and the C library keep for later: a part's tables are gone when it is done."""
    pa.default_memory_pool().release_unused()
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library than GNU's
            ctypes.CDLL(None).malloc_trim(0)


def write_table(path: Path, table: pa.Table) -> None:
    """Write `table` as one zstd-compressed Parquet file."""
    with write_atomically(path) as file:
        pq.write_table(table, file, compression="zstd", row_group_size=ROW_GROUP_ROWS)


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """The table of one Parquet file, or some of its columns; UserError where it is none, or is damaged."""
    with _told(path):
        whole = is_remote(path) and columns is None  # in one request: columns are many of some KB
        with pq.ParquetFile(pa.BufferReader(path.read_bytes())) if whole else _open(path) as file:
            table = file.read(columns=columns)
        table.validate(full=True)
        return table


def count_rows(path: Path) -> int:
    """The number of rows that a Parquet file's footer states; UserError where it is none."""
    with _told(path), _open(path) as file:
        rows: int = file.metadata.num_rows
        return rows


def _open(path: Path) -> pq.ParquetFile:
    return pq.ParquetFile(path.open("rb") if is_remote(path) else path)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Errors of reading `path` as a UserError that names it."""
    try:
        yield
    except UserError:
        raise
    except RemoteError as error:
        raise UserError(str(error)) from error
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise BadInput(f"{path} cannot be read as Parquet: {first_line(error)}") from error


def scan_tables(paths: Sequence[Path]) -> Any:
    """The rows of Parquet files of one schema, as Arrow's data set: read where they are asked for, never whole."""
    import pyarrow.dataset  # here: it imports pandas where that is installed

    with _told(paths[0]):
        names = [str(path) for path in paths]
        return pyarrow.dataset.dataset(names, format="parquet", filesystem=_file_system(paths[0]))


def _file_system(path: Path) -> Any:
    """What Arrow reads the path through; None for a local one."""
    if not is_remote(path):
        return None
    from pipeline.storage.remote_arrow import file_system

    return file_system()


OF_FEW_VALUES: Final = frozenset(("kind", "lemma", "lexicon", "replacement", "rule", "status", "term_id"))
"""Fields of the pipeline's tables whose values stand in a part many times: read as numbers of a list of them."""
FILES_AHEAD: Final = 2


class NarrowScan:
    """Some fields of Parquet files of one schema, as an Arrow stream that begins anew each time it is asked for.

    Unlike a data set's columns, `fields` may be fields of structs within lists, `negatives.edits.term_id`: nothing
    else of `negatives` is read then. Files are read ahead of whoever takes the rows.
    """

    def __init__(self, paths: Sequence[Path], fields: Sequence[str]) -> None:
        """UserError where the files have no such field."""
        self._paths = paths
        with _told(paths[0]):
            schema = pq.ParquetFile(str(paths[0]), filesystem=_file_system(paths[0])).schema
        leaves = [schema.column(number).path for number in range(len(schema))]
        self._columns = [leaf for leaf in leaves if leaf.replace(".list.element", "") in fields]
        if len(self._columns) != len(fields):
            raise UserError(f"{paths[0]}: not all of {', '.join(fields)} are in it: another version wrote it")
        self._few = [leaf for leaf in self._columns if leaf.rpartition(".")[2] in OF_FEW_VALUES]

    def _open(self, path: Path) -> pq.ParquetFile:
        return pq.ParquetFile(str(path), filesystem=_file_system(path), read_dictionary=self._few)

    def _read(self, path: Path) -> list[pa.RecordBatch]:
        return list(self._open(path).iter_batches(columns=self._columns, use_threads=False))

    def _batches(self) -> Iterator[pa.RecordBatch]:
        with ThreadPoolExecutor(FILES_AHEAD) as pool:
            coming = deque[Future[list[pa.RecordBatch]]]()
            try:
                for path in self._paths:
                    coming.append(pool.submit(self._read, path))
                    if len(coming) > FILES_AHEAD:
                        yield from coming.popleft().result()
                while coming:
                    yield from coming.popleft().result()
            finally:
                pool.shutdown(cancel_futures=True)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Arrow's interface for streams, as DuckDB asks for it: once to know the columns, once for each scan."""
        first = next(self._open(self._paths[0]).iter_batches(columns=self._columns, batch_size=1), None)
        whole = self._open(self._paths[0]).schema_arrow if first is None else first.schema
        reader = pa.RecordBatchReader.from_batches(whole.remove_metadata(), self._batches())
        return reader.__arrow_c_stream__(requested_schema)


def read_lexicon_tables(paths: Sequence[Path]) -> pa.Table | None:
    """The rows of CSV files with a header as texts, behind a column `lexicon` of their files' names; None of none."""
    tables = []
    for path in paths:
        try:
            content = path.read_bytes() if is_remote(path) else None
            names = pyarrow.csv.open_csv(path if content is None else pa.BufferReader(content)).schema.names
            as_text = pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
            )
            opened = path if content is None else pa.BufferReader(content)
            table = pyarrow.csv.read_csv(opened, convert_options=as_text)
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{path} cannot be read as CSV: {first_line(error)}") from error
        tables.append(table.add_column(0, "lexicon", pa.array([path.stem] * table.num_rows, pa.string())))
    return pa.concat_tables(tables, promote_options="default") if tables else None


class ParquetRows:
    """A Parquet file, read some rows at a time; UserError where it is none or is damaged."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with _told(path):
            self._file = _open(path)
            schema = self._file.schema_arrow
        self.names: list[str] = schema.names
        """Of the columns."""
        self.kinds: dict[str, pa.DataType] = {name: schema.types[n] for n, name in enumerate(schema.names)}
        """Their types."""
        self.holding_bytes: list[str] = [field.name for field in schema if _holds_bytes(field.type)]
        """Names of the columns of bytes, or of structs with `bytes`, as Hugging Face keeps images."""

    @property
    def metadata(self) -> dict[str, str]:
        """What the footer says beside the columns, as text."""
        found = self._file.schema_arrow.metadata or {}
        return {
            key.decode("utf-8", "replace"): value.decode("utf-8", "replace") for key, value in found.items()
        }

    def holds_text(self, column: str) -> bool:
        """Whether a column's values are texts, bytes that may be, or lists of these or of records that hold them."""
        return _may_be_text(self.kinds[column])

    def holds_strings(self, column: str) -> bool:
        """Whether a column's values are texts."""
        kind = self.kinds[column]
        return _is_text(kind.value_type if pa.types.is_dictionary(kind) else kind)

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
        with _told(self._path):
            for batch in self._file.iter_batches(**what):
                yield _readable(batch)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _may_be_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _may_be_text(kind.value_type)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return pa.types.is_struct(kind.value_type) or _may_be_text(kind.value_type)
    return _is_text(kind) or bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _readable(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with U+FFFD for bytes of its texts that are no UTF-8."""
    try:
        batch.validate(full=True)
        return batch
    except pa.ArrowInvalid:
        columns = [
            pa.array(
                [None if v is None else v.decode("utf-8", "replace") for v in _bytes(column)], pa.string()
            )
            if _is_text(column.type)
            else column
            for column in batch.columns
        ]
        mended = pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
        mended.validate(full=True)  # offsets that lead out cannot be mended
        return mended


def _bytes(column: pa.Array) -> list[bytes | None]:
    kind = pa.large_binary() if pa.types.is_large_string(column.type) else pa.binary()
    values: list[bytes | None] = column.view(kind).to_pylist()
    return values


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _holds_bytes(field.type) for field in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def find_repeated(folder: Path, column: str) -> list[tuple[str, int, str, int]]:
    """(file, row, value, occurrence) of the second and later rows of a value over all Parquet files of `folder`.

    In the order of the files and rows; out of core.
    """
    files = sorted(folder.glob("*.parquet"))
    if not files or _are_distinct(files, column):
        return []
    import duckdb  # noqa: TID251

    remote = is_remote(files[0])
    read = "remote_rows" if remote else "read_parquet(?, filename = true, file_row_number = true)"
    query = f"""
        SELECT filename, file_row_number, {column}, occurrence
        FROM (SELECT *, row_number() OVER (PARTITION BY {column} ORDER BY filename, file_row_number) AS occurrence
              FROM (SELECT {column}, filename, file_row_number FROM {read}))
        WHERE occurrence > 1 ORDER BY filename, file_row_number
    """
    with duckdb.connect() as connection:
        if remote:
            connection.register("remote_rows", _numbered_rows(files, column))
        try:
            rows: list[tuple[str, int, str, int]] = connection.execute(
                query, [] if remote else [[_plain_pattern(file) for file in files]]
            ).fetchall()
        except duckdb.Error as error:
            raise UserError(f"{folder} cannot be read as Parquet: {first_line(error)}") from error
        real = {_plain_pattern(file): str(file) for file in files}
        return [(real.get(file, file), row, value, again) for file, row, value, again in rows]


def _are_distinct(files: Sequence[Path], column: str) -> bool:
    """Whether the values are few enough for memory, and each stands once: so it mostly is, and needs no DuckDB."""
    rows, values = 0, list[pa.Array]()
    for file in files:
        with _told(file), _open(file) as opened:
            rows += opened.metadata.num_rows
            if rows > MAX_ROWS_IN_MEMORY:
                return False
            values.append(opened.read(columns=[column])[column].combine_chunks())
    return bool(pyarrow.compute.count_distinct(pa.chunked_array(values)).as_py() == rows)


def _numbered_rows(files: Sequence[Path], column: str) -> pa.RecordBatchReader:
    """A column of remote Parquet files, with the file and the number of each row, as DuckDB names them."""
    schema = pa.schema([(column, pa.string()), ("filename", pa.string()), ("file_row_number", pa.int64())])

    def batches() -> Iterator[pa.RecordBatch]:
        for file in files:
            with _told(file), _open(file) as opened:
                table = opened.read(columns=[column])
            names = pa.repeat(pa.scalar(str(file)), table.num_rows)
            numbers = pa.array(range(table.num_rows), pa.int64())
            values = table[column].combine_chunks().cast(pa.string())
            yield pa.RecordBatch.from_arrays([values, names, numbers], schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


def _plain_pattern(path: Path) -> str:
    """The path as a pattern that means this file alone, whatever brackets and stars its folders' names hold."""
    return re.sub(r"([*?[])", r"[\1]", str(path))
