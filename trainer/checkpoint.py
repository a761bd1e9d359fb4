"""Checkpoints, read without ever unpickling and written so that nobody needs to.

Reads safetensors (ours, open_clip's, Hugging Face's) and torch files: open_clip's, CleanCLIP's and BadCLIP's
`{epoch, name, state_dict, optimizer}`, PAR's with its argparse Namespace. Writes `epoch_N.safetensors` with the
weights and, for an exact continuation, `last.state.pt` with tensors and plain types. `model` fits weights to
architectures.
"""

import argparse
import hashlib
import io
import json
import pickle  # noqa: TID251  # for the exception's name alone
import pickletools
import struct
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pipeline.errors import UserError, first_line
from pipeline.storage import read_json, write_by_path
from trainer import hugging_face

Storage = Literal["fp32", "fp16"]

ALLOWED_CLASSES: tuple[type, ...] = (argparse.Namespace,)
"""What a torch file may hold beside tensors and plain types: PAR keeps its arguments in a Namespace."""

TYPES = (
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.int8,
    torch.uint8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.bool,
)
"""Of weights."""
_TYPE_NAMES = [str(kind).removeprefix("torch.") for kind in TYPES]

MAX_PICKLE_BYTES = 1_000_000
"""Read of a refused pickle, to say what it would have imported."""
MAX_UNPACKED_BYTES = 64 * 2**20
"""That an archive may be larger inside than as a file: torch packs code, never tensors."""

FINAL_FOLDER = "model"
FINAL_WEIGHTS = "open_clip_model.safetensors"
FINAL_CONFIG = "open_clip_config.json"
OPEN_CLIP_BIN = "open_clip_pytorch_model.bin"
"""What open_clip writes beside its configuration where it does not write safetensors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """What a checkpoint holds, before it meets a model."""

    path: Path
    state_dict: dict[str, Tensor]
    """By open_clip's names; a leading `module.` is gone, Hugging Face's names are translated."""
    model_name: str | None
    """Where the file or the configuration beside it names the model."""
    quick_gelu: bool | None
    """The activation, where file or configuration state it."""
    preprocess: dict[str, Any]
    """open_clip's preprocess_cfg (mean, std, ...), where the configuration beside the file states it."""
    format: str
    """safetensors or torch."""
    style: str = "open_clip"
    """Whose names the tensors had: open_clip, or the class of transformers."""
    facts: dict[str, Any]
    """Everything else that is plain: metadata, epoch, name, arguments."""


def read_weights(path: Path) -> Weights:
    """The weights in a checkpoint file, or in the run or model folder `path`; UserError where it is none."""
    path = find_checkpoint(path)
    with path.open("rb") as file:
        start = file.read(16)
    if start[8:9] == b"{":
        return _translated(_read_safetensors(path))
    if path.suffix == ".safetensors":
        raise UserError(f"{path} is no safetensors file, whatever its name says")
    if not start.startswith((b"PK", b"\x80")):
        raise UserError(f"{path} is neither a safetensors nor a torch file")
    return _translated(_read_torch(path))


def _translated(weights: Weights) -> Weights:
    """The weights under open_clip's names, where they have Hugging Face's; its config.json must lie beside them."""
    if not hugging_face.has_these_names(weights.state_dict):
        return weights
    folder = weights.path.parent
    config = hugging_face.read_config(folder)
    if config is None:
        raise UserError(
            f"{weights.path} has Hugging Face's names, and no config.json of a CLIPModel or SiglipModel lies beside it"
        )
    told = hugging_face.to_open_clip_config(config, folder)
    return replace(
        weights,
        state_dict=hugging_face.to_open_clip(weights.state_dict, config["model_type"]),
        quick_gelu=bool(told["model_cfg"].get("quick_gelu", False)),
        preprocess=told["preprocess_cfg"],
        style=hugging_face.MODEL_TYPES[config["model_type"]],
    )


def find_checkpoint(path: Path) -> Path:
    """The file itself; for a run's or model's folder its final weights, else its newest epoch."""
    if path.is_file():
        return path
    if not path.is_dir():
        raise UserError(f"there is no checkpoint at {path}")
    for final in (f"{FINAL_FOLDER}/{FINAL_WEIGHTS}", FINAL_WEIGHTS, OPEN_CLIP_BIN, *hugging_face.WEIGHTS):
        if (path / final).is_file():
            return path / final
    if (path / "model.safetensors.index.json").is_file():
        raise UserError(
            f"the weights in {path} are split over several files: save them as one model.safetensors"
        )
    epochs = sorted(
        [*path.glob("epoch_*.safetensors"), *path.glob("checkpoints/epoch_*.safetensors")], key=epoch_of
    )
    if not epochs:
        raise UserError(f"the folder {path} holds no checkpoint: give the file, or a run's folder")
    return epochs[-1]


def epoch_of(path: Path) -> int:
    """The N of `epoch_N.safetensors`; -1 where there is none."""
    number = path.name.removeprefix("epoch_").split(".")[0]
    return int(number) if number.isdigit() else -1


def _read_safetensors(path: Path) -> Weights:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            state_dict = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path} is no whole safetensors file: {first_line(error)}") from None
    _refuse_odd_tensors(path, state_dict)
    beside, preprocess = _config_beside(path)
    quick_gelu = beside
    if "quick_gelu" in metadata:
        quick_gelu = metadata["quick_gelu"] == "true"
        if beside is not None and beside != quick_gelu:
            raise UserError(f"{path} and the {FINAL_CONFIG} beside it contradict each other on QuickGELU")
    return Weights(
        path=path,
        state_dict=_without_module(state_dict),
        model_name=metadata.get("model"),
        quick_gelu=quick_gelu,
        preprocess=preprocess,
        format="safetensors",
        facts=metadata,
    )


def _read_torch(path: Path) -> Weights:
    content = load_plain(path)
    state_dict = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state_dict, Mapping) or not state_dict:
        raise UserError(f"{path} holds no state_dict")
    odd = [
        str(key)
        for key, value in state_dict.items()
        if not (isinstance(key, str) and isinstance(value, Tensor))
    ]
    if odd:
        raise UserError(f"{path}: its state_dict holds more than tensors ({', '.join(odd[:3])})")
    _refuse_odd_tensors(path, state_dict)
    facts: dict[str, Any] = {}
    if state_dict is not content:
        facts = {
            str(key): value for key, value in content.items() if isinstance(value, str | int | float | bool)
        }
        if isinstance(content.get("args"), argparse.Namespace):
            facts["args"] = {key: str(value) for key, value in vars(content["args"]).items()}
    quick_gelu, preprocess = _config_beside(path)
    return Weights(
        path=path,
        state_dict=_without_module(dict(state_dict)),
        model_name=None,
        quick_gelu=quick_gelu,
        preprocess=preprocess,
        format="torch",
        facts=facts,
    )


def load_plain(path: Path) -> Any:
    """A torch file's content: tensors, plain types and ALLOWED_CLASSES; UserError for whatever else it holds."""
    _refuse_bombs(path)
    try:
        with torch.serialization.safe_globals(list(ALLOWED_CLASSES)), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own on old formats
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = str(error).partition("GLOBAL ")[2].split(" ")[0] or ", ".join(_globals_of(path)[:3])
        what = f" (it asks for {named})" if named else ""
        raise UserError(
            f"{path} is refused{what}: it holds more than tensors and plain types, and nothing is ever unpickled; "
            f"where you trust it, save its state_dict as safetensors elsewhere"
        ) from None
    except Exception as error:  # zip, EOF, struct and runtime errors: whatever damaged bytes lead to
        if "TorchScript" in str(error):
            raise UserError(
                f"{path} is a TorchScript archive, which runs code: save its state_dict instead"
            ) from None
        raise UserError(f"{path} is no checkpoint that can be read: {first_line(error)}") from None


def _globals_of(path: Path) -> list[str]:
    """What the beginning of a pickle would import, read as data: torch names it for its own archives alone."""
    with path.open("rb") as file:
        stream = io.BytesIO(file.read(MAX_PICKLE_BYTES))
    found: list[str] = []
    texts: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name == "GLOBAL":
                found.append(str(argument).replace(" ", "."))
            elif opcode.name == "STACK_GLOBAL":
                found.append(".".join(texts[-2:]))
            elif isinstance(argument, str):
                texts.append(argument)
    except Exception:  # damaged in whatever way: what was read until there is told
        return found
    return found


def _refuse_bombs(path: Path) -> None:
    """UserError for an archive that would be larger in memory than it is as a file: torch writes none."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError, struct.error) as error:
        raise UserError(f"{path} is no checkpoint that can be read: {first_line(error)}") from None
    size, on_disk = sum(entry.file_size for entry in entries), path.stat().st_size
    if size > on_disk + MAX_UNPACKED_BYTES:
        raise UserError(
            f"{path} is a packed archive of {size:,} bytes in {on_disk:,}, which torch does not write: "
            "save its state_dict as safetensors elsewhere, where you trust it"
        )


def _refuse_odd_tensors(path: Path, state_dict: Mapping[str, Tensor]) -> None:
    """UserError for a tensor that is no plain array of numbers of its own size."""
    for name, tensor in state_dict.items():
        if (what := _oddity(tensor)) is not None:
            raise UserError(
                f"{path}: {name} is {what}; weights must be plain tensors of {', '.join(sorted(_TYPE_NAMES))}"
            )


def _oddity(tensor: Tensor) -> str | None:
    if tensor.layout != torch.strided:
        return f"a sparse tensor ({str(tensor.layout).removeprefix('torch.')})"
    if tensor.device.type == "meta":
        return "a tensor without content (of the device meta)"
    if tensor.dtype not in TYPES:
        return f"of the type {str(tensor.dtype).removeprefix('torch.')}"
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return f"an expanded tensor, {tuple(tensor.shape)} out of {tensor.untyped_storage().nbytes()} bytes"
    return None


def save_weights(
    path: Path, state_dict: Mapping[str, Tensor], *, metadata: Mapping[str, str], storage: Storage = "fp32"
) -> None:
    """Writes the weights as safetensors, whole or not at all; fp16 halves the file and rounds the weights."""
    write_safetensors(
        path, {name: _stored(tensor, storage) for name, tensor in state_dict.items()}, metadata=metadata
    )


def write_safetensors(path: Path, tensors: Mapping[str, Tensor], *, metadata: Mapping[str, str]) -> None:
    """Writes contiguous tensors as safetensors, whole or not at all; the same content gives the same bytes."""
    with write_by_path(path) as part:
        try:
            save_file(dict(tensors), part, metadata=dict(metadata))
        except SafetensorError as error:
            raise UserError(f"{path} cannot be written: {first_line(error)}") from None
        if len(metadata) > 1:
            _sort_metadata(part)


def _sort_metadata(path: Path) -> None:
    """Rewrites the file's header with its metadata in order; safetensors writes them in a random one."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        assert len(text) <= length  # the same content in another order
        file.seek(8)
        file.write(text.ljust(length))


def _stored(tensor: Tensor, storage: Storage) -> Tensor:
    tensor = tensor.detach().cpu().contiguous().clone()
    if storage == "fp32" or tensor.dtype != torch.float32:
        return tensor
    half = tensor.half()
    if tensor.isfinite().all() and not half.isfinite().all():
        return tensor  # beyond fp16's range: a running variance, say
    return half


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Writes what a continuation needs beyond the weights, whole or not at all; `load_plain` reads it."""
    with write_by_path(path) as part:
        try:
            torch.save(dict(state), part)
        except RuntimeError as error:  # how torch tells of a full disk
            raise UserError(f"{path} cannot be written: {first_line(error)}") from None


def _without_module(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    if all(key.startswith("module.") for key in state_dict):
        return {key.removeprefix("module."): tensor for key, tensor in state_dict.items()}
    return state_dict


def _config_beside(path: Path) -> tuple[bool | None, dict[str, Any]]:
    """QuickGELU and the preprocessing as the open_clip_config.json in the same folder states them; None, {} without."""
    config = path.parent / FINAL_CONFIG
    if not config.is_file():
        return None, {}
    try:
        content = read_json(config)
        return bool(content["model_cfg"].get("quick_gelu", False)), dict(content.get("preprocess_cfg", {}))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{config} is no open_clip configuration: {first_line(error)}") from None


def hash_weights(state_dict: Mapping[str, Tensor]) -> str:
    """sha256 over names, types, shapes and bytes of the tensors, by name; floats count as float32, however stored."""
    return _hash((name, state_dict[name]) for name in sorted(state_dict))


def hash_file(path: Path) -> str:
    """`hash_weights` of a safetensors file, with one tensor in memory at a time."""
    with safe_open(path, framework="pt") as file:
        names = sorted(file.keys())
    return _hash((name, _read_one(path, name)) for name in names)


def _read_one(path: Path, name: str) -> Tensor:
    with safe_open(path, framework="pt") as file:  # one opening for all would keep the whole file mapped
        tensor: Tensor = file.get_tensor(name)
        return tensor


def _hash(tensors: Iterable[tuple[str, Tensor]]) -> str:
    digest = hashlib.sha256()
    for name, given in tensors:
        tensor = given.detach().cpu().contiguous()
        tensor = tensor.float() if tensor.is_floating_point() else tensor
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")
    return digest.hexdigest()
