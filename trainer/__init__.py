"""Fine-tune a CLIP that may carry a backdoor, and measure what is left of it: `trainer --help`.

The names below are the Python API (docs/api.md): each is imported when it is first asked for, so that
`import trainer` is cheap.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PLACES = {
    "Audit": "trainer.audit.auditing",
    "BatchOptions": "trainer.batches",
    "ClipModel": "trainer.model",
    "Evaluation": "trainer.evals",
    "LabelledImages": "trainer.evals",
    "ModelChoice": "trainer.model",
    "OptimOptions": "trainer.optim",
    "SearchOptions": "trainer.audit.search",
    "Source": "trainer.launch",
    "TrainOptions": "trainer.train",
    "Trigger": "trainer.attacks.trigger",
    "attack": "trainer.launch",
    "audit_model": "trainer.audit.auditing",
    "choose_options": "trainer.defences",
    "convert": "trainer.conversion",
    "craft_trigger": "trainer.attacks",
    "defend": "trainer.launch",
    "embed_classes": "trainer.embedding",
    "evaluate_zero_shot": "trainer.evals",
    "load_labelled": "trainer.evals",
    "load_model": "trainer.model",
    "load_trigger": "trainer.attacks",
    "model_card": "trainer.conversion",
}
__all__ = ["__version__", *_PLACES]  # noqa: PLE0604  # all of them names


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_PLACES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_PLACES])
