"""Queries see the output folder and nothing else, and change nothing."""

import io
import json
import sys
from pathlib import Path

import duckdb  # noqa: TID251
import pyarrow.parquet as pq
import pytest

from pipeline.captions.readers import InputOptions
from pipeline.errors import UserError
from pipeline.looking.query import QueryOptions, connect, run_query, saved_queries
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
    run_query(folder, sql, QueryOptions(format=format), terminal=terminal)
    return terminal.getvalue()


def test_json_and_csv(folder: Path) -> None:
    sql = "SELECT key, caption FROM captions ORDER BY key DESC LIMIT 1"
    assert json.loads(answer(folder, sql)) == [{"key": "2", "caption": "dog, 2"}]
    assert answer(folder, sql, "csv") == 'key,caption\n2,"dog, 2"\n'


def test_parquet_goes_to_a_file(folder: Path, tmp_path: Path) -> None:
    sql = "SELECT count(*) AS n FROM captions"
    with pytest.raises(UserError, match="--out FILE"):
        answer(folder, sql, "parquet")
    options = QueryOptions(format="parquet", out=tmp_path / "n.parquet")
    run_query(folder, sql, options, terminal=io.StringIO())
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
        "EXPLAIN ANALYZE COPY (SELECT 1 AS x) TO '{folder}/captions/00000.parquet'",
        "EXPLAIN SELECT 1",
        "SELECT * FROM read_parquet('{folder}/captions/00000.parquet')",
        "SELECT * FROM '{folder}/captions/00000.parquet'",
        "SELECT * FROM read_text('{folder}/captions/00000.parquet')",
        "SELECT * FROM glob('{folder}/*')",
        "SELECT * FROM query($$COPY captions TO '{folder}/x.csv'$$)",
        "CALL enable_logging(storage = 'file', storage_path = '{folder}/log')",
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


def test_what_is_there_keeps_its_bytes(folder: Path) -> None:
    part = folder / "captions/00000.parquet"
    before = part.read_bytes()
    with pytest.raises(UserError, match="one SELECT"):
        answer(folder, f"EXPLAIN ANALYZE COPY (SELECT 1 AS x) TO '{part}'")
    assert part.read_bytes() == before


def test_duckdb_itself_can_open_no_file(folder: Path) -> None:
    connection = connect(folder)
    for sql in ("COPY captions TO '{}'", "FROM read_parquet('{}')"):
        with pytest.raises(duckdb.PermissionException):
            connection.execute(sql.format(folder / "captions/00000.parquet"))


def test_limits_of_memory_and_time(folder: Path) -> None:
    endless = "SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE a.range * b.range % 7 = 3"
    with pytest.raises(UserError, match=r"longer than 0\.2 seconds.*--time-limit"):
        run_query(folder, endless, QueryOptions(format="csv", time_limit=0.2), terminal=io.StringIO())
    large = "SELECT list(range) FROM range(100000000)"
    with pytest.raises(UserError, match="--memory-limit"):
        run_query(folder, large, QueryOptions(format="csv", memory_limit="20MB"), terminal=io.StringIO())
    with pytest.raises(UserError, match="--memory-limit 'much'"):
        run_query(folder, large, QueryOptions(memory_limit="much"), terminal=io.StringIO())
    with pytest.raises(UserError, match="--time-limit 0"):
        QueryOptions(time_limit=0)


def test_columns_of_one_name_are_all_kept(folder: Path) -> None:
    assert answer(folder, "SELECT 1 AS a, 2 AS a, 3 AS A", "csv") == "a,a_2,A_3\n1,2,3\n"
    assert json.loads(answer(folder, "SELECT 1 AS a, 2 AS a")) == [{"a": 1, "a_2": 2}]


def test_values_that_python_has_none_for(folder: Path) -> None:
    sql = "SELECT DATE '4713-01-01 (BC)' AS a, DATE 'infinity' AS b, [TIMESTAMP '-infinity'] AS c, 'nan'::DOUBLE AS d"
    assert answer(folder, sql, "csv") == "a,b,c,d\n4713-01-01 (BC),infinity,[-infinity],nan\n"
    assert json.loads(answer(folder, sql))[0]["d"] is None


@pytest.mark.parametrize("name", ["a[1]b", "a*b", "it's", "a?{b}"])
def test_a_folder_may_be_called_anything(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.tsv").write_text("a dog\tu\na dog\tu\n")
    out = tmp_path / name
    options = PipelineOptions(
        out=out, source=InputOptions(input=str(tmp_path / "a.tsv")), stages=("captions",)
    )
    assert run_stages(options)["rows"]["duplicate_keys"] == 1
    assert json.loads(answer(out, "SELECT count(DISTINCT key) AS n FROM captions")) == [{"n": 2}]


def test_a_damaged_part_is_one_line(folder: Path) -> None:
    part = folder / "captions/00000.parquet"
    part.write_bytes(part.read_bytes()[:-9])
    with pytest.raises(UserError):
        answer(folder, "SELECT * FROM captions")


def test_folder_without_data_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is it an output folder"):
        answer(tmp_path, "SELECT 1")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_is_told_that_a_query_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    assert json.loads(answer(folder, "SELECT count(*) AS rows FROM captions"))
    assert "asking, at most 600 s" in terminal.getvalue()
    monkeypatch.setattr(sys, "stderr", file := io.StringIO())
    answer(folder, "SELECT count(*) AS rows FROM captions")
    assert file.getvalue() == ""


def test_saved_queries_say_what_they_give() -> None:
    assert {"coverage", "band-shares", "lineage"} <= set(saved_queries())
    assert all(text.startswith("-- ") for text in saved_queries().values())


def test_fields_that_another_version_lacks_are_named(folder: Path) -> None:
    with pytest.raises(UserError, match=r"00000\.parquet: not all of key, negatives\.colour are in it"):
        connect(folder, reads={"captions": ["key", "negatives.colour"]})


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
    for name, sql in saved_queries().items():
        rows = json.loads(answer(tmp_path / "out", name))
        assert rows == json.loads(answer(tmp_path / "out", sql)), (
            "what it names as read is not all that it reads"
        )
        assert isinstance(rows, list)
        assert rows or name == "false-negatives"
    (dog, *_) = json.loads(answer(tmp_path / "out", "coverage"))
    assert dog["captions"] == 2
