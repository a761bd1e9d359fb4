"""The only code of the pipeline that opens data files: text, JSON, Parquet and tars, and which of them a pattern means.

The trainer reads tars and writes its files through it, too.
"""

from pipeline.storage.files import (
    append_line,
    find_named,
    hash_named,
    held_folders,
    hold,
    named,
    read_bytes,
    read_json,
    read_regular,
    remove_unfinished,
    sha256_file,
    size_of,
    write_atomically,
    write_by_path,
    write_json,
    write_text,
)
from pipeline.storage.keys import IMAGE_EXTENSIONS, own_key, row_key, split_name
from pipeline.storage.limits import MAX_MEMBER_BYTES, MAX_NAMED_FAULTS, MAX_PIXELS
from pipeline.storage.parquet import (
    ParquetRows,
    count_rows,
    find_repeated,
    read_lexicon_tables,
    read_table,
    scan_tables,
    write_table,
)
from pipeline.storage.patterns import expand_braces, find_files
from pipeline.storage.tars import (
    BROKEN_SHARD,
    MEMBER_TOO_LARGE,
    REFUSED_MEMBER,
    TarMember,
    TarSample,
    TarWriter,
    read_members,
    read_tar,
)
from pipeline.storage.texts import decode_text, lines_of, open_text, parse_json, readable

__all__ = [
    "BROKEN_SHARD",
    "IMAGE_EXTENSIONS",
    "MAX_MEMBER_BYTES",
    "MAX_NAMED_FAULTS",
    "MAX_PIXELS",
    "MEMBER_TOO_LARGE",
    "REFUSED_MEMBER",
    "ParquetRows",
    "TarMember",
    "TarSample",
    "TarWriter",
    "append_line",
    "count_rows",
    "decode_text",
    "expand_braces",
    "find_files",
    "find_named",
    "find_repeated",
    "hash_named",
    "held_folders",
    "hold",
    "lines_of",
    "named",
    "open_text",
    "own_key",
    "parse_json",
    "read_bytes",
    "read_json",
    "read_lexicon_tables",
    "read_members",
    "read_regular",
    "read_table",
    "read_tar",
    "readable",
    "remove_unfinished",
    "row_key",
    "scan_tables",
    "sha256_file",
    "size_of",
    "split_name",
    "write_atomically",
    "write_by_path",
    "write_json",
    "write_table",
    "write_text",
]
