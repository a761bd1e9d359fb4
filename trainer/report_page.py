"""`trainer report` as a page: one evaluation, or the one before a defence and the one after, with what the run kept.

Figures come from the evaluations' JSON, loss and options from the run's folder; nothing is computed anew but shares.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from PIL import Image

from pipeline.errors import UserError
from pipeline.page import paragraph, table, write_page
from trainer import __version__
from trainer.figures import COLOURS, Drawing, figure, panels, picture
from trainer.report import build_result, class_changes, read_evaluation, read_summary, sanity_line
from trainer.report_captions import sampled_captions
from trainer.scores import TOP_K

TITLES: Final = {"ba": "BA", "asr": "ASR"}
MOST_CLASSES: Final = 12
MOST_PIXELS: Final = 50_000_000


def write_report_page(
    before: Path,
    after: Path | None,
    *,
    out: Path,
    run: Path | None = None,
    pictures: Sequence[Path] = (),
    shards: str | None = None,
) -> None:
    """Writes the page of one evaluation, or of two; UserError where a file is none or the two do not go together.

    `shards` are those that the defence learned from: some of their captions are shown.
    """
    old = read_evaluation(before)
    new = None if after is None else read_evaluation(after)
    summary = None if run is None else read_summary(run)
    if new is not None:
        build_result(old, new)  # refuses what cannot be compared
    sides = {"before": old, "after": new} if new is not None else {"the model": old}
    attacked = f" attacked by {old['trigger_kind']}, aim {old['target']}" if old.get("trigger_sha256") else ""
    parts = [
        paragraph(
            f"{old['model']} on {old['data']} ({old['num_classes']} classes, {old.get('how', 'zero-shot')}){attacked}. "
            "BA: share of clean images put in their own class; ASR: share of triggered images of other classes put in "
            "the target. Percent, with 95 % intervals."
        ),
        panels("BA and ASR", _draw_measures(sides), f"Top 1 to 10; {_counts(old)}.", legend=_legend(sides)),
        table(("", *sides), [*_measures(sides)], kind="measures"),
    ]
    if old.get("clean_model"):
        parts.append(paragraph(sanity_line(old["clean_model"])))
    parts += [*_by_epoch(sides), *_places(sides), *_pictures(pictures, list(sides))]
    if new is not None:
        parts += ["<h2>Classes that lose most</h2>", _class_table(old, new)]
    if shards is not None:
        parts += sampled_captions(shards)
    if run is not None:
        parts += _of_run(run, summary or {})
    parts += ["<h2>Provenance</h2>", table((), _provenance(sides, run, summary), kind="facts")]
    title = (
        f"Before and after the defence: {old['model']}"
        if new is not None
        else f"Evaluation of {old['model']}"
    )
    write_page(out, title, parts)


def _counts(evaluation: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{TITLES[kind]} n = {evaluation[kind]['1']['n']}" for kind in TITLES if evaluation.get(kind)
    )


def _measures(sides: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, ...]]:
    rows = []
    for kind, title in TITLES.items():
        for k in map(str, TOP_K):
            shares = [side[kind].get(k) if side.get(kind) else None for side in sides.values()]
            if any(shares):
                rows.append((f"{title} top-{k}", *map(_told, shares)))
    rows.append(
        ("clean images in the target", *(_told(side.get("clean_as_target")) for side in sides.values()))
    )
    return [row for row in rows if any(row[1:])]


def _told(share: Mapping[str, Any] | None) -> str:
    return (
        "" if not share else f"{share['percent']:.1f} ({share['low']:.1f}\u00a0to\u00a0{share['high']:.1f})"
    )


def _legend(sides: Iterable[str]) -> dict[str, str]:
    return {name: COLOURS[1 - number] for number, name in enumerate(sides)}


def _draw_measures(sides: Mapping[str, Mapping[str, Any]]) -> dict[str, Drawing]:
    kinds = [kind for kind in TITLES if any(side.get(kind) for side in sides.values())]
    return {TITLES[kind]: _draw_measure(kind, sides) for kind in kinds}


def _draw_measure(kind: str, sides: Mapping[str, Mapping[str, Any]]) -> Drawing:
    drawing = Drawing(figsize=(3.6, 2.7), layout="constrained")
    panel = drawing.subplots()
    for number, (name, side) in enumerate(sides.items()):
        shares = [
            (place, side[kind][str(k)]) for place, k in enumerate(TOP_K) if str(k) in side.get(kind, {})
        ]
        middle = [share["percent"] for _, share in shares]
        low = [share["percent"] - share["low"] for _, share in shares]
        high = [share["high"] - share["percent"] for _, share in shares]
        places = [place + 0.12 * (number - (len(sides) - 1) / 2) for place, _ in shares]
        colour = _legend(sides)[name]
        panel.errorbar(places, middle, yerr=(low, high), fmt="o", ms=5, capsize=3, color=colour)
    panel.set_xticks(range(len(TOP_K)), [f"top-{k}" for k in TOP_K], fontsize=8)
    panel.set_title(f"{TITLES[kind]}, %", fontsize=10)
    panel.set_ylim(-3, 103)
    panel.grid(alpha=0.25)
    return drawing


def _by_epoch(sides: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """BA and ASR after each epoch, where the last evaluation was made with --by-epoch; epoch 0 is the first one's."""
    *before, last = sides.values()
    rows = [row for row in last.get("by_epoch") or () if isinstance(row.get("ba1"), int | float)]
    if not rows:
        return []
    rows = [{"epoch": 0, "ba1": side["ba1"], "asr1": side.get("asr1")} for side in before] + rows
    drawing = Drawing(figsize=(5, 2.4), layout="constrained")
    panel = drawing.subplots()
    for colour, (name, title) in zip(COLOURS, {"ba1": "BA", "asr1": "ASR"}.items(), strict=False):
        told = [(row["epoch"], row[name]) for row in rows if row.get(name) is not None]
        panel.plot(*zip(*told, strict=True), "o-", color=colour, lw=1.6, ms=4, label=title) if told else None
    panel.set_xticks([row["epoch"] for row in rows])
    panel.set_xlabel("epoch", fontsize=9)
    panel.set_ylabel("%", fontsize=9)
    panel.set_ylim(-3, 103)
    panel.grid(alpha=0.25)
    panel.legend(fontsize=8, frameon=False)
    return [figure("BA and ASR by epoch", drawing, "Top 1, on the same images; 0 is the model as it came.")]


def _places(sides: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Each triggered image in the embedding: beside the target's text, or beside its clean twin."""
    told = {name: side["places"] for name, side in sides.items() if _are_places(side.get("places"))}
    if not told:
        return []
    drawing = Drawing(figsize=(5, 3.2), layout="constrained")
    panel = drawing.subplots()
    for number, (name, places) in enumerate(told.items()):
        near = places["triggered_to_clean"], places["triggered_to_target"]
        panel.scatter(*near, s=12, alpha=0.55, lw=0, color=COLOURS[1 - number], label=name)
    panel.set_xlabel("cosine to the same image without the trigger", fontsize=9)
    panel.set_ylabel("cosine to the target's text", fontsize=9)
    panel.grid(alpha=0.25)
    if len(told) > 1:
        panel.legend(fontsize=8, frameon=False, markerscale=2)
    return [
        figure(
            "Where triggered images lie in the embedding",
            drawing,
            "A point is a triggered image of another class. Right: the trigger does nothing. Up: the backdoor.",
        )
    ]


def _are_places(found: object) -> bool:
    names = ("triggered_to_clean", "triggered_to_target")
    lists = [found.get(name) for name in names] if isinstance(found, dict) else []
    return len({len(each) if isinstance(each, list) else 0 for each in lists} | {0}) == 2 and all(lists)


def _pictures(files: Sequence[Path], sides: Sequence[str]) -> list[str]:
    """What `trainer evaluate --pictures` drew of each side, in the order in which they are given."""
    if len(files) > len(sides):
        raise UserError(f"{len(files)} pictures of {len(sides)} evaluations: one of each at most")
    told = "Clean, with the trigger, and the difference; below each the class that it is put in."
    titles = [f"What the model saw, {side}" if len(sides) > 1 else "What the model saw" for side in sides]
    return [picture(title, _open(file), told) for title, file in zip(titles, files, strict=False)]


def _class_table(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    rows = [
        (row["name"], str(row["n"]), f"{row['before']:.1f}", f"{row['after']:.1f}", f"{row['change']:+.1f}")
        for row in class_changes(old, new)[:MOST_CLASSES]
    ]
    return table(("class", "n", "BA before", "after", "change"), rows)


def _of_run(run: Path, summary: Mapping[str, Any]) -> list[str]:
    """Loss by step, where the run's folder tells it, and what the run cost."""
    steps = _read_metrics(run / "metrics.jsonl")
    parts = []
    if steps:
        drawing = Drawing(figsize=(5, 2.4), layout="constrained")
        panel = drawing.subplots()
        panel.plot([row["step"] for row in steps], [row["loss"] for row in steps], color=COLOURS[0], lw=1.4)
        panel.set_xlabel("step", fontsize=9)
        panel.set_ylabel("loss", fontsize=9)
        panel.grid(alpha=0.25)
        parts.append(figure("Loss", drawing, f"{steps[-1]['epoch']} epochs, {steps[-1]['step']} steps."))
    cost = {
        name.replace("_", " "): f"{summary[name]:.4g}"
        if isinstance(summary[name], float)
        else str(summary[name])
        for name in ("steps", "epochs", "samples", "seconds", "seconds_per_step")
        if name in summary
    }
    return [*parts, "<h2>What it cost</h2>", table((), list(cost.items()), kind="facts")]


def _read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics file that say step, epoch and loss; none where there is no such file."""
    rows = []
    for line in path.read_text("utf-8").splitlines() if path.is_file() else ():
        try:
            row = json.loads(line)
            rows.append(
                {name: float(row[name]) for name in ("loss",)}
                | {name: int(row[name]) for name in ("step", "epoch")}
            )
        except (ValueError, KeyError, TypeError):
            continue
    return rows


def _provenance(
    sides: Mapping[str, Mapping[str, Any]], run: Path | None, summary: Mapping[str, Any] | None
) -> Sequence[tuple[str, str]]:
    rows = [("page made by", f"cleanerclip {__version__}")]
    rows += [(f"weights sha256, {name}", str(side["weights_sha256"])) for name, side in sides.items()]
    old = next(iter(sides.values()))
    for name in ("trigger_sha256", "images_sha256", "prompts_sha256"):
        if old.get(name):
            rows.append((name.replace("_", " "), str(old[name])))
    if run is not None:
        rows.append(("run", str(run)))
        rows += [
            (name.replace("_", " "), str((summary or {})[name]))
            for name in ("options_sha256", "shards_sha256")
            if name in (summary or {})
        ]
        rows += _options(run / "options.json")
    return rows


def _options(path: Path) -> list[tuple[str, str]]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return []
    told = {
        name: content.get(name)
        for name in ("command", "version", "torch", "method", "batches", "optim", "train", "poison")
    }
    return [
        (
            name,
            ", ".join(f"{key} {each}" for key, each in value.items())
            if isinstance(value, dict)
            else str(value),
        )
        for name, value in told.items()
        if value is not None
    ]


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            if image.width * image.height > MOST_PIXELS:
                raise UserError(f"{path} has more than {MOST_PIXELS} pixels")
            image.load()
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{path} is no picture that `trainer evaluate --pictures` wrote: {error}") from None
