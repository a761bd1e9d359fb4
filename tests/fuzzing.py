"""Damaged inputs by the thousand: `python -m tests.fuzzing --number 12000` (`make fuzz`).

Each is a good input of one of the formats, changed at random, and goes the whole way that needs no parser: rows, their
Parquet file, images, a shard, and the shard read again. What must not happen: an error other than UserError, a row that
is lost on the way, more than MAX_SECONDS.
"""

import argparse
import gzip
import io
import json
import random
import signal
import sys
import tempfile
import traceback
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.captions.readers import InputOptions, open_source
from pipeline.errors import UserError
from pipeline.schema import NO_ENTITY, Caption, Subcaption
from pipeline.shards import write_shard
from pipeline.storage import read_table, read_tar, write_table
from pipeline.tables import captions_table, read_captions, read_subcaptions, subcaptions_table
from tests.small_inputs import image_bytes, write_tar

MAX_SECONDS: Final = 120
MEMORY: Final = "/dev/shm"
"""Where files cost no disk, on Linux."""
TOKENS: Final = (
    *(b"\0", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b'"', b"'", b"\n", b"\r", b"\t", b",", b"{", b"}", b"[", b"]"),
    *(b"\\ud800", b"1e999", b"NaN", b"9" * 5_000, b"null", b"/dev/zero", b"../", b"__", b".", b"\xed\xa0\x80"),
    *(b"[" * 3_000, b"a" * 70_000),
)  # fmt: skip


def good_inputs(folder: Path) -> dict[str, bytes]:
    """Name to bytes of an input of each format, plain and gzipped."""
    rows = [{"id": n, "caption": f'a "black" dog, é {n}', "image": f"{n}.png", "x": 0.5} for n in range(8)]
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    table = pa.table(
        {"caption": [row["caption"] for row in rows], "jpg": [image_bytes()] * 8, "key": list(range(8))}
    )
    members: dict[str, bytes] = {}
    for n, row in enumerate(rows[:4]):
        members |= {f"d/{n}.txt": str(row["caption"]).encode(), f"d/{n}.json": json.dumps(row).encode()}
        members |= {f"d/{n}.png": image_bytes(), f"d/{n}.cls": b"3"}
    parquet = io.BytesIO()
    pq.write_table(table, parquet)
    coco = {
        "images": [{"id": n, "file_name": f"{n}.png"} for n in range(8)],
        "annotations": [{"id": n, "image_id": n, "caption": row["caption"]} for n, row in enumerate(rows)],
    }
    csv = "image,caption\n" + "".join(f'{n}.png,"a ""black"" dog, {n}"\n' for n in range(8))
    plain = {
        "a.tsv": "".join(f"a black dog {n}\thttp://x/{n}\n" for n in range(8)).encode(),
        "a.csv": csv.encode(),
        "a.jsonl": lines,
        "a.json": json.dumps(coco).encode(),
        "a.parquet": parquet.getvalue(),
        "a.tar": write_tar(folder / "good", members).read_bytes(),
    }
    zipped = {
        f"{name}.gz": gzip.compress(plain[name], mtime=0) for name in ("a.tsv", "a.csv", "a.jsonl", "a.json")
    }
    utf16 = {"b.tsv": plain["a.tsv"].decode().encode("utf-16"), "b.csv": csv.encode("utf-16")}
    return plain | zipped | utf16


def damage(data: bytes, rng: random.Random) -> bytes:
    """The bytes with one to four changes."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(changed) + 1)
        length = rng.choice((1, 2, 8, 100, 512))
        match rng.randrange(7):
            case 0 if changed:
                changed[at % len(changed)] ^= 1 << rng.randrange(8)
            case 1:
                del changed[at : at + length]
            case 2:
                changed[at:at] = rng.choice(TOKENS)
            case 3:
                changed[at : at + length] = rng.randbytes(length)
            case 4:
                changed[at:at] = changed[at : at + length]
            case 5:
                del changed[at:]
            case _:
                changed[at : at + length] = rng.choice(TOKENS)
    return bytes(changed)


def go_through(file: Path, out: Path) -> tuple[int, bool]:
    """The number of rows that the file gave, and whether it was refused; AssertionError where one was lost."""
    source = open_source(InputOptions(input=str(file)))
    rows: list[Caption] = []
    refused = False
    try:
        rows.extend(source.rows(file, faults=[]))
    except UserError:
        refused = True
    rows = [replace(row, key=f"{row.key}-{number}") for number, row in enumerate(rows)]
    write_table(out / "captions.parquet", captions_table(rows))
    assert read_captions(read_table(out / "captions.parquet")) == rows
    made = [
        Subcaption(key=row.key, caption=row.caption, positive="", negatives=(), views=(), status=NO_ENTITY)
        for row in rows
    ]
    write_shard(
        rows,
        read_subcaptions(subcaptions_table(made)),
        format=source.format,
        folder=out,
        number=0,
        with_images=source.format != "webdataset",
    )
    keys = [sample.key for sample in read_tar(out / "00000.tar", wanted=None, faults=[])]
    assert keys == [row.key for row in rows], "rows were lost in the shard"
    return len(rows), refused


def fuzz(number: int, *, seed: int) -> tuple[Counter[str], list[str]]:
    """Counts by outcome, and a line for each input that did what it must not."""
    counts: Counter[str] = Counter()
    found = []
    with tempfile.TemporaryDirectory(dir=MEMORY if Path(MEMORY).is_dir() else None) as name:
        folder = Path(name)
        inputs = good_inputs(folder)
        for n in range(number):
            rng = random.Random(f"{seed}:{n}")
            kind = sorted(inputs)[n % len(inputs)]
            file = folder / kind
            file.write_bytes(damage(inputs[kind], rng))
            signal.setitimer(signal.ITIMER_PROF, MAX_SECONDS)  # of the processor; the machine may be busy
            signal.alarm(60 * MAX_SECONDS)
            try:
                rows, refused = go_through(file, folder / "out")
                counts["rows"] += rows
                counts["refused"] += refused
            except (Exception, _TooLong) as error:
                where = traceback.extract_tb(error.__traceback__)[-1]
                found.append(
                    f"{seed}:{n} {kind}: {type(error).__name__} at {Path(where.filename).name}:{where.lineno}: {error}"[
                        :300
                    ]
                )
            finally:
                signal.alarm(0)
                signal.setitimer(signal.ITIMER_PROF, 0)
                file.unlink()
    return counts, found


class _TooLong(BaseException):
    """No error that a reader may take for one of the file's."""


def _too_long(number: int, frame: FrameType | None) -> None:
    raise _TooLong(f"more than {MAX_SECONDS} seconds")


def main() -> None:
    """The command."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--number", type=int, default=12_000, help="inputs to try")
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    for number in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(number, _too_long)
    counts, found = fuzz(given.number, seed=given.seed)
    told = f"{counts['rows']:,} rows, {counts['refused']:,} refused, {len(found)} faults"
    print(f"{given.number:,} damaged inputs, seed {given.seed}: {told}")
    print("\n".join(found))
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
