"""The shim: what it declares, and that the import works wherever it is done."""

import subprocess
import sys

import pytest

from trainer import torchvision_shim


def test_torchvision_imports_after_the_shim() -> None:
    code = "import trainer.images, torchvision.ops; print(torchvision.ops.nms.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "nms"


def test_nothing_is_declared_once_torchvision_is_there() -> None:
    assert torchvision_shim.declare_missing_operators() is None


def test_nothing_is_declared_where_the_extension_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torchvision")
    monkeypatch.setattr(torchvision_shim, "_extension_loads", lambda _: True)
    assert torchvision_shim.declare_missing_operators() is None
