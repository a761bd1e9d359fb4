"""Lets torchvision be imported beside a torch build whose operators its C extension does not match.

Every module of the trainer that needs torchvision or open_clip (which imports it) imports this one first. Beside a
CPU-only torch the wheel's extension cannot be loaded; torchvision then registers a Python kernel for an operator
that nobody declared, and its import ends in "operator torchvision::nms does not exist". Declaring the two schemas
is enough: nothing here ever calls them. Where the extension loads, nothing is declared.
"""

import importlib.util
import sys
from pathlib import Path

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def declare_missing_operators() -> torch.library.Library | None:
    """Declares torchvision's `nms` and `qnms` where its extension cannot load; None where there is nothing to do.

    The returned library must be kept alive: its operators go with it.
    """
    specification = importlib.util.find_spec("torchvision")
    if specification is None or specification.origin is None or "torchvision" in sys.modules:
        return None
    if _extension_loads(Path(specification.origin).parent):
        return None
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for schema in _SCHEMAS:
        library.define(schema)  # type: ignore[no-untyped-call]
    return library


def _extension_loads(folder: Path) -> bool:
    for suffix in ("so", "pyd", "dylib"):
        for extension in sorted(folder.glob(f"_C*.{suffix}")):
            try:
                torch.ops.load_library(str(extension))  # type: ignore[no-untyped-call]
            except (ImportError, OSError):
                continue
            return True
    return False


OPERATORS = declare_missing_operators()
