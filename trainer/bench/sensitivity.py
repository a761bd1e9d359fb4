"""What an option does: BA and ASR against its values, where a bench ran one method with several of them.

The paper's Figure 4 (lambda2, tau, K) is `counterfactual_weight`, `tau_positive`, `tau_negative` and `triples` of
`cleanerclip`; any other option of any method gives a panel in the same way.
"""

from collections.abc import Mapping
from dataclasses import fields
from statistics import fmean
from textwrap import fill
from typing import Any, Final

from trainer.bench.cells import GROUPS, parse_method
from trainer.bench.results import REFERENCES, Table
from trainer.defences import DEFENCES
from trainer.figures import COLOURS, Drawing

LEAST_VALUES: Final = 3
"""Two values make no curve."""
Curve = list[tuple[float, float, float]]
"""(value, mean BA, mean ASR) in percent, by value."""


def curves(table: Table) -> dict[str, Curve]:
    """A title -> its curve, for each option that alone differs between three methods or more of a table.

    A method that does not name the option counts with the option's default. Only attacks that all of a curve's
    methods were run on are in its means.
    """
    families: dict[tuple[str, str, float, tuple[tuple[str, str], ...]], dict[float, str]] = {}
    parsed = {(text, lr): parse_method(text) for text, lr in table if text not in REFERENCES}
    options = {(name, option) for name, given in parsed.values() for option in given}
    for (text, lr), (name, given) in parsed.items():
        for option in sorted(each for of, each in options if of == name):
            value = _number(given.get(option, default_of(name, option)))
            if value is not None:
                rest = tuple(sorted((key, told) for key, told in given.items() if key != option))
                families.setdefault((name, option, lr, rest), {})[value] = text
    found = {}
    for (name, option, lr, rest), members in sorted(families.items()):
        if len(members) >= LEAST_VALUES:
            by_value = {value: table[text, lr] for value, text in sorted(members.items())}
            shared = set.intersection(*(set(by_attack) for by_attack in by_value.values()))
            if shared:
                others = "".join(f", {key}={told}" for key, told in rest)
                title = f"{name}{others} at {lr:g}: {option}"
                found[title] = [(value, *_means(of, shared)) for value, of in by_value.items()]
    return found


def default_of(method: str, option: str) -> Any:
    """What a method takes where the option is not given; None where it has none of that name."""
    for group in (DEFENCES[method].options, *GROUPS):
        for field in fields(group):
            if field.name == option:
                return field.default
    return None


def _number(value: Any) -> float | None:
    try:
        return None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None


def _means(by_attack: Mapping[str, Mapping[str, Any]], attacks: set[str]) -> tuple[float, float]:
    ba, asr = (fmean(by_attack[attack][name].mean for attack in attacks) for name in ("ba1", "asr1"))
    return ba, asr


def draw_curves(found: Mapping[str, Curve]) -> Drawing:
    """A panel for each curve: BA and ASR, percent, against the option's values, evenly spaced."""
    columns = min(3, len(found))
    lines = -(-len(found) // columns)
    drawing = Drawing(figsize=(3.2 * columns, 2.6 * lines + 0.5), layout="constrained")
    panels = list(drawing.subplots(lines, columns, sharey=True, squeeze=False).flat)
    for panel in panels[len(found) :]:
        panel.set_visible(False)
    for panel, (title, curve) in zip(panels, found.items(), strict=False):
        places = range(len(curve))
        for number, name in enumerate(("BA", "ASR"), start=1):
            panel.plot(
                places, [point[number] for point in curve], "o-", color=COLOURS[number - 1], label=name
            )
        panel.set_xticks(places, [f"{point[0]:g}" for point in curve], fontsize=8)
        panel.set_title(fill(title, 34), fontsize=8)
        panel.set_ylim(-3, 103)
        panel.grid(alpha=0.25)
    drawing.supylabel("percent", fontsize=9)
    drawing.legend(
        *panels[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=2,
        fontsize=8,
        frameon=False,
    )
    return drawing
