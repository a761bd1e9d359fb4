"""The page shows what was made, and nothing a caption says runs."""

from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.captions.readers import InputOptions
from pipeline.errors import UserError
from pipeline.looking.preview import write_preview
from pipeline.stages import PipelineOptions, run_stages
from pipeline.storage import read_json, read_table, write_table
from pipeline.tables import SUBCAPTIONS


def test_page_shows_captions_and_negatives_escaped(tmp_path: Path) -> None:
    lines = ["a black dog chasing a <script>alert(1)</script> ball", "a red car on a road"]
    (tmp_path / "a.tsv").write_text("".join(f"{line}\thttp://x\n" for line in lines))
    out = tmp_path / "out"
    run_stages(PipelineOptions(source=InputOptions(input=str(tmp_path / "a.tsv")), out=out))
    assert write_preview(out, tmp_path / "page.html", num=5) == 2
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "<script" not in page
    assert "&lt;" in page
    assert '<span class="entity">car</span>' in page
    assert page.count("<ins>") >= 10
    assert all(told in page for told in ("manifest sha256", "num_negatives 10", "a.tsv", "2, of which 2 ok"))
    assert write_preview(out, tmp_path / "page.json", num=1) == 1
    (row,) = read_json(tmp_path / "page.json")
    assert row["negatives"][0]["edits"]
    assert row["entities"]
    with pytest.raises(UserError, match=r"is written as \.html or \.json, not 'page.txt'"):
        write_preview(out, tmp_path / "page.txt")


def test_what_a_part_holds_is_escaped(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("a black dog chasing a ball\thttp://x\n")
    run_stages(PipelineOptions(source=InputOptions(input=str(tmp_path / "a.tsv")), out=tmp_path / "out"))
    part = tmp_path / "out/subcaptions/00000.parquet"
    (row,) = read_table(part).to_pylist()
    row["negatives"] = [row["negatives"][0] | {"kind": "<script>"}]
    write_table(part, pa.Table.from_pylist([row], schema=SUBCAPTIONS))
    write_preview(tmp_path / "out", tmp_path / "page.html")
    assert "<script" not in (tmp_path / "page.html").read_text("utf-8")


def test_folder_without_subcaptions_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="augment-captions"):
        write_preview(tmp_path, tmp_path / "page.html")
