"""Checkpoint files in the very formats of the field: loaded whole, or refused with the reason, never half-loaded."""

import argparse
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.errors import UserError
from tests.evaluation_inputs import TINY, noise, run_trainer, write_labelled
from trainer.checkpoint import hash_weights, read_weights
from trainer.model import ClipModel, load_model

Weights = OrderedDict[str, Tensor]


@pytest.fixture(scope="module")
def tiny() -> ClipModel:
    return load_model(TINY, seed=5)


@pytest.fixture(scope="module")
def weights(tiny: ClipModel) -> Weights:
    return OrderedDict((name, tensor.clone()) for name, tensor in tiny.model.state_dict().items())


@pytest.fixture(scope="module")
def optimiser(tiny: ClipModel) -> dict[str, Any]:
    """AdamW's state as the training scripts save it, after one step."""
    parameters = list(tiny.model.parameters())[:3]
    groups: list[dict[str, Any]] = [
        {"params": parameters[:1], "weight_decay": 0.0},
        {"params": parameters[1:]},
    ]
    adamw = torch.optim.AdamW(groups, lr=1e-6)
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    adamw.step()
    return adamw.state_dict()


def _module(weights: Weights) -> Weights:
    """As DistributedDataParallel names them."""
    return OrderedDict((f"module.{name}", tensor) for name, tensor in weights.items())


def _cleanclip(weights: Weights, optimiser: Any) -> Any:
    return {"epoch": 5, "name": "run", "state_dict": _module(weights), "optimizer": optimiser}


def _badclip(weights: Weights, optimiser: Any) -> Any:
    """One process, so no `module.`."""
    return {"epoch": 10, "name": "badCLIP", "state_dict": weights, "optimizer": optimiser}


def _par(weights: Weights, optimiser: Any) -> Any:
    arguments = argparse.Namespace(model="RN50", lr=1e-5, betas=(0.9, 0.98), devices=[0, 1], name=None)
    scaler = {"scale": 65536.0, "growth_factor": 2.0, "backoff_factor": 0.5, "_growth_tracker": 3}
    rest = {"scaler": scaler, "best_acc1": torch.tensor(0.42), "args": arguments}
    return {"epoch": 1, "state_dict": _module(weights), "optimizer": optimiser} | rest


def _openai(weights: Weights, _: Any) -> Any:
    """The state dict of OpenAI's archive: half precision but for the norms, and three numbers beside the weights."""
    stored = OrderedDict(
        (name, tensor.half() if tensor.ndim >= 2 and tensor.is_floating_point() else tensor)
        for name, tensor in weights.items()
    )
    stored["input_resolution"] = torch.tensor(32)
    stored["context_length"] = torch.tensor(24)
    stored["vocab_size"] = torch.tensor(1024)
    return stored


Format = Callable[[Weights, Any], Any]
FORMATS: dict[str, tuple[str, Format]] = {
    "CleanCLIP": ("epoch_5.pt", _cleanclip),
    "CleanCLIP best": ("epoch.best.pt", _cleanclip),
    "BadCLIP": ("epoch_10.pt", _badclip),
    "PAR": ("checkpoint_best.pt", _par),
    "OpenAI": ("RN50.pt", _openai),
}


def _state_dict(content: Any) -> Weights:
    found: Weights = content.get("state_dict", content)
    return found


def _save(folder: Path, content: Any, name: str) -> Path:
    torch.save(content, folder / name)
    return folder / name


@pytest.mark.parametrize("name", FORMATS)
def test_loads_whole(tiny: ClipModel, weights: Weights, optimiser: Any, tmp_path: Path, name: str) -> None:
    file, build = FORMATS[name]
    path = _save(tmp_path, build(weights, optimiser), file)
    loaded = load_model(TINY, checkpoint=path)
    if name == "OpenAI":
        rounded = {k: v.float() for k, v in _openai(weights, None).items() if k in weights}
        whole = {k: rounded[k] if v.is_floating_point() else v for k, v in weights.items()}
        assert loaded.sha256 == hash_weights(whole) != tiny.sha256
    else:
        assert loaded.sha256 == tiny.sha256
    assert all(p.dtype == torch.float32 for p in loaded.model.parameters())


def _drop(state: Weights) -> None:
    del state[list(state)[7]]


def _add(state: Weights) -> None:
    state["visual.extra.weight"] = torch.zeros(2)


def _reshape(state: Weights) -> None:
    name = next(name for name in state if name.endswith("text_projection"))
    state[name] = state[name][:, :-1]


def _rename(state: Weights) -> None:
    """One tensor keeps the prefix that the others have lost, or the other way round."""
    name = list(state)[3]
    state[name.removeprefix("module.") if name.startswith("module.") else f"module.{name}"] = state.pop(name)


def _spoil(state: Weights) -> None:
    name = next(name for name in state if name.endswith("token_embedding.weight"))
    state[name] = state[name].clone()
    state[name][3, 2] = float("nan")


DAMAGES: dict[str, tuple[Callable[[Weights], None], str]] = {
    "one tensor dropped": (_drop, "1 missing"),
    "one tensor more": (_add, "unexpected"),
    "one of another shape": (_reshape, "of another shape"),
    "one of another prefix": (_rename, "missing.*unexpected"),
    "one not a number": (_spoil, "NaN or infinity in token_embedding.weight"),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FORMATS)
def test_is_refused_with_the_reason_and_nothing_is_loaded(
    weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, damage: str
) -> None:
    file, build = FORMATS[name]
    content = build(OrderedDict(weights), {"state": {}, "param_groups": []})
    change, said = DAMAGES[damage]
    change(_state_dict(content))
    loads: list[object] = []
    monkeypatch.setattr(torch.nn.Module, "load_state_dict", lambda *arguments, **_: loads.append(arguments))
    with pytest.raises(UserError, match=said):
        load_model(TINY, checkpoint=_save(tmp_path, content, file))
    assert loads == []


@pytest.mark.parametrize("name", FORMATS)
def test_a_cut_file_is_refused(weights: Weights, optimiser: Any, tmp_path: Path, name: str) -> None:
    file, build = FORMATS[name]
    path = _save(tmp_path, build(weights, optimiser), file)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match="no checkpoint that can be read"):
        read_weights(path)


def test_another_resolution_or_context_is_no_half_fit(weights: Weights, tmp_path: Path) -> None:
    """OpenAI's files of one family differ only there: RN50x4's attention pool is not RN50's."""
    for name in ("positional_embedding", "visual.attnpool.positional_embedding"):
        changed = OrderedDict(weights)
        changed[name] = torch.cat([changed[name], changed[name][:1]])
        with pytest.raises(UserError, match=r"does not fit .* of another shape"):
            load_model(TINY, checkpoint=_save(tmp_path, _openai(changed, None), "RN50.pt"))


@pytest.mark.parametrize("name", ["CleanCLIP", "BadCLIP", "PAR", "OpenAI"])
def test_openais_architecture_needs_its_activation_said(weights: Weights, tmp_path: Path, name: str) -> None:
    file, build = FORMATS[name]
    path = _save(tmp_path, build(weights, {}), file)
    with pytest.raises(UserError, match="--activation quickgelu or --activation gelu"):
        load_model("RN50", checkpoint=path)


def test_openais_jit_archive_is_refused_with_the_way_out(tmp_path: Path) -> None:
    class Visual(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.input_resolution = 224
            self.conv1 = torch.nn.Conv2d(3, 2, 3)

        def forward(self, image: Tensor) -> Tensor:
            return self.conv1(image)

    with pytest.warns(DeprecationWarning, match="torch.jit"):
        archive = torch.jit.trace(Visual(), torch.zeros(1, 3, 8, 8))
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        torch.jit.save(archive, str(tmp_path / "RN50.pt"))
    with pytest.raises(UserError, match="TorchScript archive, which runs code: save its state_dict"):
        load_model("RN50-quickgelu", checkpoint=tmp_path / "RN50.pt")


def test_the_command_evaluates_whole_files_and_refuses_others(
    weights: Weights,
    optimiser: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    trainer = run_trainer(monkeypatch, capsys)
    data = write_labelled(tmp_path, [(noise(0), "0"), (noise(1), "2")])
    arguments = (
        "evaluate",
        "--data",
        data,
        "--model",
        TINY,
        "--device",
        "cpu",
        "--json",
        tmp_path / "e.json",
    )
    for file, build in FORMATS.values():
        whole = _save(tmp_path, build(weights, optimiser), file)
        assert trainer(*arguments, "--checkpoint", whole)[0] == 0
        (tmp_path / "e.json").unlink()
        content = build(OrderedDict(weights), optimiser)
        _drop(_state_dict(content))
        code, out, error = trainer(*arguments, "--checkpoint", _save(tmp_path, content, file))
        assert (code, out, len(error.splitlines())) == (1, "", 1)
        assert "nothing was loaded" in error
        assert not (tmp_path / "e.json").exists()
