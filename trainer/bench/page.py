"""The results of a suite as one page: tables and figures, in one file that asks the network for nothing.

Figures are SVG by matplotlib, drawn without a window; texts are escaped; light and dark follow the reader's system.
"""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from pipeline.page import table as plain_table
from pipeline.page import write_page as write_parts
from trainer import __version__
from trainer.bench.results import (
    NO_DEFENCE,
    REFERENCES,
    TRAP_COLUMNS,
    Figure,
    Table,
    attacks_of,
    mean_of,
    table_of,
)
from trainer.bench.sensitivity import curves, draw_curves
from trainer.figures import COLOURS, Drawing, figure, panels, picture

STYLE = "tr + tr th:first-child { min-width: 0; text-align: right; }"
"""The second line of the table's head."""
Key = tuple[str, float]
"""A method at a learning rate."""


def write_page(
    path: Path, rows: Sequence[Mapping[str, Any]], *, pictures: Mapping[str, Path] | None = None
) -> None:
    """Writes the page of a suite's rows; `pictures` are attack to PNG."""
    table = table_of(rows)
    colours = _colours(table)
    defended = [key for key in table if key[0] not in REFERENCES]
    suite = rows[0]["suite"]
    seeds = sorted({row["seed"] for row in rows if row["method"] not in REFERENCES})
    parts = [
        f"<p>BA is zero-shot accuracy on clean images, ASR the share of triggered images of other classes that are "
        f"read as the target; percent, top 1, after the last epoch. {_seeds(seeds)} Green: the best of a column "
        f"(of BA and of ASR).</p>",
        _results(table),
        panels(
            "ASR by epoch",
            _asr_by_epoch(rows, colours),
            "Percent; one panel an attack; the lines are the methods.",
            legend=_legend(table, defended),
        ),
        panels(
            "What it costs",
            {"all attacks": _frontier(table, colours)},
            "Mean BA and mean ASR of each method that was run with every attack: down and right is better.",
            legend=_legend(table, [key for key in table if mean_of(table[key], attacks_of(table), "ba1")]),
        ),
        *_sensitivity(table),
        *_diagnosis(rows, table, colours),
        *_traps(table),
        *(_picture(attack, file) for attack, file in sorted((pictures or {}).items())),
        "<h2>Classes that the defender's data show, and others</h2>",
        _classes(table),
        "<h2>Provenance</h2>",
        _provenance(rows),
    ]
    write_parts(path, f"{suite}: defences side by side", parts, style=STYLE)


def _seeds(seeds: Sequence[int]) -> str:
    if len(seeds) == 1:
        return "One seed: no interval."
    return f"Mean and 95 % interval of {len(seeds)} seeds."


def _name(method: str, lr: float, table: Table) -> str:
    several = len({rate for name, rate in table if name == method}) > 1
    return f"{method} at {lr:g}" if several else method


def _results(table: Table) -> str:
    attacks = attacks_of(table)
    best = {(attack, name): _best(table, attack, name) for attack in attacks for name in ("ba1", "asr1")}
    head = "".join(f'<th colspan="2">{escape(attack)}</th>' for attack in attacks)
    below = "<th>BA</th><th>ASR</th>" * (len(attacks) + 1)
    lines = [
        f'<tr><th rowspan="2">method</th>{head}<th colspan="2">mean</th>'
        f'<th rowspan="2">counterfactual</th><th rowspan="2">seconds</th></tr><tr>{below}</tr>'
    ]
    for (method, lr), by_attack in table.items():
        cells = [f"<td>{escape(_name(method, lr, table))}</td>"]
        for attack in attacks:
            for name in ("ba1", "asr1"):
                found = by_attack.get(attack, {}).get(name)
                cells.append(
                    _cell(
                        found,
                        found is not None and found.mean == best[attack, name] and method not in REFERENCES,
                    )
                )
        cells += [
            _cell(mean_of(by_attack, attacks, name), False)
            for name in ("ba1", "asr1", "counterfactual", "seconds")
        ]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f'<div class="wide"><table>{"".join(lines)}</table></div>'


def _best(table: Table, attack: str, name: str) -> float:
    found = [
        by_attack[attack][name].mean
        for (method, _), by_attack in table.items()
        if method not in REFERENCES and attack in by_attack
    ]
    return (max if name == "ba1" else min)(found, default=float("nan"))


def _cell(found: Figure | None, best: bool) -> str:
    text = "" if found is None else escape(str(found))
    return f"<td>{f'<b>{text}</b>' if best else text}</td>"


def _classes(table: Table) -> str:
    lines = ["<tr><th>method</th><th>BA, shown classes</th><th>BA, other classes</th></tr>"]
    attacks = attacks_of(table)
    for (method, lr), by_attack in table.items():
        cells = [_cell(mean_of(by_attack, attacks, name), False) for name in ("ba1_named", "ba1_unnamed")]
        lines.append(f"<tr><td>{escape(_name(method, lr, table))}</td>{''.join(cells)}</tr>")
    return f'<div class="wide"><table>{"".join(lines)}</table></div>'


def _traps(table: Table) -> list[str]:
    """What the backdoors came back by: nothing where no trap was set."""
    sprung = {
        key: by_attack
        for key, by_attack in table.items()
        if any("rebound_asr1" in figures for figures in by_attack.values())
    }
    if not sprung:
        return []
    lines = [
        f"<tr><th>method</th>{''.join(f'<th>{escape(told)}</th>' for told in TRAP_COLUMNS.values())}</tr>"
    ]
    for (method, lr), by_attack in sprung.items():
        cells = "".join(_cell(_highest(by_attack, name), False) for name in TRAP_COLUMNS)
        lines.append(f"<tr><td>{escape(_name(method, lr, table))}</td>{cells}</tr>")
    return [
        "<h2>What it comes back by</h2>",
        "<p>The highest ASR of all attacks after each trap, percent. What the clean model shows in the same column "
        "is what the trigger and the trap do without any backdoor.</p>",
        f'<div class="wide"><table>{"".join(lines)}</table></div>',
    ]


def _highest(by_attack: Mapping[str, Mapping[str, Figure]], name: str) -> Figure | None:
    found = [figures[name] for figures in by_attack.values() if name in figures]
    return max(found, key=lambda figure: figure.mean) if found else None


def _diagnosis(rows: Sequence[Mapping[str, Any]], table: Table, colours: Mapping[Key, str]) -> list[str]:
    last = [row for row in rows if row["last"] and row.get("triggered_to_clean")]
    if not last:
        return []
    told = (
        "Each point is a triggered image: how near it is to its clean twin (right: the trigger does nothing), and to "
        "the target's text (up: the backdoor). One seed."
    )
    shown = [key for key in table if key in {(row["method"], row["lr"]) for row in last}]
    return [panels("Where triggered images lie", _places(last, colours), told, legend=_legend(table, shown))]


def _sensitivity(table: Table) -> list[str]:
    found = curves(table)
    if not found:
        return []
    told = "Each panel is one option with all others as they are; means over the attacks that every value was run on."
    return [figure("What an option does", draw_curves(found), told)]


def _picture(attack: str, file: Path) -> str:
    with Image.open(file) as image:
        return picture(f"The trigger of {attack}", image, "Below each image: what the victim reads it as.")


def _provenance(rows: Sequence[Mapping[str, Any]]) -> str:
    """What was run, and the hashes of triggers and victims."""
    runs = {(row["attack"], row["method"], row["lr"], row["seed"]) for row in rows}
    seeds = sorted({row["seed"] for row in rows})
    facts = [
        ("page made by", f"cleanerclip {__version__}"),
        ("suite", str(rows[0]["suite"])),
        ("runs", f"{len(runs)}, seeds {', '.join(map(str, seeds))}"),
        ("methods, with their options", ", ".join(sorted({row["method"] for row in rows}))),
        ("learning rates", ", ".join(f"{lr:g}" for lr in sorted({row["lr"] for row in rows}))),
    ]
    lines = ["<tr><th>attack</th><th>victim</th><th>trigger sha256</th><th>victim's weights sha256</th></tr>"]
    for row in rows:
        if row["method"] == NO_DEFENCE:
            cells = (row["attack"], row["victim"], row["trigger_sha256"][:16], row["weights_sha256"][:16])
            lines.append(f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in cells)}</tr>")
    return plain_table((), facts, kind="facts") + f'<div class="wide"><table>{"".join(lines)}</table></div>'


# ------------------------------------------------------------------------------------------------------------- figures
def _colours(table: Table) -> dict[Key, str]:
    """The colour of each method at each learning rate, in all figures."""
    return {key: COLOURS[place % len(COLOURS)] for place, key in enumerate(table)}


def _legend(table: Table, keys: Sequence[Key]) -> dict[str, str]:
    colours = _colours(table)
    return {_name(*key, table): colours[key] for key in keys}


def _asr_by_epoch(rows: Sequence[Mapping[str, Any]], colours: Mapping[Key, str]) -> dict[str, Drawing]:
    drawings = {}
    for attack in sorted({row["attack"] for row in rows}):
        drawings[attack] = drawing = Drawing(figsize=(3.4, 2.4), layout="constrained")
        panel = drawing.subplots()
        start = [row["asr1"] for row in rows if row["attack"] == attack and row["method"] == NO_DEFENCE]
        for (method, lr), colour in colours.items():
            line = _by_epoch(rows, attack, method, lr)
            if method in REFERENCES or not line:
                continue
            if start:
                line = {0: sum(start) / len(start), **line}
            panel.plot(list(line), list(line.values()), color=colour, lw=1.6)
        panel.set_title(attack, fontsize=10)
        panel.set_xlabel("epoch", fontsize=8)
        panel.set_ylim(-3, 103)
        panel.grid(alpha=0.25)
    return drawings


def _by_epoch(rows: Sequence[Mapping[str, Any]], attack: str, method: str, lr: float) -> dict[int, float]:
    found: dict[int, list[float]] = {}
    for row in rows:
        if (row["attack"], row["method"], row["lr"]) == (attack, method, lr):
            found.setdefault(row["epoch"], []).append(row["asr1"])
    return {epoch: sum(values) / len(values) for epoch, values in sorted(found.items())}


def _places(last: Sequence[Mapping[str, Any]], colours: Mapping[Key, str]) -> dict[str, Drawing]:
    near = [
        values
        for row in last
        for values in zip(row["triggered_to_clean"], row["triggered_to_target"], strict=True)
    ]
    bounds = [(min(side) - 0.05, max(side) + 0.05) for side in zip(*near, strict=True)]
    drawings = {}
    for attack in sorted({row["attack"] for row in last}):
        drawings[attack] = drawing = Drawing(figsize=(3.4, 2.7), layout="constrained")
        panel = drawing.subplots()
        for key, colour in colours.items():
            row = next((r for r in last if (r["attack"], (r["method"], r["lr"])) == (attack, key)), None)
            if row is not None:
                places = row["triggered_to_clean"], row["triggered_to_target"]
                panel.scatter(*places, s=5, alpha=0.5, lw=0, color=colour)
        panel.set_xlim(bounds[0])
        panel.set_ylim(bounds[1])
        panel.set_title(attack, fontsize=10)
        panel.set_xlabel("cosine to the clean twin", fontsize=8)
        panel.set_ylabel("to the target's text", fontsize=8)
        panel.grid(alpha=0.25)
    return drawings


def _frontier(table: Table, colours: Mapping[Key, str]) -> Drawing:
    drawing = Drawing(figsize=(5, 3.4), layout="constrained")
    panel = drawing.subplots()
    attacks = attacks_of(table)
    for key, by_attack in table.items():
        ba, asr = (mean_of(by_attack, attacks, name) for name in ("ba1", "asr1"))
        if ba is not None and asr is not None:
            panel.scatter(ba.mean, asr.mean, color=colours[key], s=36, zorder=3)
    panel.set_xlabel("mean BA, %")
    panel.set_ylabel("mean ASR, %")
    panel.set_ylim(-3, 103)
    panel.grid(alpha=0.25)
    return drawing
