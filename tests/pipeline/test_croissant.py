"""What is written is readable by others as it is: pandas and polars, and mlcroissant by its description."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipeline.captions.readers import InputOptions
from pipeline.croissant import CROISSANT, describe_tables
from pipeline.looking.verify import verify
from pipeline.stages import STAGES, PipelineOptions, run_stages

FOLDERS = ("captions", "scene_graphs", "subcaptions")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("croissant")
    (folder / "a.tsv").write_text("a black dog chasing a red ball\thttp://x/1\na cat on a mat\thttp://x/2\n")
    source = InputOptions(input=str(folder / "a.tsv"))
    run_stages(PipelineOptions(source=source, out=folder / "out", rows_per_part=1))
    return folder / "out"


@pytest.mark.parametrize("folder", FOLDERS)
def test_pandas_reads_a_folder(out: Path, folder: str) -> None:
    assert len(pd.read_parquet(out / folder)) == 2


@pytest.mark.parametrize("folder", FOLDERS)
def test_polars_reads_a_folder(out: Path, folder: str) -> None:
    polars: Any = pytest.importorskip("polars", reason="polars is not installed")
    assert polars.read_parquet(out / folder).height == 2


@pytest.mark.filterwarnings("ignore")
def test_mlcroissant_accepts_the_description(out: Path) -> None:
    croissant: Any = pytest.importorskip("mlcroissant", reason="mlcroissant is not installed")
    described = croissant.Dataset(jsonld=str(out / CROISSANT))
    assert not described.metadata.issues.errors
    found = [record["captions/caption"] for record in described.records("captions")]
    assert [text.decode() for text in found] == ["a black dog chasing a red ball", "a cat on a mat"]


def test_the_description_is_of_what_is_there(out: Path) -> None:
    content = json.loads((out / CROISSANT).read_text("utf-8"))
    assert [each["@id"] for each in content["recordSet"]] == list(STAGES)
    assert describe_tables(("captions",), version="1")["distribution"][0]["includes"] == "captions/*.parquet"
    assert verify(out) == []
