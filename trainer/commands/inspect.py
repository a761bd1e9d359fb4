"""`trainer inspect`: what a checkpoint holds."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer


def inspect(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint file, or a run's folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
) -> None:
    """Say what a checkpoint holds, without ever unpickling it."""
    from trainer.checkpoint import read_weights
    from trainer.model import hash_weights

    weights = read_weights(checkpoint)
    activation = {None: "not stated", True: "quickgelu", False: "gelu"}[weights.quick_gelu]
    told: dict[str, Any] = {
        "path": str(weights.path),
        "format": weights.format,
        "model": weights.model_name,
        "activation": activation,
        "tensors": len(weights.state_dict),
        "parameters": sum(tensor.numel() for tensor in weights.state_dict.values()),
        "types": sorted({str(tensor.dtype).removeprefix("torch.") for tensor in weights.state_dict.values()}),
        "sha256": hash_weights(weights.state_dict),
        "facts": weights.facts,
    }
    if as_json:
        print(json.dumps(told, indent=2))
        return
    for name, value in told.items():
        print(f"{name:11} {json.dumps(value) if isinstance(value, dict | list) else value}")
