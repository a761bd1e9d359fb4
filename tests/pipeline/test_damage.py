"""Whatever happens to a file of an output folder: it is named, made again with the same bytes, never vouched for."""

import functools
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.captions.readers import InputOptions
from pipeline.errors import UserError
from pipeline.looking.repair import repair
from pipeline.looking.verify import verify
from pipeline.stages import PipelineOptions, run_stages
from tests.small_inputs import image_bytes, write_tar


def hashes(out: Path) -> dict[str, str]:
    files = sorted(path for path in out.rglob("*") if path.is_file())
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def run(folder: Path, out: Path, **options: Any) -> list[str]:
    told: list[str] = []
    source = InputOptions(input=str(folder / "in"))
    run_stages(PipelineOptions(source=source, out=out, **options), tell=told.append)
    return told


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the input `in`, two tars, and what was made of it, `out`."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "in").mkdir()
    for number, noun in enumerate(("dog", "cat")):
        members = {}
        for row in range(3):
            members[f"{row}.png"] = image_bytes()
            members[f"{row}.txt"] = f"a black {noun} chasing a red ball {row}".encode()
        write_tar(folder / f"in/{number}.tar", members)
    run(folder, folder / "out")
    return folder


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made / "out", tmp_path / "out")
    return tmp_path / "out"


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


DAMAGE: dict[str, Callable[[Path], None]] = {
    "deleted": Path.unlink,
    "cut": cut,
    "flipped": flip,
}
FILES = [
    "captions/00000.parquet",
    "scene_graphs/00001.parquet",
    "subcaptions/00000.parquet",
    "shards/00001.tar",
    "shards/00000.parquet",
    "shards/00001_stats.json",
    "parts/00000.json",
    "stages/scene_graphs.json",
    "stages/subcaptions.json",
    "stages/shards.json",
    "shards/sizes.json",
    "lexicons/objects.csv",
    "stages/captions.json",
]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", DAMAGE)
def test_damage_is_named_and_made_again(made: Path, out: Path, name: str, how: str) -> None:
    DAMAGE[how](out / name)
    assert any(line.startswith(name) for line in verify(out))
    told: list[str] = []
    if name == "stages/captions.json":
        with pytest.raises(UserError, match="run the original command again"):
            repair(out, lexicons=None, parser=None, workers=1, tell=told.append)
        told = run(made, out)
    else:
        repair(out, lexicons=None, parser=None, workers=1, tell=told.append)
    own = not name.startswith(("lexicons", "shards/sizes")) and not (
        how == "deleted" and name.endswith(".json")
    )
    assert any(line.startswith(name) for line in told) or not own, told
    assert hashes(out) == hashes(made / "out")
    assert verify(out) == []


@pytest.mark.parametrize("name", FILES[:6])
def test_a_plain_rerun_compares_sizes_and_what_it_counts(made: Path, out: Path, name: str) -> None:
    small = name.startswith("shards/") and not name.endswith(".json")
    DAMAGE["cut" if small else "flipped"](out / name)
    assert len(run(made, out)) == 1
    assert hashes(out) == hashes(made / "out")


@pytest.mark.parametrize("name", ["shards/00001.tar", "shards/00000.parquet"])
def test_a_plain_rerun_never_vouches_for_what_it_did_not_make(made: Path, out: Path, name: str) -> None:
    flip(out / name)
    run(made, out)
    assert verify(out) == [f"{name} has other bytes than its sha256 says"]
    assert any(line.startswith(name) for line in run(made, out, check=True))
    assert hashes(out) == hashes(made / "out")


def test_files_that_changed_places_are_named(made: Path, out: Path) -> None:
    first, second = out / "shards/00000.tar", out / "shards/00001.tar"
    first.rename(out / "x")
    second.rename(first)
    (out / "x").rename(second)
    assert verify(out) == ["shards/00000.tar has other bytes than its sha256 says (and 1 more)"]
    told: list[str] = []
    repair(out, lexicons=None, parser=None, workers=1, tell=told.append)
    assert len(told) == 2
    assert hashes(out) == hashes(made / "out")


@pytest.mark.parametrize("damage", [cut, flip, Path.unlink])
def test_a_damaged_manifest_is_written_anew(made: Path, out: Path, damage: Callable[[Path], None]) -> None:
    damage(out / "manifest.json")
    run(made, out)
    assert hashes(out) == hashes(made / "out")


def test_files_of_other_shapes_are_made_again(made: Path, out: Path) -> None:
    index, manifest = out / "stages/captions.json", out / "manifest.json"
    first, second = index.read_bytes(), manifest.read_bytes()
    index.write_bytes(second)
    manifest.write_bytes(first)
    assert "stages/captions.json is damaged; made again" in run(made, out)
    assert hashes(out) == hashes(made / "out")
    for file in out.rglob("*.json"):
        file.write_text("[[1], null]")
    run(made, out)
    assert hashes(out) == hashes(made / "out")


def test_a_file_that_belongs_to_nothing_is_named_and_not_vouched_for(made: Path, out: Path) -> None:
    (out / "shards/00009.tar").write_bytes(b"x")
    run(made, out)
    assert verify(out) == ["shards/00009.tar is not in the manifest"]


def test_keys_are_joined_over_all_folders(made: Path, out: Path) -> None:
    import json

    shutil.copy(out / "subcaptions/00001.parquet", out / "subcaptions/00000.parquet")
    write_tar(out / "shards/00001.tar", {"0.json": b'{"key": "0"}'})
    manifest = json.loads((out / "manifest.json").read_text())
    for name in ("subcaptions/00000.parquet", "shards/00001.tar"):
        data = (out / name).read_bytes()
        manifest["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (out / "manifest.json").write_text(json.dumps(manifest))
    told = verify(out)
    assert told[0].startswith("subcaptions/00000.parquet joins no more: row 0 has the key '0-2'")
    assert told[1] == "shards/00001.tar holds 1 rows, stages/captions.json says 3"


def test_an_input_of_the_same_size_and_other_content_is_refused(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "in", tmp_path / "in")
    run(tmp_path, tmp_path / "out")
    members = {}
    for row in (2, 1, 0):
        members[f"{row}.png"] = image_bytes()
        members[f"{row}.txt"] = f"a black dog chasing a red ball {row}".encode()
    before = (tmp_path / "in/0.tar").stat().st_size
    assert write_tar(tmp_path / "in/0.tar", members).stat().st_size == before
    for again in (
        functools.partial(run, tmp_path, tmp_path / "out"),
        functools.partial(run_stages, PipelineOptions(out=tmp_path / "out", stages=("shards",))),
    ):
        with pytest.raises(UserError, match="other content than when its captions were read"):
            again()


def test_repair_keeps_the_options(made: Path, tmp_path: Path) -> None:
    from pipeline.subcaptions.making import SubcaptionOptions

    chosen = SubcaptionOptions(num_negatives=3, num_views=1, hardness="near", seed=7)
    run(made, tmp_path / "out", subcaptions=chosen, images=False, rules="sng")
    expected = hashes(tmp_path / "out")
    cut(tmp_path / "out/subcaptions/00000.parquet")
    (tmp_path / "out/stages/shards.json").unlink()
    repair(tmp_path / "out", lexicons=None, parser=None, workers=1, tell=lambda _: None)
    assert hashes(tmp_path / "out") == expected


def test_repair_says_what_it_lacks(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "in", tmp_path / "in")
    run(tmp_path, tmp_path / "out", stages=("captions", "scene_graphs"))
    (tmp_path / "in/0.tar").unlink()
    with pytest.raises(UserError, match=r"0\.tar, which the captions were read from, is not there"):
        repair(tmp_path / "out", lexicons=None, parser=None, workers=1, tell=lambda _: None)
    with pytest.raises(UserError, match="holds no captions"):
        repair(tmp_path / "in", lexicons=None, parser=None, workers=1, tell=lambda _: None)
