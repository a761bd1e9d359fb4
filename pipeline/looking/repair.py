"""An output folder made whole again without the command that made it: its options stand in the folder."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from pipeline.captions.ingest import INDEX, read_index
from pipeline.captions.readers import Source
from pipeline.errors import UserError
from pipeline.manifest import MANIFEST
from pipeline.records import compare_file
from pipeline.stages import STAGES, PipelineOptions, cached_lexicons, made_with_file, run_stages
from pipeline.storage import find_named, place, read_json
from pipeline.subcaptions.making import SubcaptionOptions


def repair(
    folder: Path, *, lexicons: Path | None, parser: str | None, workers: int, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Compare every file by its hash, make again what differs, and return the manifest.

    Args:
        folder: The --out of augment-captions.
        lexicons: Where they are. None: the bundled ones, or those that the folder holds a copy of.
        parser: The parser that was used, where it was loaded from a path.
        workers: Worker processes.
        tell: Takes a line for each file that was made again.

    Raises:
        UserError: What the folder was made from is gone or has changed, or the folder no longer says what that was.
    """
    if not (folder / "captions").is_dir():
        raise UserError(f"{folder} holds no captions/: is it the --out of `pipeline augment-captions`?")
    made = _made_with(folder)
    scene_graphs, subcaptions, shards = (
        made.get(name, {}) for name in ("scene_graphs", "subcaptions", "shards")
    )
    source, rows_per_part = _source(folder)
    known = {field.name for field in fields(SubcaptionOptions)}
    try:
        options = PipelineOptions(
            out=folder,
            stages=tuple(name for name in STAGES if name == "captions" or name in made),
            parser=parser or scene_graphs.get("parser", {}).get("name", "bundled"),
            rules=scene_graphs.get("parser", {}).get("rules", "default"),
            lexicons=lexicons or _own_lexicons(folder, subcaptions),
            subcaptions=SubcaptionOptions(**{name: subcaptions[name] for name in known & set(subcaptions)}),
            images=shards.get("images", True),
            rows_per_part=rows_per_part,
            workers=workers,
            check=True,
        )
    except (TypeError, AttributeError) as error:
        raise UserError(f"{folder}: its options are damaged: run the original command again") from error
    return run_stages(options, source=source, tell=tell)


def _made_with(folder: Path) -> dict[str, dict[str, Any]]:
    """What each stage that was run is made with: of its folder, or of the manifest where that is damaged."""
    found: dict[str, dict[str, Any]] = {}
    manifest = _read(folder / MANIFEST)
    stages = manifest.get("stages")
    if isinstance(stages, dict):
        found = {name: entry for name, entry in stages.items() if name in STAGES and isinstance(entry, dict)}
    for name in list(STAGES)[1:]:
        content = _read(folder / made_with_file(name))
        if content and name not in found:
            found[name] = {key: value for key, value in content.items() if key != "made_from"}
    for name in list(STAGES)[1:]:
        if name not in found and any((folder / name).glob("*.parquet")):
            raise UserError(
                f"{folder / name} no longer says what it was made with: run the original command again"
            )
    return found


def _read(file: Path) -> dict[str, Any]:
    try:
        content = read_json(file)
    except (UserError, OSError):
        return {}
    return content if isinstance(content, dict) else {}


def _source(folder: Path) -> tuple[Source, int]:
    """What the captions were read from, and how many rows a part has."""
    manifest = _read(folder / MANIFEST)
    files = manifest.get("files")
    entry = files.get(INDEX) if isinstance(files, Mapping) else None
    damaged = isinstance(entry, dict) and compare_file(folder, INDEX, entry, check=True)
    if damaged or not (folder / INDEX).is_file():
        raise UserError(
            f"{damaged or f'{INDEX} is missing'}, and with it what {folder} was read from: "
            "run the original command again, which makes it anew"
        )
    index = read_index(folder / "captions")
    inputs = tuple(find_named(item.path) for item in index.inputs)
    gone = next((file for file in inputs if not file.is_file()), None)
    if gone is not None:
        raise UserError(f"{gone}, which the captions were read from, is not there (seen from this folder)")
    source = Source(
        files=inputs,
        format=index.format,
        caption_column=index.caption_column,
        image_column=index.image_column,
        image_root=None if index.image_root is None else place(index.image_root),
        split=index.split,
    )
    return source, index.rows_per_part or PipelineOptions(out=folder).rows_per_part


def _own_lexicons(folder: Path, subcaptions: Mapping[str, Any]) -> Path | None:
    """The folder's copy, where the bundled lexicons are others than those that were used."""
    wanted = subcaptions.get("lexicons")
    if wanted is None or cached_lexicons(None).identity() == wanted:
        return None
    return folder / "lexicons"
