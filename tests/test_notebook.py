"""The notebook runs from its first cell to its last, and says what it says."""

import warnings
from pathlib import Path

import pytest

from tests.places import ROOT

NOTEBOOK = ROOT / "examples" / "tour.ipynb"


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Jupyter's own packages
        import nbformat
        from nbclient import NotebookClient

        notebook = nbformat.read(NOTEBOOK, as_version=4)
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        NotebookClient(notebook, timeout=300, resources={"metadata": {"path": tmp_path}}).execute()
    told = [
        output.get("text") or output.get("data", {}).get("text/plain", "")
        for cell in notebook.cells
        for output in cell.get("outputs", ())
    ]
    assert told[0] == "dog | chasing | ball\ndog | on | beach\n"
    assert any(text.startswith("evidence found") for text in told)
    assert sum("BA " in text for text in told) == 2
