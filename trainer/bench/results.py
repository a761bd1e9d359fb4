"""The results of a suite: rows to Parquet, and the table that sets methods beside attacks.

BA and ASR in percent; over several seeds the mean, with half the 95 % interval by Student's t.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.storage import read_table, write_table

PICTURES = "pictures.png"
"""Some images without and with the trigger, and what the victim reads them as: of a victim without defence."""
NO_DEFENCE, CLEAN = "none", "clean"
"""What stands in a method's place: the victim as it is, and the model before the attack, with the victim's trigger."""
REFERENCES = (NO_DEFENCE, CLEAN)
TRAP_COLUMNS: Mapping[str, str] = {
    "rebound_asr1": "after clean steps, the highest",
    "batch_norm_asr1": "batch norm estimated anew",
    "retuned_asr1": "after a few poisoned samples",
    "reactivated_asr1": "trigger optimised anew",
    "pattern_asr1": "the pattern alone",
}
"""What each trap left, and what it is called."""
T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
"""Student's t, two-sided 95 %, by the number of values."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A mean over seeds."""

    mean: float
    half: float | None
    """Half the 95 % interval; None for one value."""
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.1f}" if self.half is None else f"{self.mean:.1f} ± {self.half:.1f}"


def figure(values: Sequence[float]) -> Figure:
    """The mean of one or more values."""
    half = None
    if len(values) > 1:
        t = T_95.get(len(values), 1.96)
        half = t * statistics.stdev(values) / len(values) ** 0.5
    return Figure(statistics.mean(values), half, len(values))


def write_results(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """One Parquet file of all rows; a column that a row lacks is null there."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: [row.get(name) for row in rows] for name in names}
    write_table(path, pa.table(columns))


def read_results(path: Path) -> list[dict[str, Any]]:
    """The rows that `write_results` wrote."""
    rows: list[dict[str, Any]] = read_table(path).to_pylist()
    return rows


Table = dict[tuple[str, float], dict[str, dict[str, Figure]]]
"""(method, learning rate) -> attack -> measure -> figure."""
MEASURES = ("ba1", "asr1", "ba1_named", "ba1_unnamed", "seconds", *TRAP_COLUMNS)


def table_of(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The last epoch of each cell, over its seeds."""
    found: dict[tuple[str, float], dict[str, list[Mapping[str, Any]]]] = {}
    for row in rows:
        if row["last"]:
            found.setdefault((row["method"], row["lr"]), {}).setdefault(row["attack"], []).append(row)
    return {
        key: {attack: _figures(of_attack) for attack, of_attack in by_attack.items()}
        for key, by_attack in sorted(
            found.items(), key=lambda item: (item[0][0] not in ("none", "clean"), item[0])
        )
    }


def _figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, Figure]:
    figures = {
        name: figure([row[name] for row in rows])
        for name in MEASURES
        if all(row.get(name) is not None for row in rows)
    }
    kinds = [name for name in rows[0] if name.startswith("counterfactual_")]
    if kinds:
        figures["counterfactual"] = figure([statistics.mean(row[kind] for kind in kinds) for row in rows])
    return figures


def attacks_of(table: Table) -> list[str]:
    """The names of all attacks in the table, sorted."""
    return sorted({attack for by_attack in table.values() for attack in by_attack})


def mean_of(
    by_attack: Mapping[str, Mapping[str, Figure]], attacks: Sequence[str], name: str
) -> Figure | None:
    """A method's mean over the attacks; None where one of them was not run: means of different attacks say nothing."""
    values = [by_attack[attack][name].mean for attack in attacks if name in by_attack.get(attack, {})]
    return Figure(statistics.mean(values), None, len(values)) if len(values) == len(attacks) else None


def results_table(table: Table) -> str:
    """Markdown: a line per method and learning rate, BA / ASR per attack, their means, counterfactuals, seconds.

    What is told of all attacks together is empty where a method was not run with each of them.
    """
    attacks = attacks_of(table)
    lines = [
        f"| method | lr | {' | '.join(attacks)} | mean BA / ASR | worst ASR | counterfactual | seconds |",
        "| --- | --- |" + " --- |" * (len(attacks) + 4),
    ]
    for (method, lr), by_attack in table.items():
        cells = [_cell(by_attack.get(attack)) for attack in attacks]
        lines.append(f"| {method} | {lr:g} | {' | '.join((*cells, *_together(by_attack, attacks)))} |")
    return "\n".join(lines)


def _cell(figures: Mapping[str, Figure] | None) -> str:
    return "" if figures is None else f"{figures['ba1']} / {figures['asr1']}"


def _together(by_attack: Mapping[str, Mapping[str, Figure]], attacks: Sequence[str]) -> tuple[str, ...]:
    ba, asr, counterfactual, seconds = (
        mean_of(by_attack, attacks, name) for name in ("ba1", "asr1", "counterfactual", "seconds")
    )
    if ba is None or asr is None:
        return "", "", "", ""
    worst = max(figures["asr1"].mean for figures in by_attack.values())
    return f"{ba} / {asr}", f"{worst:.1f}", str(counterfactual or ""), str(seconds or "")


def read_pictures(out: Path) -> dict[str, Path]:
    """Attack to the picture of its trigger, where one was drawn; of several seeds the first."""
    found: dict[str, Path] = {}
    for file in sorted((out / "cells").glob(f"*/{PICTURES}")):
        found.setdefault(file.parent.name.split(f"-{NO_DEFENCE}-")[0], file)
    return found
