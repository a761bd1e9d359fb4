"""The stages in their order, over parts: captions -> scene_graphs -> subcaptions -> shards, and the manifest.

A part's files carry its number in every folder. Each folder's `options.json` says what it was made with: a rerun
with the same options continues where the last one stopped, one with others is refused. `manifest.json` is written
last: it exists = the folder is complete.
"""

import atexit
import functools
import gc
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipeline import __version__
from pipeline.captions.ingest import MAX_NAMED_FAULTS, ingest
from pipeline.captions.readers import InputOptions, open_source
from pipeline.engine import map_parts
from pipeline.errors import UserError
from pipeline.lexicons.loading import Lexicons, load_lexicons
from pipeline.scene_graphs.parser import CaptionParser
from pipeline.schema import OK, SCHEMA_VERSION, Caption, SceneGraph
from pipeline.shards import write_shard
from pipeline.storage import hold, read_json, read_table, sha256_file, write_json, write_table
from pipeline.subcaptions.making import SubcaptionOptions, make_subcaption
from pipeline.tables import read_captions, read_scene_graphs, scene_graphs_table, subcaptions_table

STAGES = ("captions", "scene_graphs", "subcaptions", "shards")
MANIFEST = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class PipelineOptions:
    """What to make, of what."""

    out: Path
    """The output folder; it gets one folder per stage."""
    input: InputOptions | None = None
    """None continues with the captions that `out` already holds."""
    stages: tuple[str, ...] = STAGES
    """The stages to run, in order."""
    parser: str = "bundled"
    """The bundled caption parser, the name of an installed spaCy pipeline, or a path to one."""
    rules: str = "default"
    """The scene-graph rules."""
    lexicons: Path | None = None
    """A folder made by `pipeline build-lexicons`; None takes the ones that come with the package."""
    subcaptions: SubcaptionOptions = SubcaptionOptions()  # noqa: RUF009  (frozen)
    """Negatives and views per caption, and the seed."""
    images: bool = True
    """Copy image bytes into the shards; False writes text members alone, aligned with the image shards."""
    rows_per_part: int = 10_000
    """Rows per shard where the input is no tar."""
    workers: int = 1
    """Worker processes."""
    overwrite: bool = False
    """Make the stages again, whatever `out` holds of them."""

    def __post_init__(self) -> None:
        if self.rows_per_part < 1:
            raise UserError(f"rows per part must be at least 1, not {self.rows_per_part}")
        if self.workers < 1:
            raise UserError(f"workers must be at least 1, not {self.workers}")


def run_stages(options: PipelineOptions) -> dict[str, Any]:
    """Run the stages that are not yet complete and return the manifest."""
    out = options.out
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; --out wants a folder")
    source = None if options.input is None else open_source(options.input)
    if source is None and not (out / "captions" / "index.json").exists():
        raise UserError(f"{out} holds no captions; run `pipeline parse-captions INPUT --out {out}`")
    with hold(out):
        return _run_stages(options, source)


def _run_stages(options: PipelineOptions, source: Any) -> dict[str, Any]:
    out = options.out
    if options.overwrite:
        _remove(out, [stage for stage in options.stages if source is not None or stage != "captions"])
    index = _captions(options, source)
    _prepare(options, index)
    (out / MANIFEST).unlink(missing_ok=True)
    parts = [part["number"] for part in index["parts"]]
    work = functools.partial(_run_part, replace(options, input=None), index["format"])
    todo = [number for number in parts if not _part_done(options, number)]
    label = "writing " + " and ".join(
        stage.replace("_", " ") for stage in options.stages if stage != "captions"
    )
    for _ in map_parts(work, todo, workers=options.workers, label=label):
        pass
    return _finish(options, index)


def _remove(out: Path, stages: list[str]) -> None:
    """Delete the folders of these stages and of the ones made from them; nothing else in `out` is touched."""
    if not stages:
        return
    for stage in STAGES[min(STAGES.index(stage) for stage in stages) :]:
        shutil.rmtree(out / stage, ignore_errors=True)
    (out / MANIFEST).unlink(missing_ok=True)


def _captions(options: PipelineOptions, source: Any) -> dict[str, Any]:
    folder = options.out / "captions"
    if source is None:
        index: dict[str, Any] = read_json(folder / "index.json")
        return index
    return ingest(source, folder, rows_per_part=options.rows_per_part, workers=options.workers)


# ------------------------------------------------------------------------------------- what each folder was made with
def _identities(options: PipelineOptions, index: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """For each stage to run, what decides its bytes; each contains the one before it."""
    found: dict[str, dict[str, Any]] = {}
    before: dict[str, Any] = {"inputs": [item["sha256"] for item in index["inputs"]], "rows": index["rows"]}
    for stage in STAGES[1:]:
        if stage in options.stages:
            before = {**_own_identity(stage, options), "made_from": before}
            found[stage] = before
        elif (options.out / stage / "options.json").exists():
            before = read_json(options.out / stage / "options.json")
    return found


def _own_identity(stage: str, options: PipelineOptions) -> dict[str, Any]:
    if stage == "scene_graphs":
        return {"parser": _parser(options.parser, options.rules).identity()}
    if stage == "subcaptions":
        return {"lexicons": _lexicons(options.lexicons).identity(), **asdict(options.subcaptions)}
    return {"images": options.images}


def _prepare(options: PipelineOptions, index: Mapping[str, Any]) -> None:
    """Refuse to mix options, and write each stage's own before its first part."""
    identities = _identities(options, index)
    for stage, identity in identities.items():
        file = options.out / stage / "options.json"
        if file.exists() and (found := read_json(file)) != identity:
            raise UserError(
                f"{file.parent} was made with other options ({_difference(found, identity)}): "
                "choose another --out, or --overwrite"
            )
    for stage, identity in identities.items():
        write_json(options.out / stage / "options.json", identity)
    if "subcaptions" in options.stages:
        _lexicons(options.lexicons).copy_to(options.out / "lexicons")


def _difference(found: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    for name in sorted({*found, *asked}):
        was, now = found.get(name), asked.get(name)
        if was != now:
            if isinstance(was, dict) and isinstance(now, dict):
                return f"{name}: {_difference(was, now)}"
            return f"{name} {was!r}, now {now!r}"
    return "none"


# ----------------------------------------------------------------------------------------------------------- one part
@functools.lru_cache(maxsize=1)
def _parser(spec: str, rules: str) -> CaptionParser:
    return CaptionParser(spec, rules=rules)


@functools.lru_cache(maxsize=1)
def _lexicons(folder: Path | None) -> Lexicons:
    lexicons = load_lexicons(folder)
    gc.freeze()  # they stay: no garbage collection need walk through them, but for the last
    atexit.register(gc.unfreeze)
    return lexicons


def _part_done(options: PipelineOptions, number: int) -> bool:
    wanted = [stage for stage in options.stages if stage != "captions"]
    return all(_part_file(options.out, stage, number).exists() for stage in wanted)


def _part_file(out: Path, stage: str, number: int) -> Path:
    return out / stage / (f"{number:05d}_stats.json" if stage == "shards" else f"{number:05d}.parquet")


def _run_part(options: PipelineOptions, format: str, number: int) -> None:
    """Make what is missing of one part; each stage reads what the one before it wrote."""
    captions = read_captions(read_table(_part_file(options.out, "captions", number)))
    for stage in options.stages:
        file = _part_file(options.out, stage, number)
        if stage == "captions" or file.exists():
            continue
        if stage == "scene_graphs":
            graphs = list(_parser(options.parser, options.rules).parse(row.caption for row in captions))
            write_table(file, scene_graphs_table(captions, graphs))
        elif stage == "subcaptions":
            _write_subcaptions(file, captions, _read_graphs(options.out, number), options)
        else:
            table = read_table(_require(_part_file(options.out, "subcaptions", number), "augment-captions"))
            write_shard(
                captions, table, format=format, folder=file.parent, number=number, with_images=options.images
            )


def _require(file: Path, command: str) -> Path:
    if not file.exists():
        raise UserError(f"{file} is missing: run `pipeline {command}` first")
    return file


def _read_graphs(out: Path, number: int) -> list[SceneGraph]:
    return read_scene_graphs(read_table(_require(_part_file(out, "scene_graphs", number), "parse-captions")))


def _write_subcaptions(
    file: Path, captions: list[Caption], graphs: list[SceneGraph], options: PipelineOptions
) -> None:
    lexicons = _lexicons(options.lexicons)
    rows = (
        make_subcaption(caption, graph, lexicons, options.subcaptions)
        for caption, graph in zip(captions, graphs, strict=True)
    )
    write_table(file, subcaptions_table(rows))


# ------------------------------------------------------------------------------------------------------- the manifest
def _finish(options: PipelineOptions, index: Mapping[str, Any]) -> dict[str, Any]:
    out = options.out
    for leftover in out.glob("*/*.part"):
        leftover.unlink()
    shards = out / "shards"
    if "shards" in options.stages:
        counts = {f"{part['number']:05d}.tar": part["rows"] for part in index["parts"]}
        write_json(shards / "sizes.json", counts)
    status: Counter[str] = Counter()
    last = next((s for s in ("subcaptions", "scene_graphs") if (out / s / "options.json").exists()), None)
    for file in sorted((out / last).glob("*.parquet")) if last else ():
        status.update(read_table(file)["status"].to_pylist())
    image_status: Counter[str] = Counter()
    faults, fault_count = list(index["faults"]), index["fault_count"]
    for file in sorted(shards.glob("*_stats.json")):
        stats = read_json(file)
        image_status.update(stats["image_status"])
        faults += stats["faults"]
        fault_count += stats["fault_count"]
    manifest = {
        "tool": f"cleanerclip {__version__}",
        "schema_version": SCHEMA_VERSION,
        "versions": {name: version(name) for name in ("spacy", "SceneGraphParser", "pyarrow")},
        "inputs": index["inputs"],
        "stages": {
            stage: {k: v for k, v in read_json(out / stage / "options.json").items() if k != "made_from"}
            for stage in STAGES[1:]
            if (out / stage / "options.json").exists()
        },
        "rows": {
            "in": index["rows"],
            "ok": status.get(OK, 0),
            "status": dict(sorted(status.items())),
            "image_status": dict(sorted(image_status.items())),
            "duplicate_keys": index["duplicate_keys"],
        },
        "faults": faults[:MAX_NAMED_FAULTS],
        "fault_count": fault_count,
        "files": _hashes(out, options.workers),
    }
    write_json(out / MANIFEST, manifest)
    return manifest


def _hashes(out: Path, workers: int) -> dict[str, dict[str, Any]]:
    files = [
        file for stage in (*STAGES, "lexicons") for file in sorted((out / stage).rglob("*")) if file.is_file()
    ]
    hashes = dict(
        map_parts(_hash_file, files, workers=workers if len(files) > 50 else 1, label="hashing the output")
    )
    return {
        file.relative_to(out).as_posix(): {"bytes": file.stat().st_size, "sha256": hashes[file]}
        for file in files
    }


def _hash_file(file: Path) -> tuple[Path, str]:
    return file, sha256_file(file)
