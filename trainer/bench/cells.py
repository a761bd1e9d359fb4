"""The cells of a suite: attack x method x learning rate x seed, each a run of its own that can be stopped anywhere.

A cell's folder holds the run and, last, `rows.json`: it exists = the cell is done. Several processes work at a time;
each takes a cell, trains it, and evaluates the weights of every epoch.
"""

import multiprocessing
import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, fields
from multiprocessing import connection
from pathlib import Path
from typing import Any, get_args, get_type_hints

from pipeline.errors import UserError
from pipeline.storage import read_json, write_json
from trainer.attacks import load_trigger
from trainer.batches import BatchOptions
from trainer.bench.results import CLEAN, NO_DEFENCE, PICTURES, REFERENCES
from trainer.bench.suites import Data, Suite, Test
from trainer.bench.traps import TrapOptions, Victim, spring_traps
from trainer.data import find_shards, index_shards
from trainer.defences import DEFENCES, choose_options
from trainer.evals.counterfactuals import evaluate_counterfactuals
from trainer.evals.diagnosis import places_of
from trainer.evals.pictures import PictureSample, draw_pictures
from trainer.evals.zero_shot import evaluate_zero_shot
from trainer.launch import Source, defend
from trainer.log import say
from trainer.model import ModelChoice, load_model
from trainer.optim import OptimOptions
from trainer.scores import Evaluation
from trainer.train import TrainOptions

GROUPS = (BatchOptions, OptimOptions, TrainOptions)
ROWS = "rows.json"
TRAPS = "traps.json"
HELD_OUT_SAMPLES = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One run of one method against one victim."""

    attack: str
    method: str
    """As it was given: `ft`, or with options, `cleanerclip[negatives=own,lock_text=yes]`; or none, or clean."""
    lr: float
    seed: int
    victim: str
    """The victim's folder."""
    suite: str

    @property
    def folder(self) -> str:
        """Its folder's name: what it is, in characters that every file system takes."""
        text = f"{self.attack}-{self.method}-{self.lr:g}-{self.seed}"
        return "".join(c if c.isalnum() or c in "-.,=_" else "+" for c in text)


def parse_method(text: str) -> tuple[str, dict[str, str]]:
    """Name and options of `name[option=value,...]`; UserError where it is not written so, or the name is unknown."""
    name, bracket, rest = text.partition("[")
    if name not in DEFENCES:
        raise UserError(f"there is no method {name!r}: one of {', '.join(DEFENCES)}")
    if not bracket:
        return name, {}
    pairs = [pair.partition("=") for pair in rest.removesuffix("]").split(";" if ";" in rest else ",")]
    if not rest.endswith("]") or not all(key and sign for key, sign, _ in pairs):
        raise UserError(f"a method with options is written name[option=value,option=value], not {text!r}")
    return name, {key.strip().replace("-", "_"): value.strip() for key, _, value in pairs}


def options_for(method: str, shared: dict[str, Any]) -> tuple[Any, dict[type[Any], Any]]:
    """The defence's options, and those of batches, optimiser and training, by their classes.

    UserError for an option that none of them has, or a value of the wrong type.
    """
    name, given = parse_method(method)
    groups: dict[type[Any], dict[str, Any]] = {group: {} for group in GROUPS}
    own: dict[str, Any] = {}
    for option, value in {**shared, **given}.items():
        for group in (DEFENCES[name].options, *GROUPS):
            hints = get_type_hints(group)
            if option in hints and option in {field.name for field in fields(group)}:
                into = own if group is DEFENCES[name].options else groups[group]
                into[option] = read_value(option, value, hints[option])
                break
        else:
            raise UserError(f"{name} takes no option {option!r}")
    return choose_options(name, own), {group: group(**values) for group, values in groups.items()}


def read_value(option: str, value: Any, kind: Any) -> Any:
    """A value as text or as TOML holds it, in the option's type; UserError where it is of none."""
    kinds = [each for each in (get_args(kind) or (kind,)) if each is not type(None)]
    if value in ("all", "none") and type(None) in get_args(kind):
        return None
    if not isinstance(value, str):
        return value
    if bool in kinds and value in ("yes", "no"):
        return value == "yes"
    for each in kinds:
        if each in (int, float):
            try:
                return each(value)
            except ValueError:
                continue
        if each is str or each == value:
            return value
    raise UserError(f"{option}: {value!r} is no value of it")


def run_cells(cells: Sequence[Cell], suite: Suite, data: Data, out: Path, *, processes: int) -> None:
    """Does what is not done yet, `processes` cells at a time."""
    todo = [cell for cell in cells if not (out / "cells" / cell.folder / ROWS).is_file()]
    say(f"{len(cells)} cells, {len(cells) - len(todo)} of them done")
    if processes == 1:
        for number, cell in enumerate(todo, start=1):
            say(f"[{number}/{len(todo)}] {_told(run_cell(cell, suite, data, out))}")
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_begin_worker) as pool:
        running = [pool.submit(run_cell, cell, suite, data, out) for cell in todo]
        for number, future in enumerate(as_completed(running), start=1):
            say(f"[{number}/{len(todo)}] {_told(future.result())}")


def _begin_worker() -> None:
    """One thread each; and none outlives its parent, to write into the next run's folder."""
    os.environ["OMP_NUM_THREADS"] = "1"
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # a worker has one
    connection.wait([parent.sentinel])
    os._exit(1)


def _told(row: dict[str, Any]) -> str:
    what = f"{row['attack']} {row['method']} lr {row['lr']:g} seed {row['seed']}"
    return f"{what}: BA {row['ba1']:.1f}, ASR {row['asr1']:.1f}"


def run_cell(cell: Cell, suite: Suite, data: Data, out: Path) -> dict[str, Any]:
    """Trains and evaluates one cell, and gives its last row."""
    folder = out / "cells" / cell.folder
    folder.mkdir(parents=True, exist_ok=True)
    if cell.method in REFERENCES:
        rows = [
            _row(cell, data, suite, test, weights_of(cell, folder), epoch=0, last=True) for test in data.tests
        ]
        if cell.method == NO_DEFENCE:
            _draw(cell, data.tests[0], suite, folder)
    else:
        rows = list(_trained_rows(cell, data, suite, folder))
    write_json(folder / ROWS, rows)
    return rows[-1]


def weights_of(cell: Cell, folder: Path) -> Path:
    """The model that a cell ends with: open_clip's folder."""
    victim = Path(cell.victim)
    places = {NO_DEFENCE: victim, CLEAN: victim.parent / CLEAN}
    return places.get(cell.method, folder / "run") / "model"


def _trained_rows(cell: Cell, data: Data, suite: Suite, folder: Path) -> Iterator[dict[str, Any]]:
    defence, groups = options_for(cell.method, dict(suite.training) | {"lr": cell.lr, "seed": cell.seed})
    run = folder / "run"
    summary = defend(
        ModelChoice(checkpoint=Path(cell.victim) / "model"),
        Source(shards=str(data.shards)),
        defence,
        batches=groups[BatchOptions],
        optim=groups[OptimOptions],
        options=groups[TrainOptions],
        out=run,
        resume=(run / "checkpoints" / "last.state.pt").is_file(),
        guard=False,  # every epoch is judged here, on all that the defender has
    )
    epochs = groups[TrainOptions].epochs
    for epoch in range(1, epochs + 1):
        weights = run / "checkpoints" / f"epoch_{epoch}.safetensors"
        more = {
            "seconds": round(summary["seconds"] * epoch / epochs, 2),
            "samples": epoch * summary["samples"],
        }
        for test in data.tests:
            yield _row(cell, data, suite, test, weights, epoch=epoch, last=epoch == epochs) | more
    shutil.rmtree(run / "checkpoints")


def _row(
    cell: Cell, data: Data, suite: Suite, test: Test, weights: Path, *, epoch: int, last: bool
) -> dict[str, Any]:
    """One line of the results: what the weights of an epoch are worth on a test."""
    clip = load_model(checkpoint=weights)
    trigger = load_trigger(str(Path(cell.victim) / "trigger.safetensors"), image_size=clip.image_size)
    found = evaluate_zero_shot(clip, test.load(), trigger=trigger, target=suite.target)
    row = {
        "suite": cell.suite,
        **asdict(cell),
        "attack": f"{cell.attack} on {test.name}" if test.name else cell.attack,
        "victim": Path(cell.victim).name,
        "epoch": epoch,
        "last": last,
    }
    row |= found.percentages() | {
        "ba1_named": _mean_ba(found, data.named, inside=True),
        "ba1_unnamed": _mean_ba(found, data.named, inside=False),
        "images": found.ba[1].n,
        "weights_sha256": found.weights_sha256,
        "trigger_sha256": found.trigger_sha256,
        "seconds": 0.0,
        "samples": 0,
    }
    if last:
        index = index_shards(find_shards(str(data.held_out)))
        accuracy = evaluate_counterfactuals(clip, index, limit=HELD_OUT_SAMPLES)
        row |= {f"counterfactual_{kind}": share.percent for kind, share in accuracy.kinds.items()}
        places = places_of(clip, test.load(), trigger, suite.target)
        row |= {name: list(values) for name, values in asdict(places).items()}
    return row


def _draw(cell: Cell, test: Test, suite: Suite, folder: Path) -> None:
    """Writes PICTURES."""
    labelled = test.load()
    clip = load_model(checkpoint=weights_of(cell, folder))
    trigger = load_trigger(str(Path(cell.victim) / "trigger.safetensors"), image_size=clip.image_size)
    sample = PictureSample(target_label=labelled.classnames.index(suite.target))
    evaluate_zero_shot(clip, labelled, trigger=trigger, target=suite.target, observe=sample)
    draw_pictures(
        sample.pictures,
        folder / PICTURES,
        classnames=labelled.classnames,
        target=suite.target,
        title=f"{cell.attack} -> {suite.target}",
    )


def _mean_ba(found: Evaluation, named: Sequence[str], *, inside: bool) -> float | None:
    """BA over the classes that the defender's data show, or over the others; None where there is none."""
    chosen = [score for score in found.classes if (score.name in named) == inside and score.n]
    if not chosen:
        return None
    return 100 * sum(score.hits for score in chosen) / sum(score.n for score in chosen)


def run_traps(cells: Sequence[Cell], suite: Suite, data: Data, out: Path) -> None:
    """Springs the traps on the weights of every cell that has not been through them."""
    options = TrapOptions(**suite.traps)
    for cell in cells:
        folder = out / "cells" / cell.folder
        if (folder / TRAPS).is_file():
            continue
        clip = load_model(checkpoint=weights_of(cell, folder))
        victim = Victim(
            trigger=load_trigger(str(Path(cell.victim) / "trigger.safetensors"), image_size=clip.image_size),
            target=suite.target,
            test=data.tests[0].load(),
            shards=data.later,
        )
        found = spring_traps(clip, victim, options)
        write_json(folder / TRAPS, found)
        say(f"traps: {cell.attack} {cell.method}: {', '.join(f'{k} {v:.1f}' for k, v in found.items())}")


def read_rows(out: Path) -> list[dict[str, Any]]:
    """The rows of every cell that is done, in the order of the cells' names; the last one with what the traps found."""
    rows: list[dict[str, Any]] = []
    for file in sorted((out / "cells").glob(f"*/{ROWS}")):
        of_cell = read_json(file)
        if (file.parent / TRAPS).is_file():
            of_cell[-1] |= read_json(file.parent / TRAPS)
        rows += of_cell
    return rows
