"""How a run is put together: the hash of its shards, and options that are younger than it."""

import hashlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from pipeline.errors import UserError
from tests.square_shards import WriteShards
from trainer.batches import BatchOptions, BatchStream
from trainer.checkpoint import load_plain, save_state
from trainer.data import find_shards, index_shards
from trainer.defences import build_defence
from trainer.defences.cleanclip import CleanClipOptions
from trainer.defences.defence import Setting
from trainer.launch import Source, attack, defend, hash_shards
from trainer.model import ModelChoice, load_model
from trainer.optim import OptimOptions
from trainer.preflight import look
from trainer.train import TrainOptions, prepare


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


def test_a_dry_run_says_what_a_run_will_be_and_draws_a_batch(
    write_shards: WriteShards, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given: dict[str, Any] = {
        "batches": BatchOptions(batch_size=8),
        "optim": OptimOptions(),
        "options": TrainOptions(epochs=3, device="cpu"),
        "out": tmp_path / "run",
    }
    checkpoint = tmp_path / "start.pt"
    torch.save(load_model("cleanerclip-tiny-32").model.state_dict(), checkpoint)
    model = ModelChoice(checkpoint=checkpoint, model="cleanerclip-tiny-32", activation="gelu")
    source = Source(shards=str(write_shards(24)))
    assert defend(model, source, CleanClipOptions(), **given, dry_run=True) == {}
    said = capsys.readouterr().err
    for part in (
        "data: 24 samples in 2 shards, 0 left out",
        "captions: of 24 looked at, 0.0 % fill the 24 tokens",
        "model: cleanerclip-tiny-32, gelu, softmax loss, 32 px; ",
        " million parameters trained; cpu, fp32",
        "s for 9 steps",
        "GB at most in these steps",
    ):
        assert part in said
    assert "warning" not in said
    with Image.open(tmp_path / "run/batch.png") as drawn:
        assert drawn.size == (8 * 96, 2 * 96 + 14)
    assert defend(model, source, CleanClipOptions(), **given)["steps"] == 9  # the folder is free for the run


def test_what_will_not_fit_is_said_with_what_mends_it(
    write_shards: WriteShards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = load_model("cleanerclip-tiny-32")
    defence = build_defence(CleanClipOptions(), Setting(clip=clip, seed=0))
    index = index_shards(find_shards(str(write_shards(24))))
    stream = BatchStream(index, clip, needs=defence.needs, options=BatchOptions(batch_size=8, workers=99))
    learner = prepare(clip, defence, optim=OptimOptions(lr=1e-3), options=TrainOptions(device="cpu"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    said = "\n".join(look(stream, learner, options=TrainOptions(), out=tmp_path / "run"))
    for part in ("too little space: --storage fp16", "lower --workers", "docker run --shm-size"):
        assert part in said
