"""Captions to counterfactual training data, offline: `pipeline --help`. Nothing here imports torch.

The names below are the Python API (docs/api.md): each is imported when it is first asked for, so that
`import pipeline` is cheap.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PLACES = {
    "Caption": "pipeline.schema",
    "CaptionParser": "pipeline.scene_graphs.parser",
    "DemoOptions": "pipeline.demo.data",
    "InputOptions": "pipeline.captions.readers",
    "PipelineOptions": "pipeline.stages",
    "SceneGraph": "pipeline.schema",
    "Subcaption": "pipeline.schema",
    "SubcaptionOptions": "pipeline.subcaptions.making",
    "UserError": "pipeline.errors",
    "connect": "pipeline.looking.query",
    "load_lexicons": "pipeline.lexicons.loading",
    "make_subcaption": "pipeline.subcaptions.making",
    "open_source": "pipeline.captions.readers",
    "run_stages": "pipeline.stages",
    "saved_queries": "pipeline.looking.query",
    "verify": "pipeline.looking.verify",
    "write_demo_data": "pipeline.demo.data",
    "write_preview": "pipeline.looking.preview",
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
