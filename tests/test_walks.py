"""The three walks of docs/walks.md, from files of others' to a defended model and its pages: each in ten commands."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.places import ROOT
from tests.test_documented_commands import call, smaller
from tests.test_documents import code_lines

PAGE = (ROOT / "docs" / "walks.md").read_text("utf-8")
WALKS = {
    title: code_lines(text) for title, text in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
}


def test_there_are_three_of_at_most_ten_commands() -> None:
    assert len(WALKS) == 3
    before = code_lines(PAGE.partition("\n## ")[0])
    assert before == ["pip install '.[trainer,report]'"]
    assert all(1 < len(before + lines) <= 10 for lines in WALKS.values())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("title", WALKS)
def test_a_walk(
    title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    first, *lines = WALKS[title]
    script, where = shlex.split(first)[1:]
    subprocess.run([sys.executable, ROOT / script, where, "--tiny"], check=True)
    for line in lines:
        code = call(smaller(line), monkeypatch)
        assert code == 0, f"{line}: {capsys.readouterr().err}"
    page = (tmp_path / "result.html").read_text("utf-8")
    assert all(
        told in page
        for told in ("BA and ASR", "What the model saw, after", "Where triggered images lie", "Loss")
    )
    assert "audit" in (tmp_path / "audit.html").read_text("utf-8").lower()
    card = (tmp_path / "defended/README.md").read_text("utf-8")
    assert "defended with anchored" in card
    assert "banana" in card
    assert any(verdict in card for verdict in ("evidence found |", "not calibrated |"))
