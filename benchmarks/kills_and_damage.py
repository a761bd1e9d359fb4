"""`kill -9` at random moments, and damage to every kind of output file: does the same command mend each to the byte?

    python -m benchmarks.kills_and_damage kills damage --data ../shared/data --folder DIR

A moment is one of the files that a run writes, drawn with the kill's number as seed, and up to 50 ms more; the parent
and a worker are killed in turn. The run itself replaces a worker, a killed parent's command is given again. Each kill
is a line of DIR/kills.jsonl, and is not made again.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from benchmarks.pipeline_at_size import ONE_THREAD, real_captions, write_captions
from pipeline.captions.readers import InputOptions
from pipeline.looking.verify import verify
from pipeline.stages import PipelineOptions, run_stages

ROWS_PER_PART: Final = 60


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="+", choices=("kills", "damage"))
    parser.add_argument("--data", type=Path, required=True, help="the real captions")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--num", type=int, default=50, help="kills")
    given = parser.parse_args()
    os.environ.update(ONE_THREAD)  # before numpy is used
    given.folder.mkdir(parents=True, exist_ok=True)
    file = write_captions(real_captions(given.data), 1_200, given.folder / "in.tsv")
    if "damage" in given.cases:
        print(json.dumps(damage(file, given.folder)), flush=True)
    if "kills" in given.cases:
        print(json.dumps(kills(file, given.folder, given.num)), flush=True)


def hashes(out: Path) -> dict[str, str]:
    """Of the files of a folder."""
    files = (path for path in sorted(out.rglob("*")) if path.is_file())
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# -------------------------------------------------------------------------------------------------------------- kills
def kills(file: Path, folder: Path, num: int) -> dict[str, Any]:
    """Kill `num` runs and let each come to its end."""
    straight = folder / "straight"
    if not (straight / "manifest.json").exists():
        subprocess.run(command(file, straight), check=True, capture_output=True)
    expected, results = hashes(straight), folder / "kills.jsonl"
    lines = results.read_text("utf-8").splitlines() if results.exists() else []
    for number in range(len(lines), num):
        found = kill(file, folder / "killed", number, num_files=len(expected))
        found["same bytes"] = hashes(folder / "killed") == expected
        found["verified"] = verify(folder / "killed") == []
        line = json.dumps({"number": number, **found})
        print(line, flush=True)
        with results.open("a", encoding="utf-8") as out:
            out.write(line + "\n")
    found_all = [json.loads(line) for line in results.read_text("utf-8").splitlines()]
    return {
        "kills": len(found_all),
        "byte-identical": sum(each["same bytes"] and each["verified"] for each in found_all),
        "of": dict(Counter(each["killed"] for each in found_all)),
        "while it wrote": dict(Counter(each["last"].partition("/")[0] for each in found_all)),
    }


def command(file: Path, out: Path) -> list[str]:
    words = ("augment-captions", str(file), "--out", str(out), "--rows-per-shard", str(ROWS_PER_PART))
    return [sys.executable, "-m", "pipeline.cli", *words, "--workers", "2"]


def kill(file: Path, out: Path, number: int, *, num_files: int) -> dict[str, Any]:
    """One run that is killed, and what follows."""
    draw = random.Random(number)
    shutil.rmtree(out, ignore_errors=True)
    wanted, delay = draw.randrange(num_files - 1), draw.uniform(0, 0.05)
    process = subprocess.Popen(command(file, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(written := files_of(out)) < wanted and process.poll() is None:
        time.sleep(0.002)
    time.sleep(delay)
    workers = children(process.pid)
    who = "worker" if number % 2 and workers else "parent"
    with contextlib.suppress(ProcessLookupError):
        os.kill(draw.choice(workers) if who == "worker" else process.pid, signal.SIGKILL)
    code = process.wait()
    if code:
        subprocess.run(command(file, out), check=True, capture_output=True)
    return {"killed": who, "files": len(written), "last": max(written, key=written.__getitem__, default="")}


def files_of(out: Path) -> dict[str, float]:
    """Name and time of each file that is there by now, those being written included."""
    found = {}
    for path in out.rglob("*"):
        with contextlib.suppress(OSError):
            if path.is_file():
                found[str(path.relative_to(out))] = path.stat().st_mtime
    return found


def children(process: int) -> list[int]:
    """The workers of a run: not Python's tracker of resources, which is its first child."""
    with contextlib.suppress(OSError):
        found = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        return [int(each) for each in found if "resource_tracker" not in _command_of(int(each))]
    return []


def _command_of(process: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_text().replace("\0", " ")
    return ""


# ------------------------------------------------------------------------------------------------------------- damage
def cut(file: Path, other: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(file: Path, other: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def swap(file: Path, other: Path) -> None:
    first, second = file.read_bytes(), other.read_bytes()
    file.write_bytes(second)
    other.write_bytes(first)


DAMAGE: Final[dict[str, Callable[[Path, Path], None]]] = {
    "deleted": lambda file, _: file.unlink(),
    "cut": cut,
    "flipped": flip,
    "exchanged": swap,
}


def damage(file: Path, folder: Path) -> dict[str, Any]:
    """Every kind of file in every way: named by `verify`, made again by the same command with --check."""
    whole = folder / "whole"
    told: list[str] = []
    source = InputOptions(input=str(file))

    def run(out: Path, *, check: bool = False) -> None:
        options = PipelineOptions(source=source, out=out, rows_per_part=ROWS_PER_PART, check=check)
        run_stages(options, tell=told.append)

    run(whole)
    expected = hashes(whole)
    kinds = kinds_of(expected)
    found: dict[str, Any] = {"kinds": len(kinds), "cases": 0, "named": 0, "byte-identical": 0, "certified": 0}
    found["failed"] = []
    for (name, other), (how, spoil) in ((k, d) for k in kinds for d in DAMAGE.items()):
        out = folder / "damaged"
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(whole, out)
        spoil(out / name, out / other)
        named = name == "manifest.json" or any(line.startswith((name, other)) for line in verify(out))
        run(out, check=True)
        same, certified = hashes(out) == expected, verify(out) == []
        found["cases"] += 1
        found["named"] += named
        found["byte-identical"] += same
        found["certified"] += certified and not same
        if not (named and same and certified):
            found["failed"].append(f"{name} {how}")
    return found


def kinds_of(names: dict[str, str]) -> list[tuple[str, str]]:
    """A file of each kind, and the one that it changes places with: of its own kind where there are two."""
    kinds: dict[str, list[str]] = {}
    for name in names:
        kinds.setdefault("".join("0" if letter.isdigit() else letter for letter in name), []).append(name)
    singles = [members[0] for members in kinds.values() if len(members) == 1]
    return [
        (members[0], members[1] if len(members) > 1 else next(s for s in singles if s != members[0]))
        for members in kinds.values()
    ]


if __name__ == "__main__":
    main()
