"""The bundled caption parser: a small spaCy pipeline trained for captions, and the recipe that trained it.

`pipeline/scene_graphs/parser.py` loads it; `python -m pipeline.caption_parser.train` makes it again. The folder
`model/` is package data: the pipeline needs no download.

Importing this package imports spaCy without torch and without its command line. thinc, spaCy's own library, imports
torch where it is installed, which the pipeline never uses and which costs every worker some two seconds and 200 MB;
`spacy.info` alone brings the command line, a third of the time that spaCy's import takes.
"""

import sys
from types import ModuleType
from typing import Any


def _info(*arguments: Any, **options: Any) -> Any:
    """`spacy.info`, with spaCy's command line imported when it is called."""
    from spacy.cli.info import info  # noqa: TID251

    return info(*arguments, **options)


_WITHOUT_INFO = ModuleType("spacy.cli.info")
_WITHOUT_INFO.info = _info  # type: ignore[attr-defined]
_STAND_INS = {
    "torch": None,  # Python then says that there is no torch
    "spacy.cli.info": _WITHOUT_INFO,
}

if "spacy" not in sys.modules:
    _absent = {name: module for name, module in _STAND_INS.items() if name not in sys.modules}
    sys.modules.update(_absent)  # type: ignore[arg-type]
    try:
        import spacy  # noqa: F401, TID251
    finally:
        for _name in _absent:
            del sys.modules[_name]
