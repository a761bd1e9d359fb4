"""Imports open_clip without transformers, which it would import where it is installed: three seconds of every command.

Only text towers of transformers (roberta, mt5, ...) need it; `restore_text_towers` gives it back before one is built.
`model` imports this first.
"""

import importlib
import sys
from typing import Any

from trainer import torchvision_shim  # noqa: F401


def import_without_transformers(name: str) -> Any:
    """The module of that name, imported as if transformers were absent; as it is where that is imported already."""
    if "transformers" in sys.modules or name in sys.modules:
        return importlib.import_module(name)
    sys.modules["transformers"] = None  # type: ignore[assignment]  # how Python marks what cannot be imported
    try:
        return importlib.import_module(name)
    finally:
        del sys.modules["transformers"]


OPEN_CLIP = import_without_transformers("open_clip")


def restore_text_towers() -> None:
    """Lets open_clip build text towers of transformers, where that is installed."""
    towers = importlib.import_module("open_clip.hf_model")
    if getattr(towers, "transformers", None) is None:
        towers = importlib.reload(towers)
        OPEN_CLIP.model.HFTextEncoder = towers.HFTextEncoder
