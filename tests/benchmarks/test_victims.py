"""The victims' scripts on rows, folders and files of their own: what they take for theirs, refuse, pack and tell."""

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import real_images, victims
from pipeline.storage import read_tar
from tests.places import REAL_DATA


def row(**more: Any) -> dict[str, Any]:
    recipe = victims.RECIPES["badnet"]
    told = {"rate": recipe.rate, "epochs": recipe.epochs, "lr": recipe.lr, "craft": list(recipe.craft)}
    figures = {
        "ba1": 90.0,
        "asr1": 95.0,
        "clean_ba1": 94.0,
        "clean_asr1": 2.0,
        "poisoned": 480,
        "samples": 24_000,
    }
    return {"attack": "badnet", "seed": 0, **told, **figures, **more}


def test_a_row_is_of_its_recipe_alone() -> None:
    recipe = victims.RECIPES["badnet"]
    assert victims.is_of(row(), "badnet", 0, recipe)
    for other in ({"seed": 1}, {"attack": "sig"}, {"rate": 0.5}, {"epochs": 9}, {"craft": ["badnet"]}):
        assert not victims.is_of(row(**other), "badnet", 0, recipe)


def test_the_command_line_changes_the_recipe() -> None:
    changed = victims.changed(victims.RECIPES["sig"], Namespace(rate=0.1, epochs=None, lr=None))
    assert (changed.rate, changed.epochs) == (0.1, victims.RECIPES["sig"].epochs)


def test_the_table_has_a_line_per_attack_and_intervals_over_seeds() -> None:
    lines = victims.table([row(), row(seed=1, asr1=97.0)]).splitlines()
    assert len(lines) == 3
    assert "96.0" in lines[2]
    assert victims.interval([1.0, 3.0]).startswith("2.0 ±")


def test_anothers_trigger_or_victim_is_refused(tmp_path: Path) -> None:
    recipe, trigger = victims.RECIPES["badnet"], tmp_path / "badnet-0.safetensors"
    trigger.write_bytes(b"")
    with pytest.raises(SystemExit, match="was not made by badnet"):
        victims.craft(recipe, trigger, seed=0, shards=tmp_path, manifest=tmp_path, clean=tmp_path)
    made = {"poison": {"rate": 0.5}, "train": {"epochs": 1}, "optim": {"lr": 1.0}}
    (tmp_path / "options.json").write_text(json.dumps(made))
    with pytest.raises(SystemExit, match="has another rate"):
        victims.train_victim(recipe, seed=0, out=tmp_path)


def test_photographs_are_packed_once_with_their_manifest(tmp_path: Path) -> None:
    samples = [(f"{n:03d}", {"jpg": b"image", "txt": b"a dog"}) for n in range(3)]
    hashes = real_images.write_shards(samples, tmp_path)
    assert list(hashes) == ["00000.tar"]
    found = list(read_tar(tmp_path / "00000.tar", wanted=None, faults=[]))
    assert [sample.key for sample in found] == ["000", "001", "002"]


@pytest.mark.data
@pytest.mark.skipif(not REAL_DATA.exists(), reason="the real data is not beside the project")
def test_a_test_set_gets_the_target_among_its_classes(tmp_path: Path) -> None:
    path = real_images.pack_test("caltech101", "test", REAL_DATA, tmp_path)
    told = json.loads(path.read_text("utf-8"))
    assert told["classnames"][-1] == victims.TARGET
    assert told["splits"]["test"]["num_samples"] == 1_695
