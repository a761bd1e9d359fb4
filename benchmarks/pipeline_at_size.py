"""The pipeline at size: start, whole runs against SceneGraphParser, a million captions, two workers, tars, queries.

    python -m benchmarks.pipeline_at_size start whole workers tars --data ../shared/data --folder DIR
    python -m benchmarks.pipeline_at_size million queries --data ../shared/data --folder DIR

Captions are CC3M's, COCO's, Flickr8k's and Flickr30k's, each text once, in an order drawn with seed 0; beyond them the
same with a number behind them. The sides of a ratio run in turn. Each result is a line of DIR/results.jsonl, and what
stands there already is not measured again; a run of a million that was stopped goes on where it was.
"""

import argparse
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pipeline.caption_parser.corpus import read_cc3m, read_coco, read_flickr8k, read_flickr30k

ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is measured."""

    captions: int = 100_000
    sample: int = 4_000
    """Of them, for SceneGraphParser, which takes its captions one at a time."""
    few: int = 10_000
    """What a million is held against."""
    many: int = 1_000_000
    images: int = 2_000
    """Samples of a tar with pictures."""
    rounds: int = 1


@dataclass(frozen=True, slots=True)
class Run:
    """A command that has ended."""

    seconds: float
    """From the process's start to its end."""
    processor: float
    """Seconds of processor time of all its processes."""
    peak: float
    """MB of the largest of its processes, looked at twice a second and by the system at the end."""


# ------------------------------------------------------------------------------------------------------------- inputs
def real_captions(data: Path) -> list[str]:
    """The distinct captions of the sets in `data`, shuffled."""
    sources = (read_cc3m, read_coco, read_flickr8k, read_flickr30k)
    texts = (" ".join(each.text.split()) for read in sources for each in read(data))
    found = list(dict.fromkeys(text for text in texts if text))
    random.Random(0).shuffle(found)
    return found


def distinct(captions: list[str], num: int) -> Iterable[str]:
    """`num` different captions: those given, then the same with a number behind them."""
    for number, caption in enumerate(itertools.islice(itertools.cycle(captions), num)):
        again = number // len(captions)
        yield f"{caption} {again}" if again else caption


def write_captions(captions: list[str], num: int, file: Path) -> Path:
    """A tsv as CC3M has it."""
    if not file.exists():
        lines = (
            f"{caption}\thttp://x/{number}.jpg\n" for number, caption in enumerate(distinct(captions, num))
        )
        file.write_text("".join(lines), "utf-8")
    return file


# --------------------------------------------------------------------------------------------------------------- runs
def augment(captions: Path | str, out: Path | str, *more: str, workers: int = 1) -> Run:
    """`pipeline augment-captions` as a process of its own."""
    command = ("-m", "pipeline.cli", "augment-captions", str(captions), "--out", str(out))
    return run([sys.executable, *command, "--workers", str(workers), *more])


def run(command: list[str]) -> Run:
    """Run a command to its end; one that fails ends the benchmark."""
    start, before = time.perf_counter(), os.times()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=os.environ | ONE_THREAD
    )
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, _largest(process.pid))
        time.sleep(0.02 if time.perf_counter() - start < 5 else 0.5)
    seconds, after = time.perf_counter() - start, os.times()
    assert process.stderr is not None
    if process.returncode:
        sys.exit(process.stderr.read())
    used = sum(after[2:4]) - sum(before[2:4])
    return Run(seconds, used, peak)


def _largest(process: int) -> float:
    """MB at most so far of a process or one of its children."""
    found = 0.0
    children = Path(f"/proc/{process}/task/{process}/children")
    try:
        for each in (process, *map(int, children.read_text().split())):
            status = Path(f"/proc/{each}/status").read_text()
            found = max(found, int(status.partition("VmHWM:")[2].split()[0]) / 1024)
    except (OSError, IndexError, ValueError):
        pass  # one has ended meanwhile
    return found


# -------------------------------------------------------------------------------------------------------------- cases
def start(folder: Path, captions: list[str], sizes: Sizes, model: str = "") -> dict[str, Any]:
    """Seconds from a process's start to the first graphs on disk, of ten captions; and to the command's end."""
    file = write_captions(captions, 10, folder / "ten.tsv")
    firsts, wholes, processor = [], [], []
    for _ in range(5):
        out = folder / "start"
        shutil.rmtree(out, ignore_errors=True)
        began = time.perf_counter()
        command = [sys.executable, "-m", "pipeline.cli", "augment-captions", str(file), "--out", str(out)]
        before = os.times()
        process = subprocess.Popen(
            [*command, "--workers", "1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while not (out / "scene_graphs/00000.parquet").exists():
            time.sleep(0.005)
        firsts.append(time.perf_counter() - began)
        assert process.wait() == 0
        wholes.append(time.perf_counter() - began)
        after = os.times()
        processor.append(sum(after[2:4]) - sum(before[2:4]))
    return {
        "first graph, s": sorted(firsts),
        "whole command, s": sorted(wholes),
        "processor, s": sorted(processor),
    }


def whole(folder: Path, captions: list[str], sizes: Sizes, model: str = "") -> dict[str, Any]:
    """Captions per second of the whole command against SceneGraphParser's parses, half of them before, half behind."""
    from benchmarks.augment_captions import load_reference, time_reference

    file = write_captions(captions, sizes.captions, folder / "captions.tsv")
    reference = load_reference(model)
    sample = list(distinct(captions, sizes.captions))[:: max(1, sizes.captions // sizes.sample)]
    found: dict[str, list[float]] = {"reference": [], "ours": [], "ratio": [], "MB": []}
    for _ in range(sizes.rounds):
        shutil.rmtree(folder / "one", ignore_errors=True)
        seconds = time_reference(reference, sample[::2])
        ours = augment(file, folder / "one")
        seconds += time_reference(reference, sample[1::2])
        found["reference"].append(len(sample) / seconds)
        found["ours"].append(sizes.captions / ours.seconds)
        found["ratio"].append(found["ours"][-1] / found["reference"][-1])
        found["MB"].append(ours.peak)
    return {"captions": sizes.captions, "sample": len(sample), **found}


def workers(folder: Path, captions: list[str], sizes: Sizes, model: str = "") -> dict[str, Any]:
    """Seconds of one worker and of two, in turn."""
    file = write_captions(captions, sizes.captions, folder / "captions.tsv")
    found: dict[str, list[float]] = {"one": [], "two": [], "ratio": [], "MB": []}
    for _ in range(sizes.rounds):
        for name, number in (("one", 1), ("two", 2)):
            shutil.rmtree(folder / name, ignore_errors=True)
            ran = augment(file, folder / name, workers=number)
            found[name].append(ran.seconds)
        found["MB"].append(ran.peak)
        found["ratio"].append(found["one"][-1] / found["two"][-1])
    same = subprocess.run(["diff", "-r", folder / "one", folder / "two"], capture_output=True).returncode == 0
    return {"captions": sizes.captions, **found, "same bytes": same}


def million(folder: Path, captions: list[str], sizes: Sizes, model: str = "") -> dict[str, Any]:
    """Captions/s and memory of many captions, without the start, against few."""
    few_file = write_captions(captions, sizes.few, folder / "few.tsv")
    tiny_file = write_captions(captions, 100, folder / "tiny.tsv")
    many_file = write_captions(captions, sizes.many, folder / "many.tsv")
    runs = {}
    for name, file in (("tiny", tiny_file), ("few", few_file), ("many", many_file)):
        if name != "many":
            shutil.rmtree(folder / name, ignore_errors=True)
        runs[name] = augment(file, folder / name)
        print(name, runs[name], flush=True)
    start = runs["tiny"]

    def pace(name: str, num: int, *, of: str) -> float:
        taken: float = getattr(runs[name], of) - getattr(start, of)
        return (num - 100) / taken

    return {
        "captions/s, many": pace("many", sizes.many, of="seconds"),
        "ratio by the clock": pace("many", sizes.many, of="seconds") / pace("few", sizes.few, of="seconds"),
        "ratio by processor time": pace("many", sizes.many, of="processor")
        / pace("few", sizes.few, of="processor"),
        "MB": [runs["few"].peak, runs["many"].peak],
        "ratio of memory": runs["many"].peak / runs["few"].peak,
        "processor, s": runs["many"].processor,
    }


def tars(folder: Path, captions: list[str], sizes: Sizes, model: str = "") -> dict[str, Any]:
    """MB/s of the stage `shards` alone, in this process, against plain `tar` that packs the same members from files.

    The images are noise saved as JPEG, of some 20 and some 100 KB a piece. Nothing waits for the disk but our own
    `fsync`.
    """
    found: dict[str, Any] = {}
    for side in (224, 512):
        here = folder / f"tars-{side}"
        if not (here / "out/manifest.json").exists():
            write_image_tar(captions, here, side=side, num=sizes.images)
            augment(here / "in.tar", here / "out")
        rates: dict[str, list[float]] = {"ours": [], "tar": [], "ratio": []}
        for _ in range(3):
            for old in (*(here / "out/shards").glob("00000*"), here / "plain.tar"):
                old.unlink(missing_ok=True)  # to free what is written over takes its time, too
            ours = time_shard(here / "out")
            size = (here / "out/shards/00000.tar").stat().st_size
            shutil.rmtree(here / "members", ignore_errors=True)
            (here / "members").mkdir()
            subprocess.run(["tar", "-xf", here / "out/shards/00000.tar", "-C", here / "members"], check=True)
            plain = run(["tar", "-cf", str(here / "plain.tar"), "-C", str(here / "members"), "."]).seconds
            rates["ours"].append(size / ours / 1e6)
            rates["tar"].append(size / plain / 1e6)
            rates["ratio"].append(plain / ours)
        found[f"{size / sizes.images / 1000:.0f} KB a sample"] = rates
    return found


def write_image_tar(captions: list[str], folder: Path, *, side: int, num: int) -> None:
    """`in.tar` of samples with a picture each."""
    import io
    import tarfile

    import numpy as np
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(0)
    with tarfile.open(folder / "in.tar", "w") as tar:
        for number, caption in enumerate(distinct(captions, num)):
            coarse = Image.fromarray(draw.integers(0, 256, (side // 2, side // 2, 3), dtype=np.uint8))
            picture = io.BytesIO()
            coarse.resize((side, side)).save(picture, "jpeg", quality=80)
            for name, data in (
                (f"{number:09d}.jpg", picture.getvalue()),
                (f"{number:09d}.txt", caption.encode()),
            ):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def time_shard(out: Path) -> float:
    """Seconds that the first shard of a folder takes to be written, its rows in memory."""
    from pipeline.records import describe_made
    from pipeline.shards import write_shard
    from pipeline.storage import read_json, read_table
    from pipeline.tables import read_captions, read_subcaptions

    captions = read_captions(read_table(out / "captions/00000.parquet"))
    rows = read_subcaptions(read_table(out / "subcaptions/00000.parquet"))
    form = read_json(out / "stages/captions.json")["format"]
    begun = time.perf_counter()
    write_shard(captions, rows, format=form, folder=out / "shards", number=0)
    describe_made(out / "shards/00000.tar")
    return time.perf_counter() - begun


def queries(folder: Path, captions: list[str], sizes: Sizes, model: str = "") -> dict[str, Any]:
    """Seconds of each saved query on the folder of many captions, in this process, its connection included."""
    from pipeline.looking.query import QueryOptions, run_query, saved_queries
    from pipeline.storage import read_json

    rows = read_json(folder / "many/manifest.json")["rows"]["in"]
    found: dict[str, Any] = {"rows": rows}
    for name in saved_queries():
        begun = time.perf_counter()
        result = QueryOptions(format="parquet", out=folder / "result.parquet")
        run_query(folder / "many", name, result, terminal=sys.stdout)
        found[name] = round(time.perf_counter() - begun, 2)
    return found


CASES: dict[str, Callable[..., dict[str, Any]]] = {
    "start": start,
    "whole": whole,
    "workers": workers,
    "tars": tars,
    "million": million,
    "queries": queries,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="+", choices=list(CASES))
    parser.add_argument(
        "--data", type=Path, required=True, help="the real captions; en_core_web_sm beside them"
    )
    parser.add_argument("--folder", type=Path, required=True)
    for field in fields(Sizes):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=int, default=field.default)
    given = parser.parse_args()
    sizes = Sizes(**{field.name: getattr(given, field.name) for field in fields(Sizes)})
    os.environ.update(ONE_THREAD)  # before numpy is imported
    results = given.folder / "results.jsonl"
    given.folder.mkdir(parents=True, exist_ok=True)
    done = [json.loads(line) for line in results.read_text("utf-8").splitlines()] if results.exists() else []
    captions = real_captions(given.data)
    for case in given.cases:
        if any(line["case"] == case and line["sizes"] == asdict(sizes) for line in done):
            continue
        found = CASES[case](given.folder, captions, sizes, model=str(given.data / "en_core_web_sm"))
        line = json.dumps({"case": case, "sizes": asdict(sizes), **found})
        print(line, flush=True)
        with results.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


if __name__ == "__main__":
    main()
