"""Captions per second: the whole of `pipeline augment-captions` against SceneGraphParser, one sentence at a time.

    python benchmarks/augment_captions.py --captions ../shared/data/cc3m/validation_first_8000.tsv \
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
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--captions", type=Path, required=True, help="CC3M tsv")
    parser.add_argument("--model", required=True, help="spaCy pipeline for SceneGraphParser")
    parser.add_argument("--num", type=int, default=4_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    lines = options.captions.read_text("utf-8").splitlines()[: options.num]
    reference_parser = load_reference(options.model)
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "captions.tsv"
        part.write_text("\n".join(lines) + "\n", "utf-8")
        print(f"{len(lines)} captions, one core each, {options.rounds} rounds")
        for number in range(options.rounds):
            reference = len(lines) / time_reference(reference_parser, lines)
            ours = len(lines) / time_pipeline(part, Path(folder) / f"out-{number}")
            ratios.append(ours / reference)
            print(
                f"SceneGraphParser, one at a time: {reference:7.0f} captions/s   "
                f"augment-captions: {ours:7.0f} captions/s   ratio {ratios[-1]:.1f}"
            )
    print(f"ratio: median {statistics.median(ratios):.1f}, {min(ratios):.1f} to {max(ratios):.1f}")


def load_reference(model: str) -> object:
    import sng_parser  # noqa: TID251

    return sng_parser.Parser("spacy", model=model)


def time_reference(parser: object, lines: list[str]) -> float:
    start = time.perf_counter()
    for line in lines:
        parser.parse(line.partition("\t")[0])  # type: ignore[attr-defined]
    return time.perf_counter() - start


def time_pipeline(captions: Path, out: Path) -> float:
    command = [sys.executable, "-m", "pipeline.cli", "augment-captions", str(captions), "--out", str(out)]
    start = time.perf_counter()
    subprocess.run([*command, "--workers", "1"], check=True, capture_output=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
