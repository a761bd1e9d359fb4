"""Before and after a defence, side by side: the last station, for people (a table) and programs (result.json).

Reads what `trainer evaluate` or `trainer probe` wrote for the victim and for the defended model, and the run's
summary. Two evaluations are only set side by side where images, classes, prompts, trigger and target are the same.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.table import Table

from pipeline.errors import UserError
from pipeline.storage import write_json
from trainer.scores import FOOLED_POINTS, TOP_K, Evaluation

MEASURES: Final = tuple(f"{kind}{k}" for kind in ("ba", "asr") for k in TOP_K)
"""The names in result.json: ba1 ba3 ba5 ba10 asr1 asr3 asr5 asr10, percent."""
_SAME: Final = (
    "how",
    "data",
    "num_classes",
    "num_templates",
    "target",
    "trigger_sha256",
    "images_sha256",
    "prompts_sha256",
)
WORST: Final = 5
"""How many classes are shown: those that lose most, those that go to the target most."""
_TITLES: Final = {"ba": "BA", "asr": "ASR"}


def write_evaluation(
    result: Evaluation, path: Path, *, clean_model: Evaluation | None = None, **facts: Any
) -> None:
    """Write the evaluation as JSON, the clean model's beside it, and what else is to be remembered of it."""
    beside = {} if clean_model is None else {"clean_model": clean_model.to_json()}
    write_json(path, result.to_json() | facts | beside)


def read_evaluation(path: Path) -> dict[str, Any]:
    """An evaluation that `write_evaluation` wrote; UserError where the file is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"the evaluation {path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"the evaluation {path} is no JSON: {error}") from None
    if not isinstance(content, dict) or not isinstance(content.get("ba1"), int | float):
        raise UserError(f"{path} holds no evaluation: write one with `trainer evaluate --json`")
    return content


def evaluation_table(evaluation: Mapping[str, Any], *, told: str = "") -> Table:
    """One evaluation with n and 95 % intervals; both ways to count the attack's success. `told` opens the title."""
    how = evaluation.get("how", "zero-shot")
    table = Table(
        title=f"{told}{evaluation['model']} on {evaluation['data']} ({evaluation['num_classes']} classes), {how}"
    )
    columns = {"ba": "BA", "asr": "ASR", "asr_with_target": "ASR, target images counted"}
    columns = {name: title for name, title in columns.items() if evaluation.get(name)}
    table.add_column("top")
    for name, title in columns.items():
        table.add_column(f"{title} % (n = {next(iter(evaluation[name].values()))['n']})", justify="right")
    for k in evaluation["ba"]:
        table.add_row(k, *(_with_interval(evaluation[name][k]) for name in columns))
    facts = [f"weights sha256 {evaluation['weights_sha256'][:16]}"]
    if evaluation.get("trigger_sha256"):
        facts.insert(0, f"{evaluation['trigger_kind']} -> {evaluation['target']}")
        facts.append(f"trigger sha256 {evaluation['trigger_sha256'][:16]}")
    table.caption = ", ".join(facts)
    return table


def print_evaluations(result: Evaluation, *, clean_model: Evaluation | None = None) -> None:
    """One evaluation's tables on stdout; a clean model's and the verdict on it (on stderr where it is a warning)."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    evaluation = result.to_json()
    for table in (evaluation_table(evaluation), confusion_table(evaluation)):
        if table is not None:
            console.print(table)
    if clean_model is not None:
        console.print(evaluation_table(clean_model.to_json(), told="the clean model: "))
        line = sanity_line(clean_model.to_json())
        print(line, file=sys.stderr if line.startswith("warning") else sys.stdout)


def confusion_table(evaluation: Mapping[str, Any]) -> Table | None:
    """Which classes' images are put in the target, clean and with the trigger; None without a target.

    All images of other classes first, then the classes whose clean images go there most.
    """
    everything = evaluation.get("clean_as_target")
    if not everything:
        return None
    target, triggered = evaluation["target"], bool(evaluation.get("asr"))
    table = Table(title=f"Images of other classes that are put in {target!r} (%)")
    for title in ("images of", "n", "BA", "clean", *(("with the trigger",) if triggered else ())):
        table.add_column(title, justify="left" if title == "images of" else "right")
    attacked = (_with_interval(evaluation["asr"]["1"]),) if triggered else ()
    table.add_row("all other classes", str(everything["n"]), "", _with_interval(everything), *attacked)
    table.add_section()
    others = [row for row in evaluation["classes"] if row["name"] != target and row["n"]]
    most = sorted(others, key=lambda row: (-row["to_target"] / row["n"], row["name"]))[:WORST]
    for row in (row for row in most if row["to_target"]):
        shares = [row["to_target"], *((row["to_target_triggered"],) if triggered else ())]
        percents = [f"{100 * share / row['n']:.1f}" for share in shares]
        table.add_row(row["name"], str(row["n"]), f"{row['ba1']:.1f}", *percents)
    return table


def retrieval_table(retrieval: Mapping[str, Any]) -> Table:
    """What `trainer retrieve` found, with 95 % intervals."""
    table = Table(
        title=f"{retrieval['model']} on {retrieval['data']}: "
        f"{retrieval['num_images']} images, {retrieval['num_captions']} captions",
        caption=f"weights sha256 {retrieval['weights_sha256'][:16]}",
    )
    table.add_column("R@k")
    table.add_column("image to text %", justify="right")
    table.add_column("text to image %", justify="right")
    sides = retrieval["image_to_text"], retrieval["text_to_image"]
    for k in sorted({*sides[0], *sides[1]}, key=int):
        table.add_row(k, *(_with_interval(side[k]) if k in side else "" for side in sides))
    return table


def sanity_line(clean_model: Mapping[str, Any]) -> str:
    """What the same trigger does to a clean model, in a line; a warning where it fools it."""
    asr, clean = clean_model["asr"]["1"], clean_model["clean_as_target"]
    told = (
        f"ASR {asr['percent']:.1f} % ({asr['low']:.1f} to {asr['high']:.1f}), "
        f"{clean['percent']:.1f} % without the trigger"
    )
    if asr["percent"] - clean["percent"] > FOOLED_POINTS:
        return f"warning: the trigger fools the clean model ({told}): an adversarial patch, no backdoor"
    return f"the clean model is not fooled by the trigger: {told}"


def comparison_table(before: Mapping[str, Any], after: Mapping[str, Any]) -> Table:
    """BA and ASR before and after the defence, top 1 to 10, and what changed in points."""
    n = " and ".join(
        f"{_TITLES[kind]} n = {before[kind]['1']['n']}" for kind in ("ba", "asr") if before.get(kind)
    )
    table = Table(title="Before and after the defence (%)", caption=f"in brackets: 95 % interval; {n}")
    for title in ("", "before", "after", "change"):
        table.add_column(title, justify="right" if title else "left")
    for kind in ("ba", "asr"):
        for k in (str(k) for k in TOP_K):
            if k not in before.get(kind, {}):
                continue
            old, new = before[kind][k], after[kind][k]
            change = f"{new['percent'] - old['percent']:+.1f}"
            table.add_row(f"{_TITLES[kind]} top-{k}", _with_interval(old), _with_interval(new), change)
        table.add_section()
    old, new = before.get("clean_as_target"), after.get("clean_as_target")
    if old and new:
        change = f"{new['percent'] - old['percent']:+.1f}"
        table.add_row("clean images in the target", _with_interval(old), _with_interval(new), change)
    return table


def class_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each class's `name, n, before, after, change`: BA top-1 in percent and points, those that lose most first."""
    rows = [
        {
            "name": old["name"],
            "n": old["n"],
            "before": old["ba1"],
            "after": new["ba1"],
            "change": new["ba1"] - old["ba1"],
        }
        for old, new in zip(before.get("classes", ()), after.get("classes", ()), strict=True)
        if old["n"]
    ]
    return sorted(rows, key=lambda row: (row["change"], row["name"]))


def class_table(changes: list[dict[str, Any]]) -> Table:
    """The classes that lose most BA in the defence."""
    lost = sum(row["change"] < 0 for row in changes)
    table = Table(
        title=f"BA top-1 by class (%): the {min(WORST, len(changes))} that lose most",
        caption=f"{lost} of {len(changes)} classes lose; all are in result.json under class_ba",
    )
    for title in ("class", "n", "before", "after", "change"):
        table.add_column(title, justify="left" if title == "class" else "right")
    for row in changes[:WORST]:
        shares = (f"{row['before']:.1f}", f"{row['after']:.1f}", f"{row['change']:+.1f}")
        table.add_row(row["name"], str(row["n"]), *shares)
    return table


def build_result(
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    *,
    summary: Mapping[str, Any] | None = None,
    paths: Mapping[str, Path] | None = None,
) -> dict[str, Any]:
    """result.json: `before` and `after` with MEASURES in percent, seconds per step, and where everything is.

    Raises:
        UserError: The evaluations are of other data, classes or triggers, or one of them has no trigger.
    """
    for name in _SAME:
        if before.get(name) != after.get(name):
            raise UserError(
                f"the two evaluations cannot be compared: {name} is {before.get(name)!r} before "
                f"and {after.get(name)!r} after"
            )
    if not before.get("trigger_sha256"):
        raise UserError(
            "the evaluations have no trigger: evaluate with --trigger and --target to report a defence"
        )
    kept = ("model", "weights_sha256", "num_left_out")
    told = {
        side: {name: evaluation[name] for name in MEASURES if name in evaluation}
        | {name: evaluation[name] for name in kept}
        | {"asr1_with_target": evaluation["asr_with_target"]["1"]["percent"]}
        | {"n_ba": evaluation["ba"]["1"]["n"], "n_asr": evaluation["asr"]["1"]["n"]}
        | {"clean_as_target": (evaluation.get("clean_as_target") or {}).get("percent")}
        for side, evaluation in (("before", before), ("after", after))
    }
    return {
        **told,
        "class_ba": class_changes(before, after),
        "clean_model": _clean_side(before.get("clean_model")),
        "seconds_per_step": None if summary is None else summary.get("seconds_per_step"),
        "steps": None if summary is None else summary.get("steps"),
        "data": before["data"],
        "target": before["target"],
        "trigger": before["trigger_kind"],
        "trigger_sha256": before["trigger_sha256"],
        "paths": {name: str(path) for name, path in (paths or {}).items()},
    }


def _clean_side(clean_model: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What the evaluation of the victim says of a clean model beside it."""
    if clean_model is None:
        return None
    told = {name: clean_model[name] for name in (*MEASURES, "weights_sha256") if name in clean_model}
    return told | {"clean_as_target": clean_model["clean_as_target"]["percent"]}


def read_summary(run: Path) -> dict[str, Any]:
    """The summary of a finished run; UserError where the folder holds none."""
    path = run / "summary.json"
    if not path.is_file():
        raise UserError(f"{run} holds no finished run: there is no summary.json")
    return dict(json.loads(path.read_text(encoding="utf-8")))


def report(
    before: Path, after: Path, *, out: Path, run: Path | None = None, paths: Mapping[str, Path] | None = None
) -> RenderableType:
    """Write `out` (result.json) from two evaluation files; the tables to print.

    `run` is the defence's folder, whose summary.json tells the seconds per step.
    """
    old, new = read_evaluation(before), read_evaluation(after)
    summary = None if run is None else read_summary(run)
    all_paths = {"before": before, "after": after, **({} if run is None else {"run": run}), **(paths or {})}
    write_json(out, build_result(old, new, summary=summary, paths={**all_paths, "result": out}))
    changes = class_changes(old, new)
    return Group(comparison_table(old, new), *([class_table(changes)] if changes else []))


def _with_interval(share: Mapping[str, Any]) -> str:
    return f"{share['percent']:.1f} [dim]({share['low']:.1f} to {share['high']:.1f})[/dim]"
