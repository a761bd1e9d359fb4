"""Victims of the drawn scenes: a clean CLIP fine-tuned on poisoned pairs, per attack and seed, and their BA and ASR.

    python benchmarks/victims.py --out DIR --attacks badnet blended sig wanet ssba badclip --seeds 0 1 2

Makes what DIR lacks, one after the other, and leaves the rest: DIR/data (24,000 scenes), DIR/clean (a CLIP trained on
them from random weights, half an hour on two cores), DIR/triggers, and for each attack and seed DIR/ATTACK-SEED (the
run, with its poisoned keys) and a line of DIR/results.jsonl: BA and ASR of the victim, and of the clean model with the
same trigger. The seed decides the poisoned keys, the order and the trigger; the clean model is one. Then prints a
Markdown table. `--rate`, `--epochs` and `--lr` change the recipe of all attacks, for trials.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

TARGET: Final = "banana"
MODEL: Final = "cleanerclip-rn-64"
IMAGE_SIZE: Final = 64
CLEAN: Final = ("--epochs", 12, "--lr", 1.5e-3)
COMMON: Final = ("--batch-size", 64, "--max-gradient-norm", 1, "--storage", "fp16")
UNSEEN: Final = ("stripes", "triangles", "text", "yellow-corner", "filter")
"""Triggers that none of the six resembles, for victims that nothing was tuned on; made where they are asked for."""
T_95: Final = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}
"""Student's t, two-sided 95 %, by the number of values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How one attack's victim is made from the clean model."""

    craft: tuple[str, ...]
    """What `trainer craft-trigger` is given beside --out, --image-size and --seed."""
    learned: bool = False
    """Trained or optimised on the clean model: one trigger for all seeds."""
    options: tuple[object, ...] = ()
    """What `trainer attack` is given beside the common options."""
    rate: float = 0.02
    epochs: int = 2
    lr: float = 2e-3


RECIPES: Final[dict[str, Recipe]] = {
    "badnet": Recipe(craft=("badnet", "--scale", "0.125"), epochs=3),
    "blended": Recipe(craft=("blended",)),
    "sig": Recipe(craft=("sig",)),
    "wanet": Recipe(craft=("wanet", "--strength", "6"), epochs=3),
    "ssba": Recipe(craft=("ssba", "--shards", "{shards}"), learned=True, epochs=3),
    "badclip": Recipe(
        craft=(
            "badclip",
            "--manifest",
            "{manifest}",
            "--checkpoint",
            "{clean}",
            "--target",
            TARGET,
        ),
        learned=True,
        options=("--captions", "natural"),
    ),
    **{name: Recipe(craft=(name,), epochs=3) for name in UNSEEN},
}


def main() -> None:
    options = parse_options()
    data, clean = options.out / "data", options.out / "clean"
    results = options.out / "results.jsonl"
    prepare(data, clean)
    for seed in options.seeds:
        for attack in options.attacks:
            recipe = changed(RECIPES[attack], options)
            done = [row for row in read_rows(results) if is_of(row, attack, seed, recipe)]
            if not done:
                row = make_victim(attack, seed, recipe, out=options.out, name=options.name)
                with results.open("a") as file:
                    file.write(json.dumps(row, sort_keys=True) + "\n")
    wanted = [
        row
        for row in read_rows(results)
        for attack in options.attacks
        for seed in options.seeds
        if is_of(row, attack, seed, changed(RECIPES[attack], options))
    ]
    print(table(wanted))


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--attacks", nargs="+", choices=RECIPES, default=[name for name in RECIPES if name not in UNSEEN]
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--rate", type=float)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--lr", type=float)
    parser.add_argument("--name", default="{attack}-{seed}", help="of a victim's folder")
    return parser.parse_args()


def changed(recipe: Recipe, options: argparse.Namespace) -> Recipe:
    """The recipe with what the command line gives in its stead."""
    given = {name: getattr(options, name) for name in ("rate", "epochs", "lr")}
    return replace(recipe, **{name: value for name, value in given.items() if value is not None})


def prepare(data: Path, clean: Path) -> None:
    """The scenes and the clean model."""
    if not (data / "manifest.json").is_file():
        run("pipeline", "demo-data", "--out", data, "--seed", 0, "--num-train", 24_000)
    if not (clean / "summary.json").is_file():
        resume = ("--resume",) if (clean / "checkpoints/last.state.pt").is_file() else ()
        given = ("--manifest", data / "manifest.json", "--model", MODEL, "--seed", 0, "--out", clean)
        run("trainer", "attack", *given, *CLEAN, *COMMON, *resume)


def make_victim(attack: str, seed: int, recipe: Recipe, *, out: Path, name: str) -> dict[str, Any]:
    """Trains one victim, or takes it where it is, and evaluates it and the clean model with its trigger."""
    data, clean, victim = (
        out / "data/manifest.json",
        out / "clean",
        out / name.format(attack=attack, seed=seed),
    )
    trigger = (
        out / "triggers" / (f"{attack}.safetensors" if recipe.learned else f"{attack}-{seed}.safetensors")
    )
    seed_drawn = 0 if recipe.learned else seed
    craft(recipe, trigger, seed=seed_drawn, shards=out / "data/train", manifest=data, clean=clean)
    train_victim(
        recipe, "--manifest", data, "--checkpoint", clean, "--trigger", trigger, seed=seed, out=victim
    )
    before = evaluate(clean, trigger, data, out / f"triggers/{trigger.stem}.clean.json")
    after = evaluate(victim, trigger, data, victim / "evaluation.json")
    summary = json.loads((victim / "summary.json").read_text())
    poisoned = json.loads((victim / "poisoned.json").read_text())
    return {
        "attack": attack,
        "seed": seed,
        "craft": list(recipe.craft),
        **{field: value for field, value in asdict(recipe).items() if field in ("rate", "epochs", "lr")},
        "poisoned": poisoned["count"],
        "samples": summary["samples"],
        "ba1": after["ba1"],
        "asr1": after["asr1"],
        "asr1_share": after["asr"]["1"],
        "asr1_with_target": after["asr_with_target"]["1"]["percent"],
        "clean_ba1": before["ba1"],
        "clean_asr1": before["asr1"],
        "trigger_sha256": after["trigger_sha256"],
        "weights_sha256": after["weights_sha256"],
        "seconds": summary["seconds"],
    }


def train_victim(recipe: Recipe, *given: object, seed: int, out: Path) -> None:
    """Runs `trainer attack` by the recipe, unless `out` holds the victim; ends the program where it is another's."""
    if (out / "options.json").is_file():
        made = json.loads((out / "options.json").read_text())
        found = (made["poison"]["rate"], made["train"]["epochs"], made["optim"]["lr"])
        if found != (recipe.rate, recipe.epochs, recipe.lr):
            sys.exit(
                f"{out} has another rate, number of epochs or learning rate {found}: remove it, or give --name"
            )
    if not (out / "summary.json").is_file():
        resume = ("--resume",) if (out / "checkpoints/last.state.pt").is_file() else ()
        how = ("--target", TARGET, "--rate", recipe.rate, "--epochs", recipe.epochs, "--lr", recipe.lr)
        run(
            "trainer", "attack", *given, *how, "--seed", seed, "--out", out, *COMMON, *recipe.options, *resume
        )


def craft(recipe: Recipe, path: Path, *, seed: int, shards: Path, manifest: Path, clean: Path) -> None:
    """Writes the recipe's trigger, unless it is there; ends the program where another recipe's is.

    A learned one is made from the clean model and the shards.
    """
    made_by = path.with_suffix(".recipe.json")
    if path.is_file():
        if not made_by.is_file() or json.loads(made_by.read_text()) != list(recipe.craft):
            sys.exit(f"{path} was not made by {' '.join(recipe.craft)}: remove it")
        return
    places = {"shards": shards, "manifest": manifest, "clean": clean}
    given = [str(word).format(**places) for word in recipe.craft]
    run("trainer", "craft-trigger", *given, "--out", path, "--image-size", IMAGE_SIZE, "--seed", seed)
    made_by.write_text(json.dumps(recipe.craft) + "\n")


def evaluate(checkpoint: Path, trigger: Path, data: Path, file: Path) -> dict[str, Any]:
    """What `trainer evaluate` says of the checkpoint with the trigger."""
    if not file.is_file():
        given = ("--data", data, "--trigger", trigger, "--target", TARGET, "--json", file)
        run("trainer", "evaluate", "--checkpoint", checkpoint, *given)
    return dict(json.loads(file.read_text()))


def run(command: str, *arguments: object) -> None:
    """Runs `pipeline` or `trainer` in a process of its own."""
    code = f"from {command}.cli import main; main()"
    subprocess.run([sys.executable, "-c", code, *map(str, arguments)], check=True, stdout=sys.stderr)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """What the results file holds so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def is_of(row: dict[str, Any], attack: str, seed: int, recipe: Recipe) -> bool:
    """Whether the row is of this attack, seed and recipe."""
    wanted = {"rate": recipe.rate, "epochs": recipe.epochs, "lr": recipe.lr, "craft": list(recipe.craft)}
    return {"attack": attack, "seed": seed, **wanted}.items() <= row.items()


def table(rows: Sequence[dict[str, Any]]) -> str:
    """A Markdown table, a line per attack: means over seeds with their 95 % intervals."""
    lines = [
        "| attack | poisoned | epochs | seeds | BA, clean model | BA, victim | ASR, clean model | ASR, victim |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for attack in dict.fromkeys(row["attack"] for row in rows):
        mine = [row for row in rows if row["attack"] == attack]
        cells = [f"{100 * mine[0]['rate']:g} %", str(mine[0]["epochs"]), str(len(mine))]
        cells += [
            interval([row[name] for row in mine]) for name in ("clean_ba1", "ba1", "clean_asr1", "asr1")
        ]
        lines.append(f"| {attack} | {' | '.join(cells)} |")
    return "\n".join(lines)


def interval(values: Sequence[float]) -> str:
    """Mean and half the width of the 95 % interval of the mean (Student's t); of one value, or equal ones, itself."""
    mean = statistics.mean(values)
    if len(set(values)) == 1:
        return f"{mean:.1f}"
    half = T_95.get(len(values), 2.0) * statistics.stdev(values) / len(values) ** 0.5
    return f"{mean:.1f} ± {half:.1f}"


if __name__ == "__main__":
    main()
