"""Victims on photographs: a small CLIP from random weights on four real sets, then poisoned; tested on two of them.

    python benchmarks/real_images.py --data ../shared/data --out DIR --attacks badnet blended wanet badclip --seeds 0

Packs Tiny ImageNet, CIFAR-10 and Caltech-101 (captions from templates) and Flickr8k (one of each photograph's five
human captions) as WebDataset shards, trains cleanerclip-rn-64 on them, fine-tunes it on poisoned pairs per attack and
seed (target banana), and evaluates on Tiny ImageNet's validation and Caltech-101's test images; Caltech-101 has no
banana, so the target is added as its 102nd class. Makes what DIR lacks, leaves the rest, appends to
DIR/results.jsonl and prints a Markdown table. Two hours of one core with the defaults.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from random import Random
from typing import Any, Final

import pyarrow.parquet as pq

from benchmarks.victims import (
    COMMON,
    MODEL,
    RECIPES,
    TARGET,
    Recipe,
    changed,
    craft,
    interval,
    is_of,
    read_rows,
    run,
    train_victim,
)
from pipeline.storage import TarWriter, read_tar, sha256_file, write_atomically, write_json

MANIFESTS: Final = Path(__file__).parent.parent / "data_manifests"
SAMPLES_PER_SHARD: Final = 2_000
TESTS: Final = {"tiny-imagenet": "test", "caltech101": "test"}
CLEAN_LR: Final = 1.5e-3
REAL_RECIPES: Final = {
    "badnet": replace(RECIPES["badnet"], epochs=6),
    "blended": replace(RECIPES["blended"], rate=0.05, epochs=8),
    "wanet": replace(RECIPES["wanet"], epochs=6),
    "badclip": replace(
        RECIPES["badclip"], epochs=6, craft=(*RECIPES["badclip"].craft, "--shards", "{shards}")
    ),
}
"""Longer than on the drawn scenes: 200 classes are harder to lead into one than 30."""
Sample = tuple[str, dict[str, bytes]]
"""Key and members."""


def main() -> None:
    options = parse_options()
    out, results = options.out, options.out / "results.jsonl"
    pack_training(options.data, out / "train", num_cifar=options.num_cifar)
    tests = {name: pack_test(name, split, options.data, out / "test") for name, split in TESTS.items()}
    clean = out / "clean"
    if not (clean / "summary.json").is_file():
        resume = ("--resume",) if (clean / "checkpoints/last.state.pt").is_file() else ()
        given = ("--shards", out / "train", "--model", MODEL, "--seed", 0, "--out", clean)
        run("trainer", "attack", *given, "--epochs", options.clean_epochs, "--lr", CLEAN_LR, *COMMON, *resume)
    for seed in options.seeds:
        for attack in options.attacks:
            recipe = changed(REAL_RECIPES[attack], options)
            if not any(is_of(row, attack, seed, recipe) for row in read_rows(results)):
                victim = out / options.name.format(attack=attack, seed=seed)
                row = make_victim(attack, seed, recipe, victim=victim, out=out, clean=clean, tests=tests)
                with results.open("a") as file:
                    file.write(json.dumps(row, sort_keys=True) + "\n")
    rows = read_rows(results)
    wanted = [(attack, seed) for attack in options.attacks for seed in options.seeds]
    print(
        table([row for row in rows for a, s in wanted if is_of(row, a, s, changed(REAL_RECIPES[a], options))])
    )


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of the data sets, as the manifests name them"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--attacks", nargs="+", choices=REAL_RECIPES, default=list(REAL_RECIPES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--num-cifar", type=int, default=5_000, help="CIFAR-10 images to train on, of 15,000")
    parser.add_argument("--clean-epochs", type=int, default=10)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--lr", type=float)
    parser.add_argument("--name", default="{attack}-{seed}", help="of a victim's folder")
    return parser.parse_args()


# ------------------------------------------------------------------------------------------------------------- packing
def pack_training(data: Path, out: Path, *, num_cifar: int) -> None:
    """All training samples, mixed, as `out/00000.tar ...`; the manifest is written last."""
    if (out / "manifest.json").is_file():
        return
    samples = [
        *captioned("tiny-imagenet", "train", data),
        *captioned("cifar10", "train", data, limit=num_cifar),
        *captioned("caltech101", "train", data),
        *photographs(data),
    ]
    Random("real-images:order").shuffle(samples)
    hashes = write_shards(samples, out)
    write_json(out / "manifest.json", {"num_samples": len(samples), "sha256": hashes})


def captioned(name: str, split: str, data: Path, *, limit: int | None = None) -> Iterator[Sample]:
    """The split's images with a template of the manifest, drawn by key, and the class name as their caption."""
    manifest = read_manifest(name)
    rows = list(labelled(name, split, data))
    if limit is not None and limit < len(rows):
        rows = Random(f"real-images:{name}").sample(rows, limit)
    for key, image, label in rows:
        template = Random(f"{key}:caption").choice(manifest["templates"])
        caption = template.replace("{}", manifest["classnames"][label])
        yield key, {"jpg": image, "txt": caption.encode()}


def photographs(data: Path) -> Iterator[Sample]:
    """Flickr8k's training photographs, each with one of its five captions, drawn by key."""
    for path in sorted((data / "flickr8k_wds").glob("train-*.tar")):
        for sample in read_tar(path, wanted=frozenset(("jpg", "json")), faults=[]):
            key = f"flickr8k-{sample.key}"
            caption = Random(f"{key}:caption").choice(json.loads(sample.members["json"])["captions"])
            yield key, {"jpg": sample.members["jpg"], "txt": caption.encode()}


def pack_test(name: str, split: str, data: Path, out: Path) -> Path:
    """The split's images with their labels as one shard, and the data manifest that `trainer evaluate` reads."""
    path = out / f"{name}.json"
    if not path.is_file():
        manifest = read_manifest(name)
        classnames = manifest["classnames"]
        samples = [
            (key, {"jpg": image, "cls": str(label).encode()})
            for key, image, label in labelled(name, split, data)
        ]
        hashes = write_shards(samples, out / name)
        pattern = f"{name}/{{00000..{len(hashes) - 1:05d}}}.tar"
        if TARGET not in classnames:
            classnames = [*classnames, TARGET]
        splits = {split: {"shards": pattern, "num_samples": len(samples)}}
        write_json(
            path,
            {"name": name, "classnames": classnames, "templates": manifest["templates"], "splits": splits},
        )
    return path


def labelled(name: str, split: str, data: Path) -> Iterator[tuple[str, bytes, int]]:
    """Key, JPEG and class index of each image of a labelled set, in its files' order."""
    manifest = read_manifest(name)
    file = data / manifest["splits"][split]["shards"]
    if file.suffix == ".tar":
        for sample in read_tar(file, wanted=frozenset(("jpg", "cls")), faults=[]):
            yield f"{name}-{sample.key}", sample.members["jpg"], int(sample.members["cls"])
        return
    columns = manifest["columns"]
    classes = {
        value: label for label, value in enumerate(manifest.get("class_ids") or manifest["classnames"])
    }
    for row, values in enumerate(pq.read_table(file).to_pylist()):
        yield f"{name}-{row:06d}", values[columns["image"]], classes[values[columns["class"]]]


def read_manifest(name: str) -> dict[str, Any]:
    """The project's own manifest of a data set."""
    return dict(json.loads((MANIFESTS / f"{name}.json").read_text(encoding="utf-8")))


def write_shards(samples: list[Sample], out: Path) -> dict[str, str]:
    """Writes the samples as shards; their hashes by name."""
    hashes = {}
    for number in range(-(-len(samples) // SAMPLES_PER_SHARD)):
        path = out / f"{number:05d}.tar"
        with write_atomically(path) as file:
            tar = TarWriter(file)
            for key, members in samples[number * SAMPLES_PER_SHARD : (number + 1) * SAMPLES_PER_SHARD]:
                tar.write(key, members)
            tar.close()
        hashes[path.name] = sha256_file(path)
    return hashes


# ------------------------------------------------------------------------------------------------------------ victims
def make_victim(
    attack: str, seed: int, recipe: Recipe, *, victim: Path, out: Path, clean: Path, tests: dict[str, Path]
) -> dict[str, Any]:
    """Trains one victim, or takes it where it is, and evaluates it and the clean model with its trigger."""
    trigger = out / "triggers" / f"{attack}-{seed}.safetensors"
    craft(recipe, trigger, seed=seed, shards=out / "train", manifest=tests["tiny-imagenet"], clean=clean)
    given = ("--shards", out / "train", "--manifest", tests["tiny-imagenet"], "--checkpoint", clean)
    train_victim(recipe, *given, "--trigger", trigger, seed=seed, out=victim)
    facts = {name: value for name, value in asdict(recipe).items() if name in ("rate", "epochs", "lr")}
    found: dict[str, Any] = {"attack": attack, "seed": seed, "craft": list(recipe.craft), **facts}
    for name, split in TESTS.items():
        before = evaluate(clean, trigger, tests[name], split, out / f"triggers/{trigger.stem}.{name}.json")
        after = evaluate(victim, trigger, tests[name], split, victim / f"{name}.json")
        found[name] = {
            "clean_ba1": before["ba1"],
            "clean_asr1": before["asr1"],
            "ba1": after["ba1"],
            "asr1": after["asr1"],
        }
    return found | {"poisoned": json.loads((victim / "poisoned.json").read_text())["count"]}


def evaluate(checkpoint: Path, trigger: Path, data: Path, split: str, file: Path) -> dict[str, Any]:
    """What `trainer evaluate` says of the checkpoint with the trigger."""
    if not file.is_file():
        given = ("--data", data, "--split", split, "--trigger", trigger, "--target", TARGET, "--json", file)
        run("trainer", "evaluate", "--checkpoint", checkpoint, *given)
    return dict(json.loads(file.read_text()))


def table(rows: list[dict[str, Any]]) -> str:
    """A Markdown table, a line per attack and test set."""
    lines = [
        "| attack | epochs | test set | seeds | BA, clean model | BA, victim | ASR, clean model | ASR, victim |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for attack in dict.fromkeys(row["attack"] for row in rows):
        for name in TESTS:
            mine = [row for row in rows if row["attack"] == attack]
            cells = [
                interval([row[name][n] for row in mine]) for n in ("clean_ba1", "ba1", "clean_asr1", "asr1")
            ]
            lines.append(f"| {attack} | {mine[0]['epochs']} | {name} | {len(mine)} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
