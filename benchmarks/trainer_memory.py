"""Peak memory: a training run against open_clip's own trainer, and the loader at 500,000 pairs against 50,000.

    OMP_NUM_THREADS=1 python -m benchmarks.trainer_memory [--model RN50] [--batch 16] [--rounds 1]
        [--pairs 50000 --pairs 500000]

Each figure is the largest resident memory of a process of its own.
"""

import argparse
import io
import os
import resource
import shutil
import subprocess
import sys
import tarfile
import tempfile
from itertools import islice
from pathlib import Path

import torch
from PIL import Image

from benchmarks.trainer_data import write_photographs
from trainer.batches import BatchOptions, BatchStream, Needs
from trainer.data import find_shards, index_shards
from trainer.defences.ft import FtOptions
from trainer.launch import Source, defend
from trainer.model import ModelChoice, load_model
from trainer.optim import OptimOptions
from trainer.train import TrainOptions

STEPS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--model", default="RN50")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--pairs", type=int, action="append", default=[])
    parser.add_argument("--side", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        SIDES[options.side[0]](Path(options.side[1]), options)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not options.pairs:
            torch.save(load_model(options.model, seed=0).model.state_dict(), folder / "start.pt")
            write_photographs(folder / "shards", STEPS * options.batch)
            _write_table(folder)
            print("| RN50's trainer | MB at most |\n| --- | --- |")
            for side in ("ours", "open_clip") * options.rounds:
                most = _measure(side, folder, options)
                print(f"| {side}, batch {options.batch} | {most:.0f} |", flush=True)
                shutil.rmtree(folder / "run", ignore_errors=True)
        for num in options.pairs:
            (folder / str(num)).mkdir()
            write_small(folder / str(num) / "00000.tar", num)
            print(
                f"loader, {num:,} pairs: {_measure('loader', folder / str(num), options):.0f} MB", flush=True
            )


def _measure(side: str, folder: Path, options: argparse.Namespace) -> float:
    command = [sys.executable, "-m", "benchmarks.trainer_memory", "--side", side, str(folder)]
    command += ["--model", options.model, "--batch", str(options.batch)]
    told = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    if told.returncode:
        raise SystemExit(told.stderr[-2000:])
    return float(told.stdout.splitlines()[-1])


def write_small(path: Path, num: int) -> None:
    """A tar of 8 x 8 JPEGs with captions."""
    picture = io.BytesIO()
    Image.new("RGB", (8, 8), (90, 120, 150)).save(picture, "JPEG")
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for number in range(num):
            for extension, data in (
                ("jpg", picture.getvalue()),
                ("txt", b"a grey square, number %d" % number),
            ):
                member = tarfile.TarInfo(f"{number:09d}.{extension}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
            tar.members.clear()  # type: ignore[attr-defined]  # it would keep all


def _write_table(folder: Path) -> None:
    """The same pairs as files and a table, which is what open_clip's trainer reads of a few images."""
    rows = ["filepath\ttitle"]
    for shard in sorted((folder / "shards").glob("*.tar")):
        with tarfile.open(shard) as tar:
            tar.extractall(folder / "files", filter="data")
    for image in sorted((folder / "files").glob("*.jpg")):
        rows.append(f"{image}\t{image.with_suffix('.txt').read_text()}")
    (folder / "pairs.tsv").write_text("\n".join(rows) + "\n")


def _ours(folder: Path, options: argparse.Namespace) -> None:
    defend(
        ModelChoice(checkpoint=folder / "start.pt", model=options.model, activation="gelu"),
        Source(shards=str(folder / "shards")),
        FtOptions(),
        batches=BatchOptions(batch_size=options.batch),
        optim=OptimOptions(),
        options=TrainOptions(epochs=1, device="cpu"),
        out=folder / "run",
    )


def _open_clips(folder: Path, options: argparse.Namespace) -> None:
    from open_clip_train.main import main as train  # type: ignore[import-untyped]

    train(
        f"--train-data {folder}/pairs.tsv --dataset-type csv --model {options.model} --batch-size {options.batch} "
        f"--epochs 1 --workers 0 --device cpu --precision fp32 --logs {folder}/logs --warmup 1".split()
    )


def _loader(folder: Path, options: argparse.Namespace) -> None:
    index = index_shards(find_shards(str(folder)))
    clip = load_model("cleanerclip-tiny-32")
    stream = BatchStream(index, clip, needs=Needs(), options=BatchOptions(batch_size=64))
    for _ in islice(stream.epoch(0), 50):
        pass


SIDES = {"ours": _ours, "open_clip": _open_clips, "loader": _loader}

if __name__ == "__main__":
    main()
