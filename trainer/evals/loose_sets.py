"""Labelled images that no manifest describes, as people have them: class folders, tables, Hugging Face's Parquet.

`find_loose` recognises the layout and the class names; the readers give the same samples as those of shards. Called by
`labelled`.
"""

import ast
import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from pipeline.errors import UserError
from pipeline.storage import IMAGE_EXTENSIONS, MAX_MEMBER_BYTES, ParquetRows, open_text, read_bytes, size_of
from trainer.evals.samples import RawLabelled
from trainer.manifests import read_manifest, shipped_manifests
from trainer.training_inputs import read_lines

Layout = Literal["webdataset", "parquet", "folders", "table"]

TABLE: Final = "labels.csv"
"""CleanCLIP's ImageNet: `image,label`, with `classes.py` beside it."""
IMAGE_COLUMNS: Final = ("image", "filepath", "file_name", "filename", "image_path", "path", "file", "img")
LABEL_COLUMNS: Final = ("label", "labels", "class", "target", "category", "fine_label", "class_id", "wnid")
CLASS_FILES: Final = ("classes.py", "classes.json", "classes.txt", "classnames.txt")
"""Class names beside the images, one of these."""
_SPLITS: Final = {"test": ("test", "val", "validation", "valid"), "val": ("val", "validation", "valid")}


@dataclass(frozen=True, slots=True, kw_only=True)
class LooseSet:
    """What was recognised."""

    layout: Layout
    files: tuple[Path, ...]
    """Of class folders the folder above them."""
    class_ids: tuple[str, ...] = ()
    """What stands for a class in the files, in the labels' order; empty where that is its number."""
    classnames: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    told: str
    """In words."""


def find_loose(source: str, *, split: str) -> LooseSet | None:
    """The set at `source`; None where it is none of these. A folder with splits stands for the one asked for."""
    path = Path(source).expanduser()
    if path.suffix.lower() in (".csv", ".tsv") and path.is_file():
        return _table(path)
    if path.suffix.lower() == ".parquet" and path.is_file():
        return _parquet((path,))
    if not path.is_dir():
        return None
    for folder in (*(path / name for name in _SPLITS.get(split, (split,))), path):
        if (folder / TABLE).is_file():
            return _table(folder / TABLE)
        if names := class_folders(folder):
            return _folders(folder, names)
    found = _parquet_files(path, split)
    return _parquet(found) if found else None


# ------------------------------------------------------------------------------------------------------ class folders
def class_folders(folder: Path) -> tuple[str, ...]:
    """The folders of images in `folder`, at least two and in order (numbers by value); () where there are none."""
    if not folder.is_dir():
        return ()
    names = [name for name in os.listdir(folder) if not name.startswith(".") and _holds_images(folder / name)]
    by_number = all(name.isascii() and name.isdigit() for name in names)
    return (
        tuple(sorted(names, key=lambda name: (int(name) if by_number else 0, name))) if len(names) > 1 else ()
    )


def _holds_images(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    with os.scandir(folder) as entries:
        return any(_is_image(entry.name) for entry in entries)


def _is_image(name: str) -> bool:
    return not name.startswith(".") and name.lower().rpartition(".")[2] in IMAGE_EXTENSIONS


def _folders(folder: Path, names: tuple[str, ...]) -> LooseSet:
    classnames, templates = _classes_beside(folder)
    return LooseSet(
        layout="folders",
        files=(folder,),
        class_ids=names,
        classnames=classnames or _known_names(names),
        templates=templates,
        told=f"class folders of {folder}",
    )


def read_class_folders(
    folder: Path, *, names: Sequence[str], images: bool, faults: list[str]
) -> Iterator[RawLabelled]:
    """The images of each class folder and of those in it, by name; the folder is the label."""
    for name in names:
        found = (
            Path(place) / file
            for place, _, files in os.walk(folder / name)
            for file in files
            if _is_image(file)
        )
        for path in sorted(found):
            yield _from_file(folder, path.relative_to(folder).as_posix(), name, images=images, faults=faults)


def _from_file(
    folder: Path, image: str, label: str | None, *, images: bool, faults: list[str]
) -> RawLabelled:
    """The sample; a file that is missing or too large is named."""
    path, problem, data = folder / image, None, None
    try:
        if size_of(path) > MAX_MEMBER_BYTES:
            problem = "is too large"
        elif images:
            data = read_bytes(path)
    except (OSError, ValueError) as error:
        problem = f"cannot be read ({getattr(error, 'strerror', None) or error})"
    if label is None or problem is not None:
        faults.append(f"{image}: {problem or 'no label'}")
    return RawLabelled(name=image, key=image, has_image=problem is None, image=data, label=label)


# -------------------------------------------------------------------------------------------------------------- tables
def _table(path: Path) -> LooseSet:
    columns, rows = _read_table(path)
    labels = {row[columns["class"]].strip() for row in rows}
    classnames, templates = _classes_beside(path.parent)
    ids: tuple[str, ...] = ()
    if not all(label.isascii() and label.isdigit() for label in labels):
        ids = tuple(sorted(labels - {""}))
        classnames = classnames if len(classnames) == len(ids) else _known_names(ids)
    return LooseSet(
        layout="table",
        files=(path,),
        class_ids=ids,
        classnames=classnames,
        templates=templates,
        columns=columns,
        told=f"{path}: images from {columns['image']}, labels from {columns['class']}",
    )


def _read_table(path: Path) -> tuple[dict[str, str], list[dict[str, str]]]:
    """Which column is what, and the rows; UserError where none holds images or labels."""
    with open_text(path) as file:
        separator = "\t" if path.suffix.lower() == ".tsv" else ","
        reader = csv.DictReader((line.replace("\0", " ") for line in file), delimiter=separator, restval="")
        names = [name for name in reader.fieldnames or [] if name]
        lower = {name.lower().strip(): name for name in reversed(names)}
        columns = {}
        for what, usual in (("image", IMAGE_COLUMNS), ("class", LABEL_COLUMNS)):
            found = next((lower[name] for name in usual if name in lower), None)
            if found is None:
                raise UserError(
                    f"{path} has no column of {'images' if what == 'image' else 'labels'} ({', '.join(usual)}); "
                    f"it has: {', '.join(names)}"
                )
            columns[what] = found
        return columns, list(reader)


def read_label_table(path: Path, *, images: bool, faults: list[str]) -> Iterator[RawLabelled]:
    """The rows of a table; image paths are relative to it."""
    columns, rows = _read_table(path)
    for row in rows:
        label = row[columns["class"]].strip() or None
        yield _from_file(path.parent, row[columns["image"]].strip(), label, images=images, faults=faults)


# ------------------------------------------------------------------------------------------------------------- Parquet
def _parquet_files(folder: Path, split: str) -> tuple[Path, ...]:
    """Hugging Face's files of a split: `data/test-00000-of-00001.parquet`, or in the folder itself."""
    for place in (folder, folder / "data"):
        files = sorted(place.glob("*.parquet"))
        for name in _SPLITS.get(split, (split,)):
            if own := [file for file in files if file.name.startswith((f"{name}-", f"{name}."))]:
                return tuple(own)
        if len(files) == 1:
            return tuple(files)
    return ()


def _parquet(files: tuple[Path, ...]) -> LooseSet:
    rows = ParquetRows(files[0])
    label = next((name for name in LABEL_COLUMNS if name in rows.names), None)
    if label is None or not rows.holding_bytes:
        raise UserError(
            f"{files[0]} has no column of image bytes and of labels ({', '.join(LABEL_COLUMNS)}); it has: "
            f"{', '.join(rows.names)}"
        )
    image = rows.holding_bytes[0]
    return LooseSet(
        layout="parquet",
        files=files,
        classnames=_class_label(rows.metadata, label),
        columns={"image": image, "class": label},
        told=f"{files[0]}: images from {image}, labels from {label}",
    )


def _class_label(metadata: Mapping[str, str], column: str) -> tuple[str, ...]:
    """The names that Hugging Face's description of the columns gives the labels; () where it gives none."""
    try:
        features: Any = json.loads(metadata.get("huggingface", "{}"))["info"]["features"]
        names = features[column]["names"]
    except (ValueError, KeyError, TypeError):
        return ()
    return tuple(map(str, names)) if isinstance(names, list) else ()


# --------------------------------------------------------------------------------------------------------- class names
def _known_names(ids: Sequence[str]) -> tuple[str, ...]:
    """What classes are called: by a shipped manifest that knows them all (WordNet's ids), else as written."""
    for path in shipped_manifests():
        manifest = read_manifest(path)
        if set(ids) <= set(manifest.class_ids):
            known = dict(zip(manifest.class_ids, manifest.classnames, strict=True))
            return tuple(known[name] for name in ids)
    return tuple(name.replace("_", " ") for name in ids)


def _classes_beside(folder: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Class names and templates in one of CLASS_FILES; () where there is none."""
    for name in CLASS_FILES:
        if (folder / name).is_file():
            return read_class_file(folder / name)
    return (), ()


def read_class_file(path: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Class names in the labels' order, and templates where the file has any; UserError where it holds none.

    Lines, a JSON list, or CleanCLIP's `classes.py`, which is parsed and never run.
    """
    try:
        if path.suffix == ".py":
            return _parse_classes(ast.parse(path.read_text(encoding="utf-8"), mode="eval").body)
        names = json.loads(path.read_text(encoding="utf-8")) if path.suffix == ".json" else read_lines(path)
    except OSError as error:
        raise UserError(f"the class names in {path} cannot be read: {error.strerror}") from None
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise UserError(f"{path} is neither a JSON list nor lines of text nor CleanCLIP's: {error}") from None
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{path} must hold a JSON list of class names")
    return tuple(names), ()


def _parse_classes(tree: ast.expr) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """CleanCLIP's `{"classes": [...], "templates": [lambda c: f"a photo of a {c}.", ...]}`, without running it."""
    if not isinstance(tree, ast.Dict):
        raise ValueError("no dictionary of classes")
    parts = {
        key.value: value
        for key, value in zip(tree.keys, tree.values, strict=True)
        if isinstance(key, ast.Constant)
    }
    names = ast.literal_eval(parts.get("classes", ast.Constant(None)))
    templates = parts.get("templates")
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ValueError("its classes are no list of names")
    found = (
        [_template(item) for item in templates.elts] if isinstance(templates, ast.List | ast.Tuple) else []
    )
    return tuple(names), tuple(found)


def _template(item: ast.expr) -> str:
    body = item.body if isinstance(item, ast.Lambda) else item
    if isinstance(body, ast.Constant) and isinstance(body.value, str):
        return body.value
    if not isinstance(body, ast.JoinedStr):
        raise ValueError("a template is no text")
    return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in body.values)
