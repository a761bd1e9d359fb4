"""The stages in their order, over parts: captions -> scene_graphs -> subcaptions -> shards, and then the manifest.

A part's files carry its number in every folder. `stages/` says what each folder was made with: a rerun
with the same options continues where the last one stopped, one with others is refused. What a rerun finds is compared
with the part's record, and made again where it differs. `manifest.json` is written last: it exists = the folder is
complete.
"""

import atexit
import functools
import gc
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipeline import __version__
from pipeline.captions.columns import clean
from pipeline.captions.ingest import (
    INDEX,
    CaptionsIndex,
    Part,
    check_inputs,
    damaged_parts,
    ingest,
    read_index,
)
from pipeline.captions.readers import InputOptions, Source, open_source
from pipeline.croissant import CROISSANT, describe_tables
from pipeline.engine import map_parts, ray_cluster, without_garbage_collection, workers_kept
from pipeline.errors import UserError
from pipeline.lexicons.loading import Lexicons, load_lexicons
from pipeline.manifest import MANIFEST, read_files, write_manifest
from pipeline.records import (
    FOLDER,
    compare_file,
    compare_part,
    described_files,
    forget_stages,
    hash_identity,
    keep_record,
    read_record,
    recorded_parts,
)
from pipeline.scene_graphs.identity import BUNDLED, bundled_identity
from pipeline.schema import MAX_CAPTION_CHARACTERS, Caption, SceneGraph, Subcaption
from pipeline.shards import write_shard
from pipeline.storage import (
    append_line,
    describe_file,
    find_named,
    give_back_memory,
    hold,
    is_of_this_process,
    place,
    read_json,
    read_table,
    remove_folder,
    remove_unfinished,
    size_of,
    write_json,
    write_lines,
    write_table,
)
from pipeline.subcaptions.making import SubcaptionOptions, make_subcaption
from pipeline.tables import (
    read_captions,
    read_scene_graphs,
    read_subcaptions,
    scene_graphs_table,
    subcaptions_table,
)

if TYPE_CHECKING:
    from pipeline.scene_graphs.parser import CaptionParser

MADE_WITH: Final = "stages"
"""The folder that says of each stage what it was made with: in the stages' own, it would be read as a table."""
ENGINES: Final = ("local", "ray")
BYTES_PER_CAPTION: Final = 200
"""More than most have in a file: by it no worker is started that would have nothing to do."""


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
    engine: str = "local"
    """local, or ray: parts are done by the workers of a Ray cluster, which must see INPUT and OUT."""
    ray_address: str | None = None
    """Of the cluster. Default: RAY_ADDRESS, else a Ray of this machine, with --workers."""
    check: bool = False
    """Compare what OUT holds by its hash, too, not by its size alone."""
    overwrite: bool = False
    """Make it again, whatever OUT holds of it."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.stages if name not in STAGES]
        if unknown:
            raise UserError(f"there is no stage {unknown[0]!r}; one of: {', '.join(STAGES)}")
        if self.rows_per_part < 1:
            raise UserError(f"rows per part must be at least 1, not {self.rows_per_part}")
        if self.engine not in ENGINES:
            raise UserError(f"there is no engine {self.engine!r}; one of: {', '.join(ENGINES)}")
        if self.ray_address is not None and self.engine != "ray":
            raise UserError("--ray-address goes with --engine ray")
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
    image_root: Path | None
    """Folder that no image of the part may lie outside of; None: the input file's."""
    captions: Sequence[Caption]
    """The part's rows."""
    file: Path
    """To be written last."""
    made: dict[str, Any]
    """By stage, the rows that stages before this one have just made of the part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage: a folder of files, one or more for each part."""

    names: tuple[str, ...]
    """Of the files of a part, in the order in which they are written, with a place for its number."""
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
def _parser(spec: str, rules: str) -> "CaptionParser":
    from pipeline.scene_graphs.parser import CaptionParser  # loads spaCy, for who parses alone

    return CaptionParser(spec, rules=rules)


def _parser_identity(spec: str, rules: str) -> dict[str, str]:
    return bundled_identity(rules) if spec == BUNDLED else _parser(spec, rules).identity()


@functools.lru_cache(maxsize=1)
def cached_lexicons(folder: Path | None) -> Lexicons:
    """The lexicons of a folder, None for the bundled ones; loaded once."""
    lexicons = load_lexicons(folder)
    gc.freeze()  # they stay: no garbage collection need walk through them, but for the last
    atexit.register(gc.unfreeze)
    return lexicons


def _load(options: PipelineOptions) -> None:
    """What a worker's first part would load."""
    if "scene_graphs" in options.stages:
        _parser(options.parser, options.rules)
    if "subcaptions" in options.stages:
        cached_lexicons(options.lexicons)


def _make_scene_graphs(work: Work) -> None:
    parser = _parser(work.options.parser, work.options.rules)
    graphs = list(parser.parse(row.caption for row in work.captions))
    write_table(work.file, scene_graphs_table(work.captions, graphs))
    work.made["scene_graphs"] = graphs


def _make_subcaptions(work: Work) -> None:
    graphs = work.made.pop("scene_graphs", None)
    if graphs is None:
        graphs = read_scene_graphs(read_table(_before(work, "scene_graphs", "parse-captions")))
    lexicons = cached_lexicons(work.options.lexicons)
    graphs.reverse()
    rows = [
        _make_subcaption(caption, graphs.pop(), lexicons, work.options.subcaptions)  # gone, for memory's sake
        for caption in work.captions
    ]
    write_table(work.file, subcaptions_table(rows))
    work.made["subcaptions"] = rows


def _make_subcaption(
    caption: Caption, graph: SceneGraph, lexicons: Lexicons, options: SubcaptionOptions
) -> Subcaption:
    """What is made of one caption. A page of text gives views of its beginning: they take the square of its length."""
    if len(caption.caption) <= MAX_CAPTION_CHARACTERS:
        return make_subcaption(caption, graph, lexicons, options)
    beginning = replace(caption, caption=clean(caption.caption[:MAX_CAPTION_CHARACTERS]))
    return replace(make_subcaption(beginning, graph, lexicons, options), caption=caption.caption)


def _make_shard(work: Work) -> None:
    rows = work.made.pop("subcaptions", None)
    if rows is None:
        rows = read_subcaptions(read_table(_before(work, "subcaptions", "augment-captions")))
    write_shard(
        work.captions,
        rows,
        format=work.format,
        folder=work.file.parent,
        number=work.number,
        with_images=work.options.images,
        image_root=work.image_root,
    )


def _before(work: Work, stage: str, command: str) -> Path:
    """The file of this part that an earlier stage wrote."""
    file = _part_file(work.options.out, stage, work.number)
    if not file.exists():
        raise UserError(f"{file} is missing: run `pipeline {command}` first")
    return file


def _copy_lexicons(options: PipelineOptions) -> None:
    lexicons = cached_lexicons(options.lexicons)
    if lexicons.folder.resolve() != (options.out / "lexicons").resolve():
        lexicons.copy_to(options.out / "lexicons")


def _write_sizes(options: PipelineOptions, index: CaptionsIndex) -> None:
    write_json(
        options.out / "shards" / "sizes.json", {f"{part.number:05d}.tar": part.rows for part in index.parts}
    )


STAGES: Final[Mapping[str, Stage]] = {
    "captions": Stage(
        names=("{:05d}.parquet",),
        identity=lambda _, index: {"inputs": [item.sha256 for item in index.inputs], "rows": index.rows},
        make=None,
    ),
    "scene_graphs": Stage(
        names=("{:05d}.parquet",),
        identity=lambda options, _: {"parser": _parser_identity(options.parser, options.rules)},
        make=_make_scene_graphs,
        tells_status=True,
    ),
    "subcaptions": Stage(
        names=("{:05d}.parquet",),
        identity=lambda options, _: {
            "lexicons": cached_lexicons(options.lexicons).identity(),
            **asdict(options.subcaptions),
        },
        make=_make_subcaptions,
        prepare=_copy_lexicons,
        tells_status=True,
    ),
    "shards": Stage(
        names=("{:05d}.tar", "{:05d}.parquet", "{:05d}_stats.json"),
        identity=lambda options, _: {"images": options.images},
        make=_make_shard,
        finish=_write_sizes,
    ),
}
"""By name, which is the folder's, in their order: each is made from the ones before it."""


def _part_file(out: Path, stage: str, number: int) -> Path:
    """The file of a part that is written last."""
    return out / stage / _names(stage, number)[-1]


def _names(stage: str, number: int) -> list[str]:
    return [name.format(number) for name in STAGES[stage].names]


# ------------------------------------------------------------------------------------------------------------ the run
Tell = Callable[[str], None]
"""Takes a line for the user."""


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)


def run_stages(
    options: PipelineOptions, *, source: Source | None = None, tell: Tell = _to_stderr
) -> dict[str, Any]:
    """Run the stages that are not yet complete, make again what is damaged, and return the manifest.

    `source` is what `options.source` names, where that has been opened already. `tell` takes a line for each file that
    was damaged.
    """
    options = replace(options, out=place(options.out), lexicons=options.lexicons and place(options.lexicons))
    out = options.out
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; --out wants a folder")
    if options.source is not None:
        source = open_source(options.source)
    if is_of_this_process(out) or (source is not None and is_of_this_process(source.files[0])):
        options = replace(options, workers=1, engine="local", ray_address=None)
    if source is None and not (out / INDEX).exists():
        raise UserError(f"{out} holds no captions; run `pipeline parse-captions INPUT --out {out}`")
    on_ray = options.engine == "ray"
    engine = ray_cluster(options.ray_address, workers=options.workers) if on_ray else nullcontext()
    with hold(out), engine:
        log = functools.partial(_log, out)

        def tell_and_log(line: str) -> None:
            tell(line)
            log(line)

        load = functools.partial(_load, replace(options, source=None))
        try:
            with workers_kept(_workers_at_once(options, source), load):
                return _run_stages(options, source, tell_and_log, log)
        finally:
            write_lines(_log_file(out))


def _workers_at_once(options: PipelineOptions, source: Source | None) -> int:
    """Workers that are surely needed, before anything is read: none where `out` was complete."""
    if source is None or (options.out / MANIFEST).exists():
        return 0
    rows = sum(map(size_of, source.files)) // BYTES_PER_CAPTION
    parts = len(source.files) if source.format == "webdataset" else rows // options.rows_per_part
    return min(options.workers, parts)


def _run_stages(options: PipelineOptions, source: Source | None, tell: Tell, log: Tell) -> dict[str, Any]:
    out = options.out
    if options.overwrite:
        _remove(out, [stage for stage in options.stages if source is not None or stage != "captions"])
    _drop_damaged(out, tell, has_source=source is not None)
    index = _captions(options, source, tell)
    made_with = _prepare(options, index, tell)
    (out / MANIFEST).unlink(missing_ok=True)
    partwise = [name for name in options.stages if STAGES[name].make is not None]
    recorded = recorded_parts(out)

    def is_done(number: int) -> bool:
        record = read_record(out, number)
        return all(_compare(options, name, number, record, made_with) == [] for name in partwise)

    todo = [
        (part.number, part)
        for part in index.parts
        if options.check or part.number not in recorded or not is_done(part.number)
    ]
    work = functools.partial(_run_part, replace(options, source=None), index.format, made_with)
    label = "writing " + " and ".join(stage.replace("_", " ") for stage in partwise)
    log(f"{len(todo)} of {len(index.parts)} parts to do, {options.workers} workers: {label}")
    rows = {part.number: part.rows for part in index.parts}
    try:
        for number, seconds, told in map_parts(work, todo, workers=options.workers, label=label, tell=log):
            for line in told:
                tell(line)
            log(f"part {number:05d}: {rows[number]:,} rows in {seconds:.1f} s")
    except BaseException as error:
        log(f"stopped: {' '.join(str(error).split()) or type(error).__name__}")
        raise
    manifest = _finish(options, index)
    log("complete")
    return manifest


def _log(out: Path, line: str) -> None:
    """Add a line to the log beside the folder: in it, two runs would differ by their times."""
    time_of_day = datetime.now(UTC).isoformat(timespec="seconds")
    append_line(_log_file(out), f"{time_of_day} {line}")


def _log_file(out: Path) -> Path:
    folder = out.resolve()
    return folder.with_name(folder.name + ".log")


def _remove(out: Path, stages: Sequence[str]) -> None:
    """Delete the folders of these stages and of the ones made from them; nothing else in `out` is touched."""
    if not stages:
        return
    names = tuple(STAGES)
    for name in names[min(names.index(stage) for stage in stages) :]:
        remove_folder(out / name)
        (out / made_with_file(name)).unlink(missing_ok=True)
    forget_stages(out, names[min(names.index(stage) for stage in stages) :])
    (out / MANIFEST).unlink(missing_ok=True)


def _drop_damaged(out: Path, tell: Tell, *, has_source: bool) -> None:
    """Delete the index and the records that are not what the manifest says, where there is one that can be read."""
    for name, entry in read_files(out / MANIFEST).items():
        vouches = name.startswith(f"{FOLDER}/") or (name == INDEX and has_source)
        if vouches and (out / name).is_file() and (line := compare_file(out, name, entry, check=True)):
            tell(f"{line}; made again")
            (out / name).unlink()


def _captions(options: PipelineOptions, source: Source | None, tell: Tell) -> CaptionsIndex:
    folder = options.out / "captions"
    if source is not None:
        return ingest(source, folder, rows_per_part=options.rows_per_part, workers=options.workers, tell=tell)
    index = read_index(folder)
    damaged = damaged_parts(index, folder)
    if damaged:
        raise UserError(f"{options.out}: {damaged[0][1]}: run `pipeline repair {options.out}`")
    if options.images:
        check_inputs(index, workers=options.workers)
    return index


def _compare(
    options: PipelineOptions,
    stage: str,
    number: int,
    record: Mapping[str, Mapping[str, Any]],
    made_with: Mapping[str, str],
    *,
    check: bool = False,
) -> list[str] | None:
    """What is wrong with a part's files; the rows that the manifest counts are compared by their hash in any case."""
    check = check or STAGES[stage].tells_status
    names = _names(stage, number)
    return compare_part(
        options.out, number, stage, record, made_with=made_with[stage], names=names, check=check
    )


def _run_part(
    options: PipelineOptions, format: str, made_with: Mapping[str, str], numbered: tuple[int, Part]
) -> tuple[int, float, list[str]]:
    """Make what is missing or damaged of one part; each stage reads what the ones before it wrote.

    Returns its number, the seconds, and a line for each file that was damaged.
    """
    with without_garbage_collection():
        made = _make_part(options, format, made_with, *numbered)
    give_back_memory()
    return made


def _make_part(
    options: PipelineOptions, format: str, made_with: Mapping[str, str], number: int, part: Part
) -> tuple[int, float, list[str]]:
    start, told, changed = time.monotonic(), list[str](), False
    made: dict[str, Any] = {}
    record = read_record(options.out, number)
    captions = read_captions(read_table(_part_file(options.out, "captions", number)))
    for name in options.stages:
        make, file = STAGES[name].make, _part_file(options.out, name, number)
        if make is None:
            continue
        wrong = _compare(options, name, number, record, made_with, check=True)
        if wrong == [] and not changed:
            continue
        before = record.get(name, {}).get("files")
        make(
            Work(
                options=options,
                format=format,
                number=number,
                image_root=None if part.image_root is None else find_named(part.image_root),
                captions=captions,
                file=file,
                made=made,
            )
        )
        names = _names(name, number)
        after = keep_record(
            options.out, number, name, record, made_with=made_with[name], names=names, order=tuple(STAGES)
        )
        changed = before is not None and before != after
        told += [f"{line}; made again{', with other bytes' if changed else ''}" for line in wrong or ()]
    return number, time.monotonic() - start, told


# ------------------------------------------------------------------------------------- what each folder was made with
def made_with_file(stage: str) -> str:
    """The file of an output folder that says what the stage was made with; of `captions`, what it was read from."""
    return f"{MADE_WITH}/{stage}.json"


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
        elif (options.out / made_with_file(name)).exists():
            before = _read_made_with(options.out / made_with_file(name), None)
            if before is None:
                raise UserError(
                    f"{options.out / made_with_file(name)} is damaged: run `pipeline repair {options.out}`"
                )
    return found


def _prepare(options: PipelineOptions, index: CaptionsIndex, tell: Tell) -> dict[str, str]:
    """Refuse to mix options, and write each stage's own before its first part; returns a hash of each stage's."""
    known = read_files(options.out / MANIFEST)
    identities = _identities(options, index)
    for name, identity in identities.items():
        file = options.out / made_with_file(name)
        if not file.exists():
            continue
        found = _read_made_with(file, known.get(made_with_file(name)))
        if found is None:
            tell(f"{file.relative_to(options.out)} is damaged; made again")
        elif found != identity:
            raise UserError(
                f"{options.out / name} was made with other options ({_difference(found, identity)}): "
                "choose another --out, or --overwrite"
            )
    for name, identity in identities.items():
        write_json(options.out / made_with_file(name), identity)
        prepare = STAGES[name].prepare
        if prepare is not None:
            prepare(options)
    return {name: hash_identity(identity) for name, identity in identities.items()}


def _read_made_with(file: Path, known: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What a stage's folder was made with; None where the file is damaged."""
    if known is not None and describe_file(file) != known:
        return None
    try:
        content = read_json(file)
    except UserError:
        return None
    return content if isinstance(content, dict) else None


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
    made = [name for name in list(STAGES)[1:] if (options.out / made_with_file(name)).exists()]
    write_json(options.out / CROISSANT, describe_tables(("captions", *made), version=__version__))
    described = _described_parts(options.out, index)
    return write_manifest(
        options.out,
        index,
        made={name: _without_source(read_json(options.out / made_with_file(name))) for name in made},
        told_by=next((name for name in reversed(made) if STAGES[name].tells_status), None),
        files=_made_files(options.out, described, made),
        made_before=described,
        workers=options.workers,
    )


def _described_parts(out: Path, index: CaptionsIndex) -> dict[str, dict[str, Any]]:
    """Each file of each part as it was when it was made: to hash it now would vouch for whatever happened since."""
    found = {
        f"captions/{part.number:05d}.parquet": {"bytes": part.bytes, "sha256": part.sha256}
        for part in index.parts
    }
    for part in index.parts:
        found |= described_files(out, part.number)
    return found


def _made_files(out: Path, parts: Iterable[str], made: Sequence[str]) -> list[str]:
    """The names of the files that the manifest of `out` vouches for, sorted stage by stage; `parts` are the parts'."""
    others = [INDEX, *map(made_with_file, made), "shards/sizes.json", CROISSANT]
    names = {*parts, *(name for name in others if (out / name).is_file())}
    names |= {
        file.relative_to(out).as_posix()
        for folder in ("lexicons", FOLDER)
        for file in (out / folder).glob("*")
        if file.is_file()
    }
    order = (*STAGES, "lexicons", MADE_WITH, FOLDER, CROISSANT)
    return sorted(names, key=lambda name: (order.index(name.partition("/")[0]), name))


def _without_source(identity: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in identity.items() if name != "made_from"}


def files_of(out: Path) -> list[Path]:
    """Every file that the manifest of `out` vouches for, or that lies beside one in its folder, stage by stage."""
    return [
        file
        for name in (*STAGES, "lexicons", MADE_WITH, FOLDER)
        for file in sorted((out / name).rglob("*"))
        if file.is_file()
    ]
