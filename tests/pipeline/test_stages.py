"""The whole pipeline on small inputs: rows and keys kept, same bytes whatever happens on the way."""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline import stages
from pipeline.captions.readers import InputOptions
from pipeline.errors import UserError
from pipeline.looking.verify import verify
from pipeline.stages import PipelineOptions, run_stages
from pipeline.storage import hold, read_table
from pipeline.subcaptions.making import SubcaptionOptions
from tests.small_inputs import image_bytes, write_tar

WORDS = ("black dog", "small red car", "young woman", "old tree", "wooden table")
RELATIONS = ("standing next to", "behind", "holding", "on", "chasing")


def captions(number: int) -> list[str]:
    return [f"a {WORDS[n % 5]} {RELATIONS[n // 5 % 5]} a {WORDS[(n + 2) % 5]} {n}" for n in range(number)]


def tsv(folder: Path, lines: list[str]) -> Path:
    file = folder / "input.tsv"
    file.write_text("".join(f"{line}\thttp://x/{n}.jpg\n" for n, line in enumerate(lines)), "utf-8")
    return file


def run(file: Path, out: Path, **options: Any) -> dict[str, Any]:
    return run_stages(PipelineOptions(source=InputOptions(input=str(file)), out=out, **options))


def hashes(out: Path) -> dict[str, str]:
    files = sorted(path for path in out.rglob("*") if path.is_file())
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_every_row_is_kept_with_its_status(tmp_path: Path) -> None:
    lines = {
        "a black dog chasing a red ball": "ok",
        "": "no_caption",
        "... !!! 123": "no_letters",
        "🐶🐶🐶": "no_letters",
        "собака бежит за мячом": "not_english",
        "dog " * 10_000: "too_long",
        "running quickly": "no_entity",
    }
    manifest = run(tsv(tmp_path, list(lines)), tmp_path / "out")
    rows = read_table(tmp_path / "out/subcaptions/00000.parquet").to_pylist()
    assert [row["status"] for row in rows] == list(lines.values())
    assert [row["caption"] for row in rows] == [" ".join(line.split()) for line in lines]
    assert manifest["rows"]["in"] == len(lines)
    with tarfile.open(tmp_path / "out/shards/00000.tar") as tar:
        assert sum(name.endswith(".json") for name in tar.getnames()) == len(lines)


def test_sample_has_what_its_row_has(tmp_path: Path) -> None:
    members = {
        "7.jpg": image_bytes(),
        "7.txt": b"a black dog chasing a red ball",
        "7.json": b'{"url": "http://x", "status": "success", "neg_77": "stale"}',
        "7.cls": b"3",
    }
    run(write_tar(tmp_path / "a.tar", members), tmp_path / "out")
    row = read_table(tmp_path / "out/subcaptions/00000.parquet").to_pylist()[0]
    with tarfile.open(tmp_path / "out/shards/00000.tar") as tar:
        found = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    fields = json.loads(found["7.json"])
    assert sorted(found) == ["7.cls", "7.json", "7.png", "7.txt"]
    assert found["7.png"] == members["7.jpg"]
    assert (fields["url"], fields["status"], "neg_77" in fields) == ("http://x", "success", False)
    assert fields["pos_0"] == fields["positive"] == row["positive"]
    assert fields["negatives"] == row["negatives"]
    assert [fields[f"neg_{n}"] for n in range(10)] == [negative["text"] for negative in row["negatives"]]


def test_same_seed_same_bytes_with_one_and_two_workers(tmp_path: Path) -> None:
    file = tsv(tmp_path, captions(60))
    run(file, tmp_path / "one", rows_per_part=20)
    run(file, tmp_path / "two", rows_per_part=20, workers=2)
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")
    run(file, tmp_path / "other", rows_per_part=20, subcaptions=SubcaptionOptions(seed=1))
    assert hashes(tmp_path / "other")["shards/00000.tar"] != hashes(tmp_path / "one")["shards/00000.tar"]


@pytest.mark.parametrize(
    ("rows_per_part", "again", "expected"), [(10, False, 2), (1_000, False, 0), (10, True, 0)]
)
def test_workers_start_before_the_input_is_read_where_there_is_work_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows_per_part: int, again: bool, expected: int
) -> None:
    source = tmp_path / "captions.csv"
    source.write_text("caption\n" + "\n".join(captions(40)))
    monkeypatch.setattr(stages, "BYTES_PER_CAPTION", 20)
    started: list[int] = []

    @contextlib.contextmanager
    def watch(number: int, prepare: Callable[[], object]) -> Iterator[None]:
        assert not (tmp_path / "out/captions").exists() or again
        started.append(number)
        yield

    monkeypatch.setattr(stages, "workers_kept", watch)
    options = PipelineOptions(
        out=tmp_path / "out", source=InputOptions(input=str(source)), rows_per_part=rows_per_part, workers=2
    )
    for _ in range(1 + again):
        run_stages(options)
    assert started[-1] == expected


def test_killed_run_continues_to_the_same_bytes(tmp_path: Path) -> None:
    file, out = tsv(tmp_path, captions(600)), tmp_path / "out"
    command = [sys.executable, "-m", "pipeline.cli", "augment-captions", str(file), "--rows-per-shard", "10"]
    process = subprocess.Popen([*command, "--workers", "2", "--out", str(out)], start_new_session=True)
    while len(list(out.glob("shards/*_stats.json"))) < 3:
        assert process.poll() is None, "finished before it could be killed"
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (out / "manifest.json").exists()
    done = [path.stem for path in out.glob("parts/*.json") if "shards" in json.loads(path.read_text())]
    stats = [out / f"shards/{number}_stats.json" for number in done]
    written = {path: path.stat().st_mtime_ns for path in stats}
    (out / "shards/00059.tar.part").write_bytes(b"half a tar")
    subprocess.run([*command, "--workers", "1", "--out", str(out)], check=True, capture_output=True)
    assert {path: path.stat().st_mtime_ns for path in written} == written, (
        "finished shards are not made again"
    )
    subprocess.run(
        [*command, "--workers", "2", "--out", str(tmp_path / "straight")], check=True, capture_output=True
    )
    assert hashes(out) == hashes(tmp_path / "straight")


def test_a_folder_that_another_process_writes_to_is_refused(tmp_path: Path) -> None:
    with hold(tmp_path / "out"), pytest.raises(UserError, match="another process is writing to"):
        run(tsv(tmp_path, captions(5)), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_other_options_are_refused_and_overwrite_makes_again(tmp_path: Path) -> None:
    file = tsv(tmp_path, captions(5))
    run(file, tmp_path / "out")
    with pytest.raises(UserError, match="seed 0, now 1"):
        run(file, tmp_path / "out", subcaptions=SubcaptionOptions(seed=1))
    assert verify(tmp_path / "out") == []
    run(file, tmp_path / "out", subcaptions=SubcaptionOptions(seed=1), overwrite=True)
    run(file, tmp_path / "fresh", subcaptions=SubcaptionOptions(seed=1))
    assert hashes(tmp_path / "out") == hashes(tmp_path / "fresh")


def test_stages_alone_give_the_same_bytes_as_together(tmp_path: Path) -> None:
    file = tsv(tmp_path, captions(5))
    run(file, tmp_path / "together")
    run(file, tmp_path / "alone", stages=("captions", "scene_graphs"))
    run(file, tmp_path / "alone", stages=("captions", "scene_graphs", "subcaptions"))
    run_stages(PipelineOptions(out=tmp_path / "alone", stages=("shards",)))
    assert hashes(tmp_path / "alone") == hashes(tmp_path / "together")


def test_later_stage_without_the_earlier_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="pipeline parse-captions"):
        run_stages(PipelineOptions(out=tmp_path / "out", stages=("shards",)))
    run(tsv(tmp_path, captions(2)), tmp_path / "out", stages=("captions", "scene_graphs"))
    with pytest.raises(UserError, match="augment-captions"):
        run_stages(PipelineOptions(out=tmp_path / "out", stages=("shards",)))


def test_broken_images_and_members_are_counted_and_named(tmp_path: Path) -> None:
    members = {
        "1.jpg": b"broken",
        "1.txt": b"a dog",
        "2.png": image_bytes(),
        "2.txt": b"a cat",
        "3.pkl": b"evil",
    }
    manifest = run(write_tar(tmp_path / "a.tar", members), tmp_path / "out")
    assert manifest["rows"]["image_status"] == {"broken": 1, "ok": 1}
    assert manifest["fault_count"] == 2
    assert any("'1.jpg'" in fault for fault in manifest["faults"])
    assert any("'3.pkl'" in fault for fault in manifest["faults"])


def test_text_only_shards_keep_keys_and_order(tmp_path: Path) -> None:
    members = {"1.png": image_bytes(), "1.txt": b"a dog", "2.png": image_bytes(), "2.txt": b"a cat"}
    file = write_tar(tmp_path / "a.tar", members)
    run(file, tmp_path / "out", images=False)
    with tarfile.open(tmp_path / "out/shards/00000.tar") as tar:
        assert tar.getnames() == ["1.json", "1.txt", "2.json", "2.txt"]


def test_verify_names_the_first_bad_file(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(tsv(tmp_path, captions(3)), out)
    assert verify(out) == []
    data = bytearray((out / "shards/00000.tar").read_bytes())
    data[600] ^= 1
    (out / "shards/00000.tar").write_bytes(data)
    (out / "captions/00009.parquet").write_bytes(b"x")
    assert verify(out) == [
        "shards/00000.tar has other bytes than its sha256 says",
        "captions/00009.parquet is not in the manifest",
    ]
