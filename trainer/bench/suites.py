"""What a suite compares: the defender's data, the test, the victims, and how every method trains; a TOML file each.

A suite of our own is named (`demo-narrow`), another is a path. `[training]` holds options of training that all
methods share, `[learning_rates]` each method's own best one, chosen once for all attacks.
"""

import subprocess
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pipeline.demo.data import DemoOptions, write_demo_data
from pipeline.errors import UserError
from pipeline.storage import read_json, write_json
from trainer.evals.labelled import LabelledImages, load_labelled
from trainer.log import say
from trainer.manifests import shipped_manifests, shipped_names

FOLDER = Path(__file__).parent / "suites"


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """One suite, as its file says it."""

    name: str
    target: str
    attacks: tuple[str, ...]
    """Those that are run where none is named."""
    unseen: tuple[str, ...]
    """Others, that nothing was tuned on: run where they are named."""
    victims: str
    """The command that makes them, for whoever lacks them."""
    world: Mapping[str, Any]
    """Options of `pipeline demo-data` for the defender's data and the test; or, where they are photographs, files below
    the data folder: `pairs` and `held_out`, shards with captions, and `tests`, names of shipped manifests."""
    training: Mapping[str, Any]
    learning_rates: Mapping[str, float]
    """Of the methods for which the defence's own one is not the best here."""
    traps: Mapping[str, Any]
    """Options of `trainer.bench.traps.TrapOptions`; empty where none can be set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Test:
    """One labelled test."""

    name: str
    """Empty where a suite has one test alone."""
    manifest: Path
    root: Path | None = None
    """Where the manifest's files are. Default: beside it."""

    def load(self) -> LabelledImages:
        """The images; UserError as `load_labelled` raises it."""
        return load_labelled(str(self.manifest), root=self.root)


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """A suite's data on disk."""

    shards: Path
    """What the defender has, with sub-captions."""
    tests: tuple[Test, ...]
    held_out: Path
    """Test images with sub-captions."""
    named: tuple[str, ...]
    """Classes that the defender's data show."""
    later: Path
    """Clean pairs that never name the target, for what comes after a defence."""


def suite_names() -> list[str]:
    """The suites that come with the trainer."""
    return sorted(file.stem for file in FOLDER.glob("*.toml"))


def read_suite(name: str) -> Suite:
    """The suite of that name, or in that file; UserError for an unknown one and a broken file."""
    file = FOLDER / f"{name}.toml" if name in suite_names() else Path(name)
    if not file.is_file():
        raise UserError(f"there is no suite {name!r}: give {', '.join(suite_names())}, or a .toml file")
    try:
        told = tomllib.loads(file.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is no TOML file: {error}") from None
    known = {field.name for field in fields(Suite)} - {"name"}
    if set(told) != known:
        raise UserError(
            f"{file} must hold {', '.join(sorted(known))}, and holds {', '.join(sorted(told)) or 'nothing'}"
        )
    return Suite(name=file.stem, **told | {name: tuple(told[name]) for name in ("attacks", "unseen")})


def prepare_data(suite: Suite, out: Path, *, files: Path | None = None) -> Data:
    """Draws the suite's world below `out`, or takes photographs below `files`, and augments the captions.

    What a call before this made is taken. UserError where photographs are wanted and `files` is not given.
    """
    if "pairs" in suite.world:
        return _prepare_photographs(suite, out, files)
    world = out / "world"
    manifest = world / "manifest.json"
    if not manifest.is_file():
        write_demo_data(world, DemoOptions(**suite.world))
    told = read_json(manifest)
    return Data(
        shards=_augmented(world / "train", out / "augmented-train"),
        tests=(Test(name="", manifest=manifest),),
        held_out=_augmented(world / "test", out / "augmented-test"),
        named=tuple(told.get("train_nouns", told["classnames"])),
        later=out / "later" / "train",
    )


def _prepare_photographs(suite: Suite, out: Path, files: Path | None) -> Data:
    if files is None:
        raise UserError(f"{suite.name} is made of data sets: give the folder they are in with --data")
    tests = []
    for name in suite.world["tests"]:
        shipped = next((path for path in shipped_manifests() if path.stem == name), None)
        if shipped is None:
            raise UserError(f"{suite.name}: there is no data manifest {name!r}: {', '.join(shipped_names())}")
        told = dict(read_json(shipped))
        if suite.target not in told["classnames"]:
            told["classnames"] = [*told["classnames"], suite.target]
        path = out / "tests" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, told)
        tests.append(Test(name=name, manifest=path, root=files))
    return Data(
        shards=_augmented(files / suite.world["pairs"], out / "augmented-train"),
        tests=tuple(tests),
        held_out=_augmented(files / suite.world["held_out"], out / "augmented-test"),
        named=(),
        later=out / "later" / "train",
    )


def _augmented(captions: Path, out: Path) -> Path:
    """The captions' shards with sub-captions."""
    if not (out / "manifest.json").is_file():
        say(f"augmenting {captions}")
        _pipeline("augment-captions", captions, "--out", out)
    return out / "shards"


def prepare_later(suite: Suite, data: Data) -> None:
    """Draws what the traps fine-tune on: every noun but the target; UserError where the suite sets no traps."""
    if not suite.traps:
        raise UserError(f"{suite.name} sets no traps")
    folder = data.later.parent
    if not (folder / "manifest.json").is_file():
        nouns = [name for name in read_json(data.tests[0].manifest)["classnames"] if name != suite.target]
        world = dict(suite.world) | {"train_nouns": ",".join(nouns), "seed": int(suite.world["seed"]) + 1_000}
        write_demo_data(folder, DemoOptions(**world | {"num_test_per_class": 1}))


def _pipeline(*arguments: object) -> None:
    """Runs a command of the other half, in a process of its own: nothing of it is imported here."""
    command = [sys.executable, "-m", "pipeline.cli", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise UserError(f"{' '.join(map(str, arguments))} failed: {done.stdout.strip()}")
