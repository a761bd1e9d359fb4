"""`trainer inspect`: what a checkpoint holds. It imports torch, and open_clip only for towers it alone knows."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

MAX_NAMED = 5
"""Tensors of a kind that are named; all are counted."""


def inspect(
    checkpoint: Annotated[
        Path, typer.Argument(help="A checkpoint file, or a run's, open_clip's or Hugging Face's folder.")
    ],
    model: Annotated[
        str | None, typer.Option(help="Compare with this model; default: the one it names, else the nearest.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
) -> None:
    """Say what a checkpoint holds, and what it lacks or has too much, without ever unpickling it."""
    told = describe(checkpoint, model=model)
    if as_json:
        print(json.dumps(told, indent=2))
        return
    for name, value in told.items():
        shown = json.dumps(value) if isinstance(value, dict | list) else value
        print(f"{name:12} {'not stated' if value is None else shown}")


def describe(checkpoint: Path, *, model: str | None) -> dict[str, Any]:
    """Format, names, architecture, activation, what is missing or too much, and the weights' hash."""
    from trainer.checkpoint import hash_weights, read_weights

    weights = read_weights(checkpoint)
    tensors = weights.state_dict
    activation = {None: "not stated", True: "quickgelu", False: "gelu"}[weights.quick_gelu]
    return {
        "path": str(weights.path),
        "format": weights.format,
        "names": weights.style,
        "model": weights.model_name,
        **_architecture(weights, model),
        "activation": activation,
        "tensors": len(tensors),
        "parameters": sum(tensor.numel() for tensor in tensors.values()),
        "types": sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()}),
        "sha256": hash_weights(tensors),
        "facts": weights.facts,
    }


def _architecture(weights: Any, model: str | None) -> dict[str, Any]:
    """What it is, and what of that is missing, unexpected, or of another shape; the first of each."""
    from trainer.architecture import JIT_ONLY, compare, find_fit

    told = model or weights.model_name
    fit = find_fit(weights.state_dict, name=told)
    beside = {weights.path.parent / name for name in ("open_clip_config.json", "config.json")}
    if fit is None and (told is not None or any(path.is_file() for path in beside)):
        from trainer.model import shapes_of

        name, expected = shapes_of(told, weights)
        shapes = {
            key: tuple(tensor.shape) for key, tensor in weights.state_dict.items() if key not in JIT_ONLY
        }
        fit = compare(shapes, expected, names=(name,))
    if fit is None:
        fit = find_fit(weights.state_dict)
    if fit is None:
        return {"architecture": "none that is known: give --model"}
    found: dict[str, Any] = {"architecture": " or ".join(fit.names), "fits": "yes" if fit.exact else "no"}
    for what in ("missing", "unexpected", "other_shapes"):
        names = list(getattr(fit, what))
        if names:
            found[what] = [*names[:MAX_NAMED], *([f"... {len(names):,} in all"] if names[MAX_NAMED:] else [])]
    return found
