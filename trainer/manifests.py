"""Data manifests: what a data set is, where it comes from, and which files, counts, classes and prompts it has.

One JSON file per set in `data_manifests/`; `pipeline demo-data` writes one, too. The table FIELDS is the schema: what
the shipped ones must say, and what any other may. Read by `training_inputs` and by `evals`.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, Final

from pipeline.errors import UserError
from pipeline.storage import expand_braces, read_json, sha256_file
from trainer.data import find_shards

WEBDATASET: Final = "webdataset"
PARQUET: Final = "parquet"
FORMATS: Final = (WEBDATASET, PARQUET, "coco-json", "cc3m-tsv", "image-url-list")
SHIPPED_FOLDERS: Final = (
    Path(__file__).parent / "default_manifests",
    Path(__file__).parents[1] / "data_manifests",
)
"""Inside the installed package; at the top of a checkout."""

Check = Callable[[Any], str | None]
"""A field's value -> what is wrong with it, or None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """One part of a data set."""

    shards: str
    """Pattern relative to the root: files, globs, braces, joined by `::`."""
    num_samples: int | None
    """None where it is not known."""
    sha256: Mapping[str, str]
    """Of files below the root, where the copy is a known one; of others there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataManifest:
    """One manifest, checked."""

    path: Path
    root: Path
    """The folder that the splits' files are relative to."""
    name: str
    description: str
    format: str
    splits: Mapping[str, Split]
    classnames: tuple[str, ...]
    """In the labels' order; empty for sets without classes."""
    templates: tuple[str, ...]
    class_ids: tuple[str, ...]
    """What stands for a class in the files where that is no number (WordNet ids, say), in the labels' order."""
    columns: Mapping[str, str]
    """Of Parquet files: which column holds `image`, `class` and `file`."""

    def split(self, name: str) -> Split:
        """The split of that name; UserError where there is none."""
        if name not in self.splits:
            raise UserError(f"{self.path} has no split {name!r}; it has: {', '.join(self.splits)}")
        return self.splits[name]

    def pattern(self, name: str) -> str:
        """The split's shards as a pattern with the root before every part."""
        return "::".join(str(self.root / part) for part in self.split(name).shards.split("::"))

    def files(self, name: str) -> tuple[Path, ...]:
        """The split's files; UserError where a part of the pattern finds nothing."""
        return find_shards(self.pattern(name))


def open_manifest(source: str, *, root: Path | None = None) -> DataManifest | None:
    """The manifest in a `.json` file, or a shipped one by its name; None where `source` is neither.

    A shipped one's name means it, whatever files and folders of that name there are: `./NAME` means those. Files are
    looked for below `root`, by default beside the `.json` file, and a shipped one's in this folder.
    UserError where the file is missing or no manifest.
    """
    path = Path(source).expanduser()
    if path.suffix == ".json":
        return read_manifest(path, root=root)
    shipped = None if path.name != source else _find_shipped(source)
    return None if shipped is None else read_manifest(shipped, root=root or Path())


def require_manifest(source: str, *, root: Path | None = None) -> DataManifest:
    """As `open_manifest`; UserError where `source` is neither a file's path nor a shipped manifest's name."""
    manifest = open_manifest(source, root=root)
    if manifest is None:
        raise UserError(f"there is no data manifest {source}; shipped ones: {', '.join(shipped_names())}")
    return manifest


@cache
def default_templates() -> tuple[str, ...]:
    """CLIP's 80 templates for ImageNet: prompts, and captions of poisoned samples, where no others are given."""
    path = _find_shipped("imagenet1k")
    if path is None:
        raise UserError(
            "the shipped data manifests are missing: install the package again, or give --templates"
        )
    return read_manifest(path).templates


def _find_shipped(name: str) -> Path | None:
    found = (folder / f"{name}.json" for folder in SHIPPED_FOLDERS)
    return next((file for file in found if file.is_file()), None)


def shipped_manifests() -> tuple[Path, ...]:
    """The files of the manifests that come with the project, by name."""
    found = {path.stem: path for folder in SHIPPED_FOLDERS[::-1] for path in folder.glob("*.json")}
    return tuple(found[name] for name in sorted(found))


def shipped_names() -> tuple[str, ...]:
    """The names of the manifests that come with the project, sorted."""
    return tuple(path.stem for path in shipped_manifests())


def read_manifest(path: Path, *, root: Path | None = None) -> DataManifest:
    """The manifest in a file, its files below `root`, by default beside it.

    Raises:
        UserError: No such file, or no manifest: the first thing that is wrong is named.
    """
    if not path.is_file():
        raise UserError(f"there is no data manifest {path}; shipped ones: {', '.join(shipped_names())}")
    content = read_json(path)
    problems = list(problems_of(content))
    if problems:
        raise UserError(f"{path} is no data manifest (see docs/format.md): {problems[0]}")
    return DataManifest(
        path=path,
        root=path.parent if root is None else root,
        name=content["name"],
        description=content.get("description") or "",
        format=content.get("format", WEBDATASET),
        splits={
            name: Split(
                shards=split["shards"],
                num_samples=split.get("num_samples"),
                sha256=split.get("sha256") or {},
            )
            for name, split in content["splits"].items()
        },
        classnames=tuple(content.get("classnames") or ()),
        templates=tuple(content.get("templates") or ()),
        class_ids=tuple(content.get("class_ids") or ()),
        columns=content.get("columns") or {},
    )


def check_hashes(manifest: DataManifest, split: str) -> Iterator[str]:
    """What is missing or not the file that the manifest describes, a line each."""
    for name, expected in manifest.split(split).sha256.items():
        path = manifest.root / name
        if not path.is_file():
            yield f"{path} is missing"
        elif (found := sha256_file(path)) != expected:
            yield f"{path} is not the file that {manifest.path.name} describes (its sha256: {found[:16]})"


# ------------------------------------------------------------------------------------------------------- the schema
def problems_of(content: Any, *, complete: bool = False) -> Iterator[str]:
    """What is wrong with a manifest's content, a line each; `complete` asks for all that a shipped one must say."""
    if not isinstance(content, Mapping):
        yield f"it holds no JSON object but {type(content).__name__}"
        return
    for name, (required, check) in FIELDS.items():
        if content.get(name) is None:
            if required == "always" or (complete and required == "shipped"):
                yield f"the field {name} is missing"
        elif (problem := check(content[name])) is not None:
            yield f"{name} {problem}"
    if complete:
        yield from (f"the field {name} is unknown" for name in content if name not in FIELDS)
    yield from _classes_agree(content)


def _classes_agree(content: Mapping[str, Any]) -> Iterator[str]:
    names, ids = content.get("classnames"), content.get("class_ids")
    if isinstance(names, list) and isinstance(ids, list) and len(names) != len(ids):
        yield f"classnames and class_ids differ in number: {len(names)} and {len(ids)}"
    if content.get("format") == PARQUET and "image" not in (content.get("columns") or {}):
        yield "columns must name the column `image` of Parquet files"


def _text(value: Any) -> str | None:
    return None if isinstance(value, str) and value.strip() else "must be a text"


def _format(value: Any) -> str | None:
    return None if value in FORMATS else f"must be one of {', '.join(FORMATS)}, not {value!r}"


def _texts(value: Any) -> str | None:
    wrong = not isinstance(value, list) or any(_text(item) for item in value)
    return "must be a list of texts" if wrong else None


def _distinct_texts(value: Any) -> str | None:
    if _texts(value) is not None:
        return _texts(value)
    twice = next((item for i, item in enumerate(value) if item in value[:i]), None)
    return None if twice is None else f"holds {twice!r} more than once"


def _templates(value: Any) -> str | None:
    wrong = _distinct_texts(value)
    if wrong is None and any(template.count("{}") != 1 for template in value):
        wrong = "must have exactly one {} each"
    return wrong


def _columns(value: Any) -> str | None:
    known = ("image", "class", "class_name", "file")
    if not isinstance(value, Mapping) or any(_text(column) for column in value.values()):
        return "must name columns"
    return next((f"knows {', '.join(known)}, not {name!r}" for name in value if name not in known), None)


def _splits(value: Any) -> str | None:
    if not isinstance(value, Mapping) or not value:
        return "must be an object with at least one split"
    told = ((name, _split(split)) for name, split in value.items())
    return next((f"{name}: {problem}" for name, problem in told if problem), None)


def _split(split: Any) -> str | None:
    if not isinstance(split, Mapping) or _text(split.get("shards")):
        return "must say its shards"
    try:
        names = [name for part in split["shards"].split("::") for name in expand_braces(part)]
    except UserError as error:
        return f"shards: {error}"
    if not all(map(_is_relative, names)):
        return "shards must stand below the root: no absolute path, no .."
    num = split.get("num_samples")
    if num is not None and not (isinstance(num, int) and not isinstance(num, bool) and num > 0):
        return f"num_samples must be a number above 0 or null, not {num!r}"
    return _hashes(split.get("sha256") or {})


def _hashes(hashes: Any) -> str | None:
    if not isinstance(hashes, Mapping):
        return "sha256 must name files"
    for name, digest in hashes.items():
        if not _is_relative(name):
            return f"sha256 names {name!r}, which is not below the root"
        if not isinstance(digest, str) or re.fullmatch("[0-9a-f]{64}", digest) is None:
            return f"sha256 of {name} must be 64 hexadecimal digits"
    return None


def _is_relative(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(name) and not path.is_absolute() and ".." not in path.parts


FIELDS: Final[Mapping[str, tuple[str, Check]]] = {
    "name": ("always", _text),
    "description": ("shipped", _text),
    "source": ("shipped", _text),
    "licence": ("shipped", _text),
    "how_to_get": ("shipped", _text),
    "format": ("shipped", _format),
    "attribution": ("", _text),
    "columns": ("", _columns),
    "class_ids": ("", _distinct_texts),
    "classnames": ("", _texts),
    "templates": ("", _templates),
    "splits": ("always", _splits),
}
"""Each field: whether it is needed (always, or of the shipped ones), and what it must be."""
