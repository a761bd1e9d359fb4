"""Audits models of which it is known whether they carry a backdoor: scores, AUROC, what is missed, seconds a model.

    python -m benchmarks.audit --data SHARDS --out audits.jsonl --calibrate-on clean=DIR a=DIR b=DIR \
        --clean c=DIR ... --victims badnet=DIR ... --calibration calibration.json

Models are NAME=CHECKPOINT. Each is searched once, its figures go to a line of --out, and a rerun does what is missing.
The calibration is made of the models of --calibrate-on alone and written to --calibration; the others are judged by
it. Prints a Markdown table, the area under the ROC curve of --victims against --clean, and the slowest model.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from trainer.audit.auditing import audit_model
from trainer.audit.calibration import Calibration, CleanModel, architecture_of, distances, write_calibration
from trainer.audit.concepts import embed_concepts, lexicon_nouns
from trainer.audit.search import SearchOptions
from trainer.audit.waves import KIND, excess, ride
from trainer.embedding import evaluation_mode
from trainer.model import ClipModel, ModelChoice


def main() -> None:
    options = parse_options()
    groups = {"calibration": options.calibrate_on, "clean": options.clean, "victim": options.victims}
    rows = read_rows(options.out)
    for group, models in groups.items():
        for given in models:
            name, _, checkpoint = given.partition("=")
            if all(row["name"] != name for row in rows):
                row = {"name": name, "group": group, **audit(Path(checkpoint), options)}
                with options.out.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                rows.append(row)
                print(f"{name}: {row['seconds']} s", file=sys.stderr, flush=True)
    calibration = calibrate(rows, images=options.images)
    if options.calibration is not None:
        write_calibration(calibration, options.calibration)
    print(table(rows, calibration))


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--calibrate-on", nargs="+", required=True)
    parser.add_argument("--clean", nargs="*", default=[])
    parser.add_argument("--victims", nargs="*", default=[])
    parser.add_argument("--calibration", type=Path)
    parser.add_argument("--classes", nargs="*", default=[], help="concepts beside the captions' nouns")
    parser.add_argument("--images", default="drawn scenes", help="what the calibration says they are")
    return parser.parse_args()


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def audit(checkpoint: Path, options: argparse.Namespace) -> dict[str, Any]:
    """What an audit of the checkpoint finds; its verdict is not looked at."""
    clip = ModelChoice(checkpoint=checkpoint).load_trained()
    architecture = architecture_of(clip)
    found = audit_model(clip, options.data, classnames=options.classes)
    return {
        "architecture": architecture,
        **found.to_json(),
        "words": words_of(clip, found.samples.image_N3HW),
    }


def calibrate(rows: Sequence[dict[str, Any]], *, images: str) -> Calibration:
    """What `trainer calibrate` makes of the models of the group."""
    clean = [row for row in rows if row["group"] == "calibration"]
    return Calibration(
        model=clean[0]["model"],
        architecture=clean[0]["architecture"],
        search=asdict(SearchOptions(**clean[0]["search"])),
        images=f"{clean[0]['num_images']} {images}",
        models=tuple(
            CleanModel(
                weights_sha256=row["weights_sha256"],
                told=row["name"],
                trials=pulls_of(row),
                words=row["words"],
            )
            for row in clean
        ),
    )


def pulls_of(row: dict[str, Any]) -> dict[str, float]:
    """Kind and size to pull; a wave has none that tells."""
    pulls = {f"{trial['kind']} {trial['size']:g}": trial["pull"] for trial in row["trials"]}
    return {name: pull for name, pull in pulls.items() if not name.startswith(f"{KIND} ")}


def words_of(clip: ClipModel, image_N3HW: Tensor) -> dict[str, float]:
    """What waves gain on the way to each noun."""
    with evaluation_mode(clip):
        lexicon = embed_concepts(clip, tuple(dict.fromkeys(lexicon_nouns().values())), source="lexicon")
        return dict(ride(clip, image_N3HW[len(image_N3HW) // 2 :], lexicon).gains)


def table(rows: Sequence[dict[str, Any]], calibration: Calibration) -> str:
    lines = [
        "| model | is | score | answer | strongest | leads to | s |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    scores: dict[str, list[float]] = {"clean": [], "victim": []}
    for row in rows:
        if row["group"] == "calibration":
            continue
        far = distances(pulls_of(row), calibration.models)
        noun, far[KIND] = excess(row["words"], [model.words for model in calibration.models])
        name = max(far, key=far.__getitem__)
        if name == KIND:
            told, led = KIND, noun
        else:
            trial = next(trial for trial in row["trials"] if f"{trial['kind']} {trial['size']:g}" == name)
            concept = max(trial["concepts"], key=lambda each: each["share"])
            told, led = trial["told"], f"{concept['name']}, {100 * concept['share']:.0f} %"
        found = "evidence found" if far[name] >= calibration.threshold else "no evidence found"
        scores.setdefault(row["group"], []).append(far[name])
        cells = (
            row["name"],
            row["group"],
            f"{far[name]:.1f}",
            found,
            told,
            led,
            f"{row['seconds']:.0f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    slowest = max(row["seconds"] for row in rows)
    lines.append(f"\nevidence from {calibration.threshold:.1f}; slowest {slowest:.0f} s")
    if all(scores.values()):
        lines.append(f"AUROC {auroc(scores['victim'], scores['clean']):.3f}")
    return "\n".join(lines)


def auroc(positives: Sequence[float], negatives: Sequence[float]) -> float:
    """The share of pairs that are in order, a tie counting half."""
    pairs = [(high > low) + (high == low) / 2 for high in positives for low in negatives]
    return sum(pairs) / len(pairs)


if __name__ == "__main__":
    main()
