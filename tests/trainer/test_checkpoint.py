"""Checkpoints of every format of the field: read whole, or refused with the reason, and never unpickled."""

import argparse
import json
import os
import pickle  # noqa: TID251
import weakref
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from pipeline.errors import UserError
from trainer import checkpoint
from trainer.checkpoint import (
    find_checkpoint,
    hash_file,
    hash_weights,
    load_plain,
    read_weights,
    save_state,
    save_weights,
)

WEIGHTS = {"visual.conv1.weight": torch.arange(6.0).view(2, 3), "logit_scale": torch.tensor(2.5)}
MODULE = OrderedDict((f"module.{key}", tensor) for key, tensor in WEIGHTS.items())
OPTIMIZER = {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-5, "params": [0]}]}

TORCH_FILES: dict[str, Any] = {
    "open_clip": {"epoch": 3, "name": "run", "state_dict": MODULE, "optimizer": OPTIMIZER},
    "cleanclip": {"epoch": 3, "name": "run", "state_dict": OrderedDict(WEIGHTS), "optimizer": OPTIMIZER},
    "par": {
        "epoch": 1,
        "state_dict": MODULE,
        "optimizer": OPTIMIZER,
        "scaler": {"scale": 65536.0},
        "best_acc1": torch.tensor(0.5),
        "args": argparse.Namespace(model="RN50", lr=1e-5, devices=[0, 1]),
    },
    "bare": OrderedDict(WEIGHTS),
}


class Hostile:
    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.proof),)


def same(found: dict[str, Tensor]) -> bool:
    return sorted(found) == sorted(WEIGHTS) and all(torch.equal(found[key], WEIGHTS[key]) for key in WEIGHTS)


@pytest.mark.parametrize("name", TORCH_FILES)
def test_torch_files_of_the_field_are_read(tmp_path: Path, name: str) -> None:
    torch.save(TORCH_FILES[name], tmp_path / "epoch_3.pt")
    weights = read_weights(tmp_path / "epoch_3.pt")
    assert same(weights.state_dict)
    assert (weights.format, weights.quick_gelu, weights.model_name) == ("torch", None, None)
    if name == "par":
        assert weights.facts["args"]["model"] == "RN50"


def test_the_old_torch_format_is_read_just_as_safely(tmp_path: Path) -> None:
    torch.save(TORCH_FILES["cleanclip"], tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert same(read_weights(tmp_path / "old.pt").state_dict)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_hostile_pickle_is_refused_and_never_run(tmp_path: Path, zipped: bool) -> None:
    proof = tmp_path / "proof"
    content = {"state_dict": dict(WEIGHTS), "extra": Hostile(proof)}
    torch.save(content, tmp_path / "evil.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match=r"evil\.pt is refused.*mkdir"):
        read_weights(tmp_path / "evil.pt")
    assert not proof.exists()


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_plain_pickle_is_refused_with_what_it_would_run(tmp_path: Path, protocol: int) -> None:
    proof = tmp_path / "proof"
    (tmp_path / "evil.pt").write_bytes(pickle.dumps({"state_dict": Hostile(proof)}, protocol))
    with pytest.raises(UserError, match=r"evil\.pt is refused \(it asks for .*mkdir"):
        read_weights(tmp_path / "evil.pt")
    assert not proof.exists()


def test_the_allow_list_ends_with_the_call(tmp_path: Path) -> None:
    before = set(torch.serialization.get_safe_globals())
    torch.save(TORCH_FILES["par"], tmp_path / "a.pt")
    load_plain(tmp_path / "a.pt")
    assert set(torch.serialization.get_safe_globals()) == before


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"epoch": 3}, "holds more than tensors"),
        ({"state_dict": {"a": "text"}}, "holds more than tensors"),
        ({"state_dict": {}}, "holds no state_dict"),
        ([1, 2], "holds no state_dict"),
    ],
)
def test_torch_files_without_weights_are_refused(tmp_path: Path, content: object, said: str) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(UserError, match=said):
        read_weights(tmp_path / "a.pt")


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
@pytest.mark.parametrize("keep", [0, 9, 100, 300])
def test_damaged_files_are_refused(tmp_path: Path, name: str, keep: int) -> None:
    path = tmp_path / name
    if path.suffix == ".pt":
        torch.save(TORCH_FILES["bare"], path)
    else:
        save_weights(path, {**WEIGHTS, "more": torch.zeros(500)}, metadata={})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=str(path)):
        read_weights(path)


def test_a_torchscript_archive_is_refused(tmp_path: Path) -> None:
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        script = torch.jit.script(torch.nn.Linear(2, 2))
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        torch.jit.save(script, str(tmp_path / "RN50.pt"))
    with pytest.raises(UserError, match="TorchScript archive, which runs code"):
        read_weights(tmp_path / "RN50.pt")


def test_safetensors_keep_weights_and_metadata(tmp_path: Path) -> None:
    path = tmp_path / "epoch_2.safetensors"
    save_weights(path, WEIGHTS, metadata={"model": "cleanerclip-rn-64", "quick_gelu": "false"})
    weights = read_weights(path)
    assert same(weights.state_dict)
    assert (weights.model_name, weights.quick_gelu) == ("cleanerclip-rn-64", False)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_saving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    metadata = {letter: f'"{letter}" \N{BANANA}' for letter in "zaqwsxcderfv"}
    for name in ("a", "b"):
        save_weights(tmp_path / name, WEIGHTS, metadata=metadata)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert read_weights(tmp_path / "a").facts == metadata


def test_fp16_storage_halves_floats_and_keeps_what_it_cannot_hold(tmp_path: Path) -> None:
    weights = {"w": torch.rand(5), "count": torch.tensor(3), "variance": torch.tensor([1e6])}
    save_weights(tmp_path / "a.safetensors", weights, metadata={}, storage="fp16")
    found = read_weights(tmp_path / "a.safetensors").state_dict
    assert torch.equal(found["w"], weights["w"].half())
    assert (found["count"].dtype, found["variance"].item()) == (torch.int64, 1e6)


def test_open_clip_config_beside_states_the_activation(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "open_clip_model.safetensors")
    config = tmp_path / "open_clip_config.json"
    config.write_text(json.dumps({"model_cfg": {"quick_gelu": True}}))
    assert read_weights(tmp_path).quick_gelu is True
    save_weights(tmp_path / "open_clip_model.safetensors", WEIGHTS, metadata={"quick_gelu": "false"})
    with pytest.raises(UserError, match="contradict each other on QuickGELU"):
        read_weights(tmp_path)
    config.write_text("[]")
    with pytest.raises(UserError, match="no open_clip configuration"):
        read_weights(tmp_path)


def test_a_run_folder_means_its_final_weights_else_its_newest_epoch(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UserError, match="holds no checkpoint"):
        find_checkpoint(tmp_path)
    for epoch in (2, 10, 9):
        save_weights(tmp_path / f"checkpoints/epoch_{epoch}.safetensors", WEIGHTS, metadata={})
    assert find_checkpoint(tmp_path).name == "epoch_10.safetensors"
    (tmp_path / "model").mkdir()
    save_weights(tmp_path / "model/open_clip_model.safetensors", WEIGHTS, metadata={})
    assert find_checkpoint(tmp_path).name == "open_clip_model.safetensors"
    with pytest.raises(UserError, match="there is no checkpoint at"):
        find_checkpoint(tmp_path / "nowhere")


def test_a_full_disk_is_one_clear_line(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    (tmp_path / "last.state.pt.part").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"last\.state\.pt cannot be written"):
        save_state(tmp_path / "last.state.pt", {"weights": torch.zeros(200_000)})


def test_state_comes_back_as_plain_types(tmp_path: Path) -> None:
    state: dict[str, Any] = {"optimizer": OPTIMIZER, "step": 7, "rng": torch.get_rng_state(), "seconds": 1.5}
    save_state(tmp_path / "last.state.pt", state)
    found = load_plain(tmp_path / "last.state.pt")
    assert (found["step"], found["optimizer"]["param_groups"]) == (7, OPTIMIZER["param_groups"])
    assert torch.equal(found["rng"], state["rng"])


@pytest.mark.parametrize("storage", ["fp32", "fp16"])
def test_a_file_is_hashed_a_tensor_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, storage: checkpoint.Storage
) -> None:
    path, read = tmp_path / "w.safetensors", list[weakref.ref[Tensor]]()
    original = checkpoint._read_one

    def read_one(path: Path, name: str) -> Tensor:
        assert sum(tensor() is not None for tensor in read) <= 1
        tensor = original(path, name)
        read.append(weakref.ref(tensor))
        return tensor

    monkeypatch.setattr(checkpoint, "_read_one", read_one)
    tensors = {f"w{number}": torch.rand(3, number) for number in range(4)} | {"n": torch.tensor(7)}
    save_weights(path, tensors, metadata={}, storage=storage)
    assert hash_file(path) == hash_weights(read_weights(path).state_dict)
    assert len(read) == 5
