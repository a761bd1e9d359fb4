"""Captions per second: the whole of `pipeline augment-captions` against SceneGraphParser, one sentence at a time.

    python -m benchmarks.augment_captions --captions ../shared/data/cc3m/validation_first_8000.tsv \
        --model ../shared/data/en_core_web_sm

The two run in turn, on the same captions, on one core each. SceneGraphParser's time is its parses alone; ours is
the whole process with one worker: start, reading, parsing, sub-captions, views, Parquet, shards and manifest.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--captions", type=Path, required=True, help="CC3M tsv")
    parser.add_argument("--model", required=True, help="spaCy pipeline for SceneGraphParser")
    parser.add_argument("--num", type=int, default=4_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    os.environ.update(ONE_THREAD)  # before numpy is imported
    lines = options.captions.read_text("utf-8").splitlines()[: options.num]
    print(f"{len(lines)} captions, one core each, {options.rounds} rounds")
    found = measure(lines, model=options.model, num_rounds=options.rounds)
    for reference, ours, ratio in zip(found["reference"], found["ours"], found["ratio"], strict=True):
        print(
            f"SceneGraphParser, one at a time: {reference:7.0f} captions/s   "
            f"augment-captions: {ours:7.0f} captions/s   ratio {ratio:.1f}"
        )
    ratios = found["ratio"]
    print(f"ratio: median {statistics.median(ratios):.1f}, {min(ratios):.1f} to {max(ratios):.1f}")


def measure(lines: Sequence[str], *, model: str, num_rounds: int) -> dict[str, list[float]]:
    """Captions per second of `reference` and `ours`, and their `ratio`, of each round; lines of CC3M's tsv."""
    reference_parser = load_reference(model)
    found: dict[str, list[float]] = {"reference": [], "ours": [], "ratio": []}
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "captions.tsv"
        part.write_text("\n".join(lines) + "\n", "utf-8")
        for number in range(num_rounds):
            reference = len(lines) / time_reference(reference_parser, lines)
            ours = len(lines) / time_pipeline(part, Path(folder) / f"out-{number}")
            found["reference"].append(reference)
            found["ours"].append(ours)
            found["ratio"].append(ours / reference)
    return found


def load_reference(model: str) -> Any:
    """SceneGraphParser with a spaCy pipeline, as its users have it."""
    import sng_parser  # noqa: TID251 - what ours is measured against

    return sng_parser.Parser("spacy", model=model)


def time_reference(parser: Any, lines: Sequence[str]) -> float:
    """Seconds for the captions of these lines, one after the other."""
    start = time.perf_counter()
    for line in lines:
        parser.parse(line.partition("\t")[0])
    return time.perf_counter() - start


def time_pipeline(captions: Path, out: Path) -> float:
    """Seconds from the process's start to its end."""
    command = [sys.executable, "-m", "pipeline.cli", "augment-captions", str(captions), "--out", str(out)]
    start = time.perf_counter()
    subprocess.run([*command, "--workers", "1"], check=True, capture_output=True, env=os.environ | ONE_THREAD)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
