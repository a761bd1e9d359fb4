"""The Python API: every name is there, typed and documented, imports stay cheap, and the examples run as they are."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pipeline
import trainer
from tests.places import ROOT

PACKAGES = {"pipeline": pipeline, "trainer": trainer}
IN_ORDER = ("parse", "augment", "query", "defend", "evaluate", "audit")
"""Each reads what those before it wrote."""
PAGE = (ROOT / "docs" / "api.md").read_text("utf-8")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_name_is_there_typed_and_documented(package: str) -> None:
    module: Any = PACKAGES[package]
    stub = ast.parse((ROOT / package / "__init__.pyi").read_text("utf-8"))
    typed = {
        alias.asname: f"{node.module}.{alias.name}"
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed == {name: f"{place}.{name}" for name, place in module._PLACES.items()}
    for name in module._PLACES:
        assert getattr(module, name).__doc__, name
        assert f"`{name}`" in PAGE, name
    assert set(module.__all__) <= set(dir(module))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        module.nothing  # noqa: B018


def test_the_reference_shows_every_name() -> None:
    shown = set(re.findall(r"^::: (\S+)$", (ROOT / "docs" / "reference.md").read_text("utf-8"), re.MULTILINE))
    assert shown == {
        f"{place}.{name}" for module in PACKAGES.values() for name, place in module._PLACES.items()
    }


def test_importing_is_cheap() -> None:
    heavy = ("torch", "open_clip", "spacy", "duckdb", "pyarrow", "numpy")
    program = f"import sys, pipeline, trainer; print(set({heavy}) & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_the_examples_run(tmp_path: Path) -> None:
    others = {"small_files"}  # run by tests/test_walks.py
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} == {*IN_ORDER, *others}
    told = {}
    for name in IN_ORDER:
        file = ROOT / "examples" / f"{name}.py"
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, file], cwd=tmp_path, capture_output=True, text=True, env=environment, check=False
        )
        assert done.returncode == 0, done.stderr
        told[name] = done.stdout
        code = [line for line in file.read_text("utf-8").splitlines() if line.strip()]
        assert len(code) <= 16, f"{name}: an example is short"
        assert f"examples/{name}.py" in PAGE
    assert "dog chasing ball" in told["parse"]
    assert "top-1: BA " in told["evaluate"]
    assert "evidence found" in told["audit"]
