"""The bundled caption parser: a small spaCy pipeline trained for captions, and the recipe that trained it.

`pipeline/scene_graphs/parser.py` loads it; `python -m pipeline.caption_parser.train` makes it again. The folder
`model/` is package data: the pipeline needs no download.

Importing this package imports thinc, spaCy's own library, without torch: thinc imports torch where it is installed,
which the pipeline never uses and which costs every worker some two seconds and 200 MB.
"""

import sys

if "torch" not in sys.modules:
    sys.modules["torch"] = None  # type: ignore[assignment]  # Python then says that there is no torch
    try:
        import thinc.compat  # noqa: F401
    finally:
        del sys.modules["torch"]
