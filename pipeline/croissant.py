"""`croissant.json`: an output folder's tables in the vocabulary that data-set tools read (Croissant 1.0).

Made of the Arrow schemas alone, so it says of every column what it is; no time, no host. Called by `stages`.
"""

from collections.abc import Iterable
from typing import Any, Final

import pyarrow as pa

from pipeline import tables

CROISSANT: Final = "croissant.json"
_TABLES: Final = {
    "captions": (tables.CAPTIONS, "The captions as they were read."),
    "scene_graphs": (tables.SCENE_GRAPHS, "What each caption says is in the image."),
    "subcaptions": (tables.SUBCAPTIONS, "Each caption's positive, counterfactual negatives, and text views."),
    "shards": (tables.SAMPLES, "The samples of the WebDataset shards beside the files."),
}  # fmt: skip
_OURS: Final = (
    "citeAs",
    "column",
    "conformsTo",
    "equivalentProperty",
    "extract",
    "field",
    "fileObject",
    "fileProperty",
    "fileSet",
    "format",
    "includes",
    "isLiveDataset",
    "jsonPath",
    "key",
    "md5",
    "parentField",
    "path",
    "recordSet",
    "references",
    "regex",
    "repeated",
    "replace",
    "samplingRate",
    "separator",
    "source",
    "subField",
    "transform",
)
_CONTEXT: Final = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    **{name: f"cr:{name}" for name in _OURS},
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
}


def describe_tables(stages: Iterable[str], *, version: str) -> dict[str, Any]:
    """The description of an output folder that holds these stages."""
    held = [name for name in _TABLES if name in stages]
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": "counterfactual-captions",
        "description": "Captions with scene graphs and counterfactual sub-captions, made by CleanerCLIP's pipeline. "
        "Sub-captions are synthetic: words of the captions, replaced from lexicons.",
        "version": version,
        "citeAs": "CleanerCLIP, arXiv 2409.17601",
        "distribution": [
            {
                "@type": "cr:FileSet",
                "@id": f"{name}-files",
                "name": f"{name}-files",
                "encodingFormat": "application/x-parquet",
                "includes": f"{name}/*.parquet",
            }
            for name in held
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": name,
                "name": name,
                "description": _TABLES[name][1],
                "key": {"@id": f"{name}/key"},
                "field": [_field(field, name, name, column=field.name) for field in _TABLES[name][0]],
            }
            for name in held
        ],
    }


def _field(field: pa.Field, place: str, stage: str, *, column: str, path: str = "") -> dict[str, Any]:
    """A column, or what is nested in one: found by its JSON path there."""
    kind, name = field.type, f"{place}/{field.name}"
    found: dict[str, Any] = {"@type": "cr:Field", "@id": name, "name": name}
    if pa.types.is_list(kind):
        found["repeated"] = True
        kind = kind.value_type
    if pa.types.is_struct(kind):
        inner = (f"{path}.{field.name}" if path or field.name != column else "$[*]").removesuffix(
            f".{column}"
        )
        found["subField"] = [_field(each, name, stage, column=column, path=inner) for each in kind]
        return found
    found["dataType"] = "sc:Integer" if pa.types.is_integer(kind) else "sc:Text"
    found["source"] = {"fileSet": {"@id": f"{stage}-files"}, "extract": {"column": column}}
    if path:
        found["source"]["transform"] = {"jsonPath": f"{path}.{field.name}"}
    return found
