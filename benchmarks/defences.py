"""Defences at equal budget: victims x methods x learning rates x seeds, by BA and ASR top-1.

    python benchmarks/defences.py --victims demo/victims/badnet-0 demo/victims/sig-0 --shards demo/augmented/shards \\
        --data demo/data/manifest.json --out DIR --lrs 5e-4 2e-3 -- --epochs 2 --max-gradient-norm 1

A victim is a folder of `benchmarks/victims.py`, or trainer/demo_victim: weights beside the trigger that they answer
to. What follows `--` goes to every `trainer defend`. Runs one after the other, leaves finished ones as they are, and
prints a Markdown table: a line per victim and method, BA / ASR for each learning rate, their mean over the seeds.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks.victims import run

METHODS = ("ft", "cleanclip", "cleanerclip")
COUNTERFACTUAL_ONLY = (
    "--tau-positive",
    "--tau-negative",
    "--triples",
    "--counterfactual-weight",
    "--negatives",
)
"""Options of one value each that the other methods are not given."""


def main() -> None:
    options = parse_options()
    check_folder(options)
    lines = [
        f"| victim | method | {' | '.join(f'lr {lr}' for lr in options.lrs)} |",
        "| --- | --- |" + " --- |" * len(options.lrs),
    ]
    for victim in options.victims:
        before = evaluate(weights_of(victim), victim, options, options.out / f"{victim.name}.json")
        lines.append(
            f"| {victim.name} | none |" + f" {before['ba1']:.1f} / {before['asr1']:.1f} |" * len(options.lrs)
        )
        for method in options.methods:
            cells = []
            for lr in options.lrs:
                found = [defend(victim, method, lr, seed, options) for seed in options.seeds]
                cells.append(
                    " / ".join(
                        f"{statistics.mean(row[name] for row in found):.1f}" for name in ("ba1", "asr1")
                    )
                )
            lines.append(f"| | {method} | {' | '.join(cells)} |")
    print("\n".join(lines))


def parse_options() -> argparse.Namespace:
    own, passed = sys.argv[1:], []
    if "--" in own:
        own, passed = own[: own.index("--")], own[own.index("--") + 1 :]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--victims", nargs="+", type=Path, required=True)
    parser.add_argument("--shards", required=True, help="with sub-captions: what the defender has")
    parser.add_argument("--data", required=True, help="a data manifest to evaluate on")
    parser.add_argument("--target", default="banana")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--lrs", nargs="+", default=["2e-3"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.set_defaults(passed=passed)
    return parser.parse_args(own)


def check_folder(options: argparse.Namespace) -> None:
    """Ends the program where DIR holds runs of other data or options: they would be taken for these."""
    file = options.out / "options.json"
    given = {name: getattr(options, name) for name in ("shards", "data", "target", "passed")}
    if file.is_file() and json.loads(file.read_text()) != given:
        sys.exit(f"{options.out} holds runs of other shards, data, target or options: choose another --out")
    options.out.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(given, indent=2) + "\n")


def defend(victim: Path, method: str, lr: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """What `trainer evaluate` says of the defended model; made where it is not there yet."""
    out = options.out / f"{victim.name}-{method}-{lr}-{seed}"
    if not (out / "summary.json").is_file():
        resume = ["--resume"] if (out / "checkpoints/last.state.pt").is_file() else []
        given = ("--shards", options.shards, "--checkpoint", weights_of(victim), "--method", method)
        more = options.passed if method == "cleanerclip" else without(options.passed, COUNTERFACTUAL_ONLY)
        run("trainer", "defend", *given, "--lr", lr, "--seed", seed, "--out", out, *more, *resume)
    return evaluate(out, victim, options, out / "evaluation.json")


def evaluate(checkpoint: Path, victim: Path, options: argparse.Namespace, file: Path) -> dict[str, Any]:
    """What `trainer evaluate` says of the checkpoint with the victim's trigger."""
    if not file.is_file():
        trigger = ("--trigger", victim / "trigger.safetensors", "--target", options.target)
        run(
            "trainer",
            "evaluate",
            "--checkpoint",
            checkpoint,
            "--data",
            options.data,
            *trigger,
            "--json",
            file,
        )
    return dict(json.loads(file.read_text()))


def weights_of(victim: Path) -> Path:
    """The folder of a run, or the file of the committed victim."""
    file = victim / "victim.safetensors"
    return file if file.is_file() else victim


def without(words: list[str], names: tuple[str, ...]) -> list[str]:
    """The options without those named and their values."""
    dropped = {i + step for i, word in enumerate(words) if word in names for step in (0, 1)}
    return [word for i, word in enumerate(words) if i not in dropped]


if __name__ == "__main__":
    main()
