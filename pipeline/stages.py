"""The stages in their order, over parts: captions -> scene_graphs -> subcaptions -> shards, and then the manifest.

A part's files carry its number in every folder. Each folder's `_options.json` says what it was made with: a rerun
with the same options continues where the last one stopped, one with others is refused. `manifest.json` is written
last: it exists = the folder is complete.
"""

import atexit
import functools
import gc
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from pipeline.captions.ingest import INDEX, CaptionsIndex, ingest, read_index
from pipeline.captions.readers import InputOptions, Source, open_source
from pipeline.engine import map_parts
from pipeline.errors import UserError
from pipeline.lexicons.loading import Lexicons, load_lexicons
from pipeline.manifest import MANIFEST, write_manifest
from pipeline.scene_graphs.parser import CaptionParser
from pipeline.schema import Caption
from pipeline.shards import write_shard
from pipeline.storage import (
    hold,
    read_json,
    read_table,
    remove_unfinished,
    write_json,
    write_table,
)
from pipeline.subcaptions.making import SubcaptionOptions, make_subcaption
from pipeline.tables import read_captions, read_scene_graphs, scene_graphs_table, subcaptions_table

MADE_WITH: Final = "_options.json"


@dataclass(frozen=True, kw_only=True)
class PipelineOptions:
    """What to make, of what."""

    out: Path
    """Output folder."""
    source: InputOptions | None = None
    """None continues with the captions that `out` already holds."""
    stages: tuple[str, ...] = field(default_factory=lambda: tuple(STAGES))
    """The stages to run, in order."""
    parser: str = "bundled"
    """'bundled', the name of an installed spaCy pipeline, or a path to one."""
    rules: str = "default"
    """Scene-graph rules: 'default', or 'sng' for SceneGraphParser's own."""
    lexicons: Path | None = None
    """Folder made by build-lexicons. Default: the ones that come with the package."""
    subcaptions: SubcaptionOptions = SubcaptionOptions()  # noqa: RUF009  (frozen)
    """Negatives and views per caption, and the seed."""
    images: bool = True
    """Copy the images into the shards; without, they hold texts alone, aligned with the image shards."""
    rows_per_part: int = field(default=10_000, metadata={"name": "rows_per_shard"})
    """Rows per shard where the input is no tar."""
    workers: int = 1
    """Worker processes."""
    overwrite: bool = False
    """Make it again, whatever OUT holds of it."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.stages if name not in STAGES]
        if unknown:
            raise UserError(f"there is no stage {unknown[0]!r}; one of: {', '.join(STAGES)}")
        if self.rows_per_part < 1:
            raise UserError(f"rows per part must be at least 1, not {self.rows_per_part}")
        if self.workers < 1:
            raise UserError(f"workers must be at least 1, not {self.workers}")


# ---------------------------------------------------------------------------------------------- the table of stages
@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One part of one stage, to be made: what its function is called with."""

    options: PipelineOptions
    format: str
    """Of the input."""
    number: int
    captions: Sequence[Caption]
    """The part's rows."""
    file: Path
    """To be written last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage: a folder of files, one or more for each part."""

    last_file: str
    """Name of the file of a part that is written last, with a place for its number: it exists = the part is done."""
    identity: Callable[[PipelineOptions, CaptionsIndex], dict[str, Any]]
    """What decides its bytes, beside what it is made from."""
    make: Callable[[Work], None] | None
    """Makes one part from what the stages before it wrote; None: the stage is made as a whole, by `_captions`."""
    prepare: Callable[[PipelineOptions], None] | None = None
    """What it does once, before its first part."""
    finish: Callable[[PipelineOptions, CaptionsIndex], None] | None = None
    """What it does once, when every part is done."""
    tells_status: bool = False
    """Whether its rows say what became of each caption; the manifest counts those of the last stage that does."""


@functools.lru_cache(maxsize=1)
def _parser(spec: str, rules: str) -> CaptionParser:
    return CaptionParser(spec, rules=rules)


@functools.lru_cache(maxsize=1)
def _lexicons(folder: Path | None) -> Lexicons:
    lexicons = load_lexicons(folder)
    gc.freeze()  # they stay: no garbage collection need walk through them, but for the last
    atexit.register(gc.unfreeze)
    return lexicons


def _make_scene_graphs(work: Work) -> None:
    parser = _parser(work.options.parser, work.options.rules)
    graphs = list(parser.parse(row.caption for row in work.captions))
    write_table(work.file, scene_graphs_table(work.captions, graphs))


def _make_subcaptions(work: Work) -> None:
    graphs = read_scene_graphs(read_table(_before(work, "scene_graphs", "parse-captions")))
    lexicons = _lexicons(work.options.lexicons)
    rows = (
        make_subcaption(caption, graph, lexicons, work.options.subcaptions)
        for caption, graph in zip(work.captions, graphs, strict=True)
    )
    write_table(work.file, subcaptions_table(rows))


def _make_shard(work: Work) -> None:
    write_shard(
        work.captions,
        read_table(_before(work, "subcaptions", "augment-captions")),
        format=work.format,
        folder=work.file.parent,
        number=work.number,
        with_images=work.options.images,
    )


def _before(work: Work, stage: str, command: str) -> Path:
    """The file of this part that an earlier stage wrote."""
    file = _part_file(work.options.out, stage, work.number)
    if not file.exists():
        raise UserError(f"{file} is missing: run `pipeline {command}` first")
    return file


def _write_sizes(options: PipelineOptions, index: CaptionsIndex) -> None:
    write_json(
        options.out / "shards" / "sizes.json", {f"{part.number:05d}.tar": part.rows for part in index.parts}
    )


STAGES: Final[Mapping[str, Stage]] = {
    "captions": Stage(
        last_file="{:05d}.parquet",
        identity=lambda _, index: {"inputs": [item.sha256 for item in index.inputs], "rows": index.rows},
        make=None,
    ),
    "scene_graphs": Stage(
        last_file="{:05d}.parquet",
        identity=lambda options, _: {"parser": _parser(options.parser, options.rules).identity()},
        make=_make_scene_graphs,
        tells_status=True,
    ),
    "subcaptions": Stage(
        last_file="{:05d}.parquet",
        identity=lambda options, _: {
            "lexicons": _lexicons(options.lexicons).identity(),
            **asdict(options.subcaptions),
        },
        make=_make_subcaptions,
        prepare=lambda options: _lexicons(options.lexicons).copy_to(options.out / "lexicons"),
        tells_status=True,
    ),
    "shards": Stage(
        last_file="{:05d}_stats.json",
        identity=lambda options, _: {"images": options.images},
        make=_make_shard,
        finish=_write_sizes,
    ),
}
"""By name, which is the folder's, in their order: each is made from the ones before it."""


def _part_file(out: Path, stage: str, number: int) -> Path:
    """The file of a part that is written last."""
    return out / stage / STAGES[stage].last_file.format(number)


# ------------------------------------------------------------------------------------------------------------ the run
def run_stages(options: PipelineOptions) -> dict[str, Any]:
    """Run the stages that are not yet complete and return the manifest."""
    out = options.out
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; --out wants a folder")
    source = None if options.source is None else open_source(options.source)
    if source is None and not (out / "captions" / INDEX).exists():
        raise UserError(f"{out} holds no captions; run `pipeline parse-captions INPUT --out {out}`")
    with hold(out):
        return _run_stages(options, source)


def _run_stages(options: PipelineOptions, source: Source | None) -> dict[str, Any]:
    out = options.out
    if options.overwrite:
        _remove(out, [stage for stage in options.stages if source is not None or stage != "captions"])
    index = _captions(options, source)
    _prepare(options, index)
    (out / MANIFEST).unlink(missing_ok=True)
    partwise = [name for name in options.stages if STAGES[name].make is not None]
    todo = [
        part.number
        for part in index.parts
        if not all(_part_file(out, stage, part.number).exists() for stage in partwise)
    ]
    work = functools.partial(_run_part, replace(options, source=None), index.format)
    label = "writing " + " and ".join(stage.replace("_", " ") for stage in partwise)
    for _ in map_parts(work, todo, workers=options.workers, label=label):
        pass
    return _finish(options, index)


def _remove(out: Path, stages: Sequence[str]) -> None:
    """Delete the folders of these stages and of the ones made from them; nothing else in `out` is touched."""
    if not stages:
        return
    names = tuple(STAGES)
    for name in names[min(names.index(stage) for stage in stages) :]:
        shutil.rmtree(out / name, ignore_errors=True)
    (out / MANIFEST).unlink(missing_ok=True)


def _captions(options: PipelineOptions, source: Source | None) -> CaptionsIndex:
    folder = options.out / "captions"
    if source is None:
        return read_index(folder)
    return ingest(source, folder, rows_per_part=options.rows_per_part, workers=options.workers)


def _run_part(options: PipelineOptions, format: str, number: int) -> None:
    """Make what is missing of one part; each stage reads what the ones before it wrote."""
    captions = read_captions(read_table(_part_file(options.out, "captions", number)))
    for name in options.stages:
        make, file = STAGES[name].make, _part_file(options.out, name, number)
        if make is not None and not file.exists():
            make(Work(options=options, format=format, number=number, captions=captions, file=file))


# ------------------------------------------------------------------------------------- what each folder was made with
def _identities(options: PipelineOptions, index: CaptionsIndex) -> dict[str, dict[str, Any]]:
    """For each stage to run part by part, what decides its bytes; each contains the one before it."""
    found: dict[str, dict[str, Any]] = {}
    before: dict[str, Any] | None = None
    for name, stage in STAGES.items():
        if before is None:
            before = stage.identity(options, index)
        elif name in options.stages:
            before = {**stage.identity(options, index), "made_from": before}
            found[name] = before
        elif (options.out / name / MADE_WITH).exists():
            before = read_json(options.out / name / MADE_WITH)
    return found


def _prepare(options: PipelineOptions, index: CaptionsIndex) -> None:
    """Refuse to mix options, and write each stage's own before its first part."""
    identities = _identities(options, index)
    for name, identity in identities.items():
        file = options.out / name / MADE_WITH
        if file.exists() and (found := read_json(file)) != identity:
            raise UserError(
                f"{file.parent} was made with other options ({_difference(found, identity)}): "
                "choose another --out, or --overwrite"
            )
    for name, identity in identities.items():
        write_json(options.out / name / MADE_WITH, identity)
        prepare = STAGES[name].prepare
        if prepare is not None:
            prepare(options)


def _difference(found: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    for name in sorted({*found, *asked}):
        was, now = found.get(name), asked.get(name)
        if was != now:
            if isinstance(was, dict) and isinstance(now, dict):
                return f"{name}: {_difference(was, now)}"
            return f"{name} {was!r}, now {now!r}"
    return "none"


def _finish(options: PipelineOptions, index: CaptionsIndex) -> dict[str, Any]:
    remove_unfinished(options.out)
    for name in options.stages:
        finish = STAGES[name].finish
        if finish is not None:
            finish(options, index)
    made = [name for name in STAGES if (options.out / name / MADE_WITH).exists()]
    return write_manifest(
        options.out,
        index,
        made={name: _without_source(read_json(options.out / name / MADE_WITH)) for name in made},
        told_by=next((name for name in reversed(made) if STAGES[name].tells_status), None),
        files=files_of(options.out),
        workers=options.workers,
    )


def _without_source(identity: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in identity.items() if name != "made_from"}


def files_of(out: Path) -> list[Path]:
    """Every file that the manifest of `out` vouches for, sorted stage by stage."""
    return [
        file for name in (*STAGES, "lexicons") for file in sorted((out / name).rglob("*")) if file.is_file()
    ]
