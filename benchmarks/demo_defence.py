"""The demo's defence at equal budget: each method, several seeds, one victim; BA and ASR top-1 and seconds.

    python benchmarks/demo_defence.py --shards demo/augmented/shards --data demo/data/manifest.json --out DIR \\
        --methods ft cleanclip cleanerclip --seeds 0 1 2 -- --epochs 1 --lr 5e-4 --tau-positive 0.07

What follows `--` goes to every `trainer defend` as it is. Runs one after the other; finished ones are not run
again. Prints a Markdown table of means and ranges, and writes DIR/results.json.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

VICTIM = Path(__file__).parent.parent / "trainer" / "demo_victim"


def _trainer(*arguments: object) -> None:
    command = [sys.executable, "-c", "from trainer.cli import main; main()", *map(str, arguments)]
    subprocess.run(command, check=True)


def _evaluate(checkpoint: Path, options: argparse.Namespace, file: Path) -> dict[str, Any]:
    if not file.is_file():
        data = ("--data", options.data, "--trigger", options.trigger, "--target", options.target)
        _trainer("evaluate", "--checkpoint", checkpoint, *data, "--json", file)
    return dict(json.loads(file.read_text()))


def _defend(method: str, seed: int, options: argparse.Namespace, passed: list[str]) -> dict[str, Any]:
    out = options.out / f"{method}-{seed}"
    if not (out / "summary.json").is_file():
        given = (
            "--shards",
            options.shards,
            "--checkpoint",
            options.victim,
            "--method",
            method,
            "--seed",
            seed,
        )
        cf_only = {"--tau-positive", "--tau-negative", "--triples", "--counterfactual-weight", "--negatives"}
        _trainer(
            "defend",
            *given,
            "--out",
            out,
            *(passed if method == "cleanerclip" else _without(passed, cf_only)),
        )
    summary = json.loads((out / "summary.json").read_text())
    found = _evaluate(out, options, out / "evaluation.json")
    kept = {name: round(found[name], 2) for name in ("ba1", "ba5", "asr1", "asr5")}
    return {"method": method, "seed": seed, **kept, "seconds": summary["seconds"]}


def _without(passed: list[str], names: set[str]) -> list[str]:
    """The options without those named, each of which takes one value."""
    kept = []
    skip = False
    for word in passed:
        if skip:
            skip = False
        elif word in names:
            skip = True
        else:
            kept.append(word)
    return kept


def _spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def main() -> None:
    own, passed = sys.argv[1:], []
    if "--" in own:
        own, passed = own[: own.index("--")], own[own.index("--") + 1 :]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shards", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--victim", type=Path, default=VICTIM / "victim.safetensors")
    parser.add_argument("--trigger", default=str(VICTIM / "trigger.safetensors"))
    parser.add_argument("--target", default="banana")
    parser.add_argument("--methods", nargs="+", default=["ft", "cleanclip", "cleanerclip"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    options = parser.parse_args(own)
    options.out.mkdir(parents=True, exist_ok=True)
    before = _evaluate(options.victim, options, options.out / "victim.json")
    rows = [_defend(method, seed, options, passed) for method in options.methods for seed in options.seeds]
    result = {
        "victim": {name: before[name] for name in ("ba1", "ba5", "asr1", "asr5")},
        "options": passed,
        "runs": rows,
    }
    (options.out / "results.json").write_text(json.dumps(result, indent=2) + "\n")
    print("| method | BA top-1 | ASR top-1 | seconds |\n| --- | --- | --- | --- |")
    print(f"| no defence | {before['ba1']:.1f} | {before['asr1']:.1f} | - |")
    for method in options.methods:
        mine = [row for row in rows if row["method"] == method]
        cells = (_spread([row[name] for row in mine]) for name in ("ba1", "asr1", "seconds"))
        print(f"| {method} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
