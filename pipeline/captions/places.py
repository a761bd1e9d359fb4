"""Where an input's files are and what they are: folders as people have them, formats, image roots."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from pipeline.captions.columns import Columns
from pipeline.captions.delimited import format_of_lines
from pipeline.captions.json_files import format_of_json
from pipeline.errors import UserError
from pipeline.storage import is_file, is_remote

SUFFIXES: Final = {
    ".tar": "webdataset",
    ".parquet": "parquet",
    ".tsv": "lines",
    ".csv": "lines",
    ".txt": "lines",
    ".token": "lines",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
"""What the files of a suffix are; lines and JSON are told apart by how they begin."""
_SUFFIXES_OF_FORMAT: Final = {
    "webdataset": (".tar",),
    "parquet": (".parquet",),
    "cc3m": (".tsv", ".txt"),
    "csv": (".csv", ".tsv", ".txt"),
    "flickr": (".token", ".txt"),
    "text": (".txt",),
    "coco": (".json",),
    "karpathy": (".json",),
    "json": (".json",),
    "jsonl": (".jsonl", ".ndjson", ".json"),
}
FORMATS: Final = tuple(_SUFFIXES_OF_FORMAT)
_NO_CAPTIONS: Final = re.compile(
    r"^(?:(?:instances|person_keypoints|panoptic|stuff|image_info)_.*|dataset_infos?|dataset_dict|state|croissant"
    r"|manifest|sizes|index|options|labels|readme|license|requirements|classes)\.\w+$|_stats\.json$",
    re.IGNORECASE,
)
"""Files beside captions that hold none: COCO's other annotations, what data sets say of themselves."""
_SPLIT: Final = re.compile(r"(?:^|[-_.])(train|validation|valid|val|test|dev)(?=[-_.]|\d{4}|$)")
_IN_A_FOLDER: Final = (
    (".tar",),
    (".parquet",),
    (".jsonl", ".ndjson"),
    (".tsv",),
    (".csv",),
    (".json",),
    (".token",),
    (".txt",),
)
"""What a folder's captions are looked for in, first to last."""
_INNER_FOLDERS: Final = ("data", "annotations")


def format_of(path: Path, wanted: Columns) -> str:
    """The format of a file; UserError where neither its name nor its beginning tells it."""
    kind = SUFFIXES.get(_suffix(path))
    if kind is None:
        raise UserError(
            f"{path}: cannot tell the format from the name ({', '.join(SUFFIXES)}); say it with --format"
        )
    if kind == "lines":
        return format_of_lines(path, wanted)
    return format_of_json(path) if kind == "json" else kind


def _suffix(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).suffix.lower()


def without_other_files(files: Sequence[Path]) -> list[Path]:
    """The files of a pattern without those beside them that hold no captions; all, where nothing would be left."""
    return [file for file in files if not _NO_CAPTIONS.search(file.name)] or list(files)


def files_in(folder: Path, *, format: str | None, split: str | None) -> list[Path]:
    """The caption files of a folder: its tars where it has any (img2dataset writes Parquet and JSON beside them).

    Else its Parquet, else its tables and JSON; where it has none of its own, those in `data/` or `annotations/`,
    then those one or two folders deeper, as Hugging Face keeps them. Of several splits `split`, by default train.
    """
    for found in _places(folder):
        chosen = _of_one_kind(found, format)
        if chosen:
            return _of_split(chosen, split, folder)
    raise UserError(f"{folder}: no {format or 'caption'} files in this folder ({', '.join(SUFFIXES)})")


def _places(folder: Path) -> Iterator[list[Path]]:
    yield _files(folder)
    for name in _INNER_FOLDERS:
        if (folder / name).is_dir():
            yield _files(folder / name)
    for depth in ("*/*.parquet", "*/*/*.parquet"):
        yield sorted(path for path in folder.glob(depth) if path.is_file())


def _files(folder: Path) -> list[Path]:
    return sorted(
        path for path in folder.iterdir() if path.is_file() and not path.name.startswith((".", "_"))
    )


def _of_one_kind(files: list[Path], format: str | None) -> list[Path]:
    wanted = [file for file in files if not _NO_CAPTIONS.search(file.name)]
    if format is not None:
        kinds: Sequence[tuple[str, ...]] = [(suffix,) for suffix in _SUFFIXES_OF_FORMAT[format]]
    else:
        kinds = _IN_A_FOLDER
    found = ([file for file in wanted if _suffix(file) in kind] for kind in kinds)
    return next((files for files in found if files), [])


def split_of(file: Path) -> str | None:
    """The split that a file's name, or its folder's, tells; None where neither does."""
    for name in (file.name, file.parent.name):
        if found := _SPLIT.search(name.lower()):
            return found.group(1)
    return None


def _of_split(files: list[Path], split: str | None, folder: Path) -> list[Path]:
    splits = {file: split_of(file.relative_to(folder)) for file in files}
    several = len(set(splits.values())) > 1
    if split is None:
        return (
            [file for file in files if splits[file] == "train"]
            if several and "train" in splits.values()
            else files
        )
    found = [file for file in files if splits[file] == split]
    if not found and any(splits.values()):
        named = ", ".join(sorted(name for name in set(splits.values()) if name is not None))
        raise UserError(f"{folder} has no split {split!r}; it has: {named}")
    return found or files


def find_root(file: Path, images: Sequence[str], given: Path | None) -> Path:
    """The folder that image paths are relative to: as given, else the first usual place where one of them is.

    Usual are the file's own folder, the one above, `images` in both, and COCO's `val2017` beside `annotations`.
    """
    if given is not None:
        if is_remote(given) != is_remote(file):
            raise UserError(
                f"--image-root {given}: images lie where their captions do, and {file} is elsewhere"
            )
        return given.expanduser()
    paths = [image for image in images if "://" not in image and "\0" not in image][:5]
    for place in _usual_roots(file):
        if any(is_file(place / path) for path in paths) and _stays(place, file):
            return place
    return file.parent


def _stays(place: Path, file: Path) -> bool:
    """Whether no link leads from a usual place to elsewhere than the file's folder and the one above."""
    return place.resolve().is_relative_to((file.parent / "..").resolve())


def _usual_roots(file: Path) -> Iterator[Path]:
    of_split = file.name.partition(".")[0].rpartition("_")[2]
    for folder in (file.parent, file.parent / ".."):
        yield folder
        for name in ("images", "Images", of_split, f"images/{of_split}"):
            yield folder / name
