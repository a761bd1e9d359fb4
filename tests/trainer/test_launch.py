"""How a run is put together: the hash of its shards, and options that are younger than it."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UserError
from tests.square_shards import WriteShards
from trainer.batches import BatchOptions
from trainer.checkpoint import load_plain, save_state
from trainer.data import find_shards
from trainer.launch import Source, attack, hash_shards
from trainer.model import ModelChoice
from trainer.optim import OptimOptions
from trainer.train import TrainOptions


def test_the_shards_hash_is_of_names_and_content(write_shards: WriteShards) -> None:
    folder = write_shards(4)
    first = hash_shards(find_shards(str(folder)))
    assert first == hash_shards(find_shards(f"{folder}/*.tar"))
    with (folder / "00000.tar").open("r+b") as file:
        file.seek(600)
        file.write(b"changed")
    assert first != hash_shards(find_shards(str(folder)))


def test_a_manifest_beside_the_shards_stands_for_their_content(write_shards: WriteShards) -> None:
    folder = write_shards(4)
    first = hash_shards(find_shards(str(folder)))
    (folder / "manifest.json").write_text("{}")
    second = hash_shards(find_shards(str(folder)))
    (folder / "manifest.json").write_text('{"seed": 1}')
    assert len({first, second, hash_shards(find_shards(str(folder)))}) == 3


def test_an_option_that_is_younger_than_the_run_had_its_default(
    write_shards: WriteShards, tmp_path: Path
) -> None:
    shards, out = str(write_shards(16)), tmp_path / "run"

    def start(*, resume: bool, lock_text: bool = False) -> dict[str, Any]:
        return attack(
            ModelChoice(model="cleanerclip-tiny-32"),
            Source(shards=shards),
            None,
            batches=BatchOptions(batch_size=8),
            optim=OptimOptions(),
            options=TrainOptions(epochs=1, lock_text=lock_text),
            out=out,
            resume=resume,
        )

    before = start(resume=False)
    told = json.loads((out / "options.json").read_text())
    del told["train"]["lock_text"], told["optim"]["beta1"]
    (out / "options.json").write_text(json.dumps(told))
    state = load_plain(out / "checkpoints" / "last.state.pt")
    text = json.dumps(told, sort_keys=True, default=str)
    state["options_sha256"] = hashlib.sha256(text.encode()).hexdigest()
    save_state(out / "checkpoints" / "last.state.pt", state)
    assert start(resume=True)["weights_sha256"] == before["weights_sha256"]
    with pytest.raises(UserError, match=r"other options \(train\)"):
        start(resume=True, lock_text=True)
