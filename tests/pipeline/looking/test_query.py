"""Queries see the output folder and nothing else, and change nothing."""

import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.captions.readers import InputOptions
from pipeline.errors import UserError
from pipeline.looking.query import run_query, saved_queries
from pipeline.schema import Caption
from pipeline.stages import PipelineOptions, run_stages
from pipeline.storage import write_table
from pipeline.tables import captions_table
from tests.places import ROOT


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [Caption(key=str(n), caption=f"dog, {n}", image=None, source="a.tsv") for n in range(3)]
    write_table(tmp_path / "out" / "captions" / "00000.parquet", captions_table(rows))
    (tmp_path / "secret.csv").write_text("a\n1\n")
    return tmp_path / "out"


def answer(folder: Path, sql: str, format: str = "json") -> str:
    terminal = io.StringIO()
    run_query(folder, sql, format=format, out=None, terminal=terminal)
    return terminal.getvalue()


def test_json_and_csv(folder: Path) -> None:
    sql = "SELECT key, caption FROM captions ORDER BY key DESC LIMIT 1"
    assert json.loads(answer(folder, sql)) == [{"key": "2", "caption": "dog, 2"}]
    assert answer(folder, sql, "csv") == 'key,caption\n2,"dog, 2"\n'


def test_parquet_goes_to_a_file(folder: Path, tmp_path: Path) -> None:
    sql = "SELECT count(*) AS n FROM captions"
    with pytest.raises(UserError, match="--out FILE"):
        answer(folder, sql, "parquet")
    run_query(folder, sql, format="parquet", out=tmp_path / "n.parquet", terminal=io.StringIO())
    assert pq.read_table(tmp_path / "n.parquet").to_pylist() == [{"n": 3}]


def test_table_shows_values(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer(folder, "SELECT key FROM captions", "table")
    assert "key" in capsys.readouterr().out


@pytest.mark.parametrize(
    "sql",
    [
        "DROP VIEW captions",
        "COPY captions TO '{folder}/x.csv'",
        "SELECT 1; DELETE FROM captions",
        "SELECT * FROM read_csv('{folder}/../secret.csv')",
        "SELECT * FROM '/etc/passwd'",
        "SET enable_external_access = true",
        "INSTALL httpfs",
        "ATTACH 'x.db'",
        "SELECT nothing FROM captions",
        "SELEC 1",
        "no-such-saved-query",
    ],
)
def test_nothing_else_is_reached(folder: Path, sql: str) -> None:
    before = sorted(folder.parent.rglob("*"))
    with pytest.raises(UserError):
        answer(folder, sql.format(folder=folder))
    assert sorted(folder.parent.rglob("*")) == before


def test_folder_without_data_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is it an output folder"):
        answer(tmp_path, "SELECT 1")


def test_saved_queries_say_what_they_give() -> None:
    assert {"coverage", "band-shares", "lineage"} <= set(saved_queries())
    assert all(text.startswith("-- ") for text in saved_queries().values())


def test_every_saved_query_is_documented_with_its_command_and_output() -> None:
    page = (ROOT / "docs" / "queries.md").read_text(encoding="utf-8")
    for name in saved_queries():
        assert f"pipeline query cc3m-cf {name}\n" in page, name
    assert page.count("\n| --- |") >= len(saved_queries())


def test_every_saved_query_runs_on_what_augment_captions_writes(tmp_path: Path) -> None:
    (tmp_path / "captions.tsv").write_text("A black dog chases a cat .\tu0\na red bus on a street\tu1\n")
    options = PipelineOptions(
        out=tmp_path / "out",
        source=InputOptions(input=str(tmp_path / "captions.tsv")),
        stages=("captions", "scene_graphs", "subcaptions"),
    )
    run_stages(options)
    for name in saved_queries():
        rows = json.loads(answer(tmp_path / "out", name))
        assert isinstance(rows, list)
        assert rows or name == "false-negatives"
    (dog, *_) = json.loads(answer(tmp_path / "out", "coverage"))
    assert dog["captions"] == 2
