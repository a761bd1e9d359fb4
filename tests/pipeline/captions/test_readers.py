"""Every input format gives the same rows; nothing unreadable passes in silence."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.captions.columns import clean
from pipeline.captions.readers import InputOptions, Source, open_source
from pipeline.errors import UserError
from pipeline.schema import Caption
from pipeline.storage import row_key
from tests.small_inputs import image_bytes, write_tar


def rows(path: Path, **options: Any) -> tuple[list[Caption], list[str]]:
    faults: list[str] = []
    source = open_source(InputOptions(input=str(path), **options))
    return [row for file in source.files for row in source.rows(file, faults=faults)], faults


def test_cc3m_tsv(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text('a dog "runs\thttp://x/1.jpg\nno tab here\n')
    found, faults = rows(tmp_path / "a.tsv")
    assert [(row.caption, row.image) for row in found] == [
        ('a dog "runs', "http://x/1.jpg"),
        ("no tab here", None),
    ]
    assert faults == ["a.tsv: line 2 has no tab"]


def test_gzipped_tsv(tmp_path: Path) -> None:
    (tmp_path / "a.tsv.gz").write_bytes(gzip.compress(b"a dog\thttp://x\n"))
    assert rows(tmp_path / "a.tsv.gz")[0][0].caption == "a dog"


def test_cleanclip_csv(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('image,caption,is_backdoor\nimages/1.png,"a dog, running",0\n')
    found, faults = rows(tmp_path / "a.csv")
    assert (found[0].caption, found[0].image, faults) == ("a dog, running", "images/1.png", [])
    assert found[0].key == row_key("images/1.png", "a dog, running")


def test_csv_line_with_too_few_fields_is_named_and_kept(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("caption,image\na dog,1.png\na cat\n")
    found, faults = rows(tmp_path / "a.csv")
    assert [row.caption for row in found] == ["a dog", "a cat"]
    assert faults == ["a.csv: line 3 has not 2 fields"]


def test_coco_json_keeps_annotation_ids(tmp_path: Path) -> None:
    coco = {
        "images": [{"id": 7, "file_name": "7.jpg"}],
        "annotations": [{"id": 41, "image_id": 7, "caption": "A dog.\n"}, {"id": 42, "image_id": 8}],
    }
    (tmp_path / "a.json").write_text(json.dumps(coco))
    found, faults = rows(tmp_path / "a.json")
    assert [(row.key, row.caption, row.image) for row in found] == [
        ("41", "A dog.", "7.jpg"),
        ("42", "", None),
    ]
    assert faults == ["a.json: annotation 1 has no caption"]


def test_jsonl(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": "x.1", "TEXT": "a dog"}\n{broken\n[1]\n')
    found, faults = rows(tmp_path / "a.jsonl")
    assert [(row.key[:3], row.caption) for row in found[:1]] == [("x_1", "a dog")]
    assert len(found) == 3
    assert faults[0].startswith("a.jsonl: line 2: ")
    assert faults[1:] == ["a.jsonl: line 3 is no JSON object"]


def test_parquet_with_image_bytes(tmp_path: Path) -> None:
    table = pa.table({"text": ["a dog", None], "jpg": [image_bytes(), None]})
    pq.write_table(table, tmp_path / "a.parquet")
    found, _ = rows(tmp_path / "a.parquet")
    assert [(row.caption, row.image) for row in found] == [("a dog", "jpg[0]"), ("", None)]


def test_webdataset_tar(tmp_path: Path) -> None:
    members = {
        "d/1.jpg": image_bytes(),
        "d/1.txt": b"a dog\n",
        "d/1.json": b'{"caption": "other"}',
        "2.json": b'{"caption": "from json"}',
        "2.png": image_bytes(),
    }
    write_tar(tmp_path / "0.tar", members)
    found, faults = rows(tmp_path / "0.tar")
    assert [(r.key, r.caption, r.image) for r in found] == [
        ("d/1", "a dog", "d/1.jpg"),
        ("2", "from json", "2.png"),
    ]
    assert faults == []


def test_caption_column_is_taken_from_the_json(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", {"1.txt": b"a dog", "1.json": b'{"llm": "a black dog"}'})
    assert rows(tmp_path / "0.tar", caption_column="llm")[0][0].caption == "a black dog"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "x,y\n1,2\n", "no caption column"),
        ("a.json", "{}", "no COCO captions file"),
        ("a.json", "{", "is no JSON file"),
        ("a.parquet", "x", "cannot be read as Parquet"),
        ("a.bin", "x", "cannot tell the format"),
    ],
)
def test_wrong_input_gets_one_clear_error(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=said):
        rows(tmp_path / name)


def test_patterns(tmp_path: Path) -> None:
    for name in ("00000.tar", "00001.tar", "00003.tar", "00000_stats.json"):
        (tmp_path / name).touch()

    def names(pattern: str) -> list[str]:
        source: Source = open_source(InputOptions(input=pattern))
        return [file.name for file in source.files]

    assert names(f"{tmp_path}") == ["00000.tar", "00001.tar", "00003.tar"]
    assert names(f"{tmp_path}/{{00000..00003}}.tar") == ["00000.tar", "00001.tar", "00003.tar"]
    assert names(f"{tmp_path}/*1.tar::{tmp_path}/00000.tar") == ["00001.tar", "00000.tar"]
    with pytest.raises(UserError, match="no file at"):
        names(f"{tmp_path}/none-*.tar")
    with pytest.raises(UserError, match="several formats"):
        names(f"{tmp_path}/00000.tar::{tmp_path}/00000_stats.json")


def test_clean_keeps_every_script_on_one_line() -> None:
    assert clean(" a\tdog\n\r läuft 狗 \0 ") == "a dog läuft 狗"
    assert clean("\ud800") == "\ufffd"
    assert clean(None) == clean(3) == ""
