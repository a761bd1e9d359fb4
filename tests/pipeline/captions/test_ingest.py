"""Parts, keys and the index of the captions stage."""

from pathlib import Path

import pytest

from pipeline.captions.ingest import ingest
from pipeline.captions.readers import InputOptions, open_source
from pipeline.errors import UserError
from pipeline.storage import read_table


def keys(folder: Path) -> list[str]:
    return [key for file in sorted(folder.glob("*.parquet")) for key in read_table(file)["key"].to_pylist()]


def test_rows_are_cut_into_parts(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("".join(f"dog {n}\thttp://{n}\n" for n in range(5)))
    source = open_source(InputOptions(input=str(tmp_path / "a.tsv")))
    index = ingest(source, tmp_path / "captions", rows_per_part=2, workers=1)
    assert [part.rows for part in index.parts] == [2, 2, 1]
    assert index.rows == len(set(keys(tmp_path / "captions"))) == 5


def test_repeated_keys_get_a_number(tmp_path: Path) -> None:
    lines = ['{"key": "a", "caption": "x"}', '{"key": "a", "caption": "y"}', '{"key": "a-2", "caption": "z"}']
    (tmp_path / "a.jsonl").write_text("\n".join([*lines, lines[0]]))
    source = open_source(InputOptions(input=str(tmp_path / "a.jsonl")))
    index = ingest(source, tmp_path / "captions", rows_per_part=2, workers=1)
    assert keys(tmp_path / "captions") == ["a", "a-2", "a-2-2", "a-3"]
    assert index.duplicate_keys == 3


def test_changed_input_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("dog\thttp://1\n")
    source = open_source(InputOptions(input=str(tmp_path / "a.tsv")))
    ingest(source, tmp_path / "captions", rows_per_part=2, workers=1)
    (tmp_path / "a.tsv").write_text("dog\thttp://1\ncat\thttp://2\n")
    with pytest.raises(UserError, match=r"choose another --out, or --overwrite"):
        ingest(source, tmp_path / "captions", rows_per_part=2, workers=1)
