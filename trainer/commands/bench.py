"""`trainer bench`: attacks x defences x learning rates x seeds, side by side, and the tables they support."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from pipeline.console import from_options
from pipeline.errors import UserError
from pipeline.storage import hold
from trainer.bench.cells import Cell, parse_method, read_rows, run_cells, run_traps
from trainer.bench.results import CLEAN, NO_DEFENCE, REFERENCES, results_table, table_of, write_results
from trainer.bench.suites import Suite, prepare_data, prepare_later, read_suite
from trainer.defences import DEFENCES


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """Which cells."""

    methods: tuple[str, ...] = ()
    """A method, or one with options: 'cleanerclip[negatives=own,lock_text=yes]'; may be given again. Default: all."""
    attacks: tuple[str, ...] = ()
    """May be given again; stripes, triangles, text, yellow-corner and filter, too. Default: the suite's six."""
    seeds: tuple[int, ...] = ()
    """Of the defender: order, choices, what is invented; may be given again. Default: 0."""
    lrs: tuple[float, ...] = ()
    """Learning rates; may be given again. Default: the suite's for each method."""
    victims: Path | None = None
    """Folder of victims (ATTACK-SEED/model and trigger.safetensors), as benchmarks.victims makes it. Default:
    OUT/victims."""
    data: Path | None = None
    """Folder of the data sets that a suite of photographs names."""
    victim_seed: int | None = None
    """The victims' seed. Default: the defender's."""
    traps: bool = False
    """Afterwards, see what each cell's backdoor comes back by: clean fine-tuning, batch norm estimated anew, a few
    poisoned samples, the trigger optimised anew."""
    processes: int = field(default=1)
    """Cells at a time."""

    def __post_init__(self) -> None:
        if self.processes < 1:
            raise UserError(f"processes must be at least 1, not {self.processes}")
        for method in self.methods:
            parse_method(method)


@from_options()
def bench(
    suite: Annotated[
        str, typer.Argument(help="demo-narrow, demo-broad, photographs, or a .toml file like theirs.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of data, cells and results; a rerun goes on.")],
    options: BenchOptions,
) -> None:
    """Compare defences: every method against every attack, with BA, ASR and counterfactual accuracy of each epoch.

    Writes OUT/results.parquet, and prints the table; `trainer report OUT --out page.html` makes the page.
    """
    told = read_suite(suite)
    cells = list(cells_of(told, options, out))
    with hold(out):
        data = prepare_data(told, out, files=options.data)
        run_cells(cells, told, data, out, processes=options.processes)
        if options.traps:
            prepare_later(told, data)
            run_traps(cells, told, data, out)
        rows = read_rows(out)
        write_results(out / "results.parquet", rows)
    print(results_table(table_of(rows)))


def cells_of(suite: Suite, options: BenchOptions, out: Path) -> Iterator[Cell]:
    """The cells in the order they are done; UserError for a victim that is not there."""
    known = (*suite.attacks, *suite.unseen)
    unknown = [attack for attack in options.attacks if attack not in known]
    if unknown:
        raise UserError(f"{suite.name} has no attack {unknown[0]!r}: it has {', '.join(known)}")
    folder = options.victims or out / "victims"
    for seed in options.seeds or (0,):
        for attack in options.attacks or suite.attacks:
            victim = folder / f"{attack}-{seed if options.victim_seed is None else options.victim_seed}"
            if not (victim / "trigger.safetensors").is_file():
                raise UserError(
                    f"there is no victim {victim}: give --victims DIR, or make it: {suite.victims}"
                )
            clean = (CLEAN,) if (folder / CLEAN / "model").is_dir() else ()
            for method in (NO_DEFENCE, *clean, *(options.methods or DEFENCES)):
                fixed = method in REFERENCES
                lrs = (0.0,) if fixed else options.lrs or (_best_lr(suite, method),)
                for lr in lrs:
                    yield Cell(
                        attack=attack,
                        method=method,
                        lr=lr,
                        seed=seed,
                        victim=str(victim.resolve()),
                        suite=suite.name,
                    )


def _best_lr(suite: Suite, method: str) -> float:
    name, _ = parse_method(method)
    return suite.learning_rates.get(name, DEFENCES[name].small_lr)
