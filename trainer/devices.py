"""Which device and which precision are meant, and whether they are there."""

from typing import Literal

import torch

from pipeline.errors import UserError

Precision = Literal["auto", "fp32", "bf16", "amp"]


def find_device(name: str) -> torch.device:
    """The device of that name; auto: the first GPU where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"no device is called {name!r}: auto, cpu, cuda, or cuda:N") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "no CUDA device is found: --device cpu, or a torch build with CUDA on a machine with a GPU"
        )
    return device


def find_precision(precision: Precision, device: torch.device) -> Precision:
    """The precision meant by `auto`; UserError for one the device lacks."""
    if precision == "auto":
        return "fp32" if device.type == "cpu" else "bf16"
    if precision == "amp" and device.type == "cpu":
        raise UserError("precision amp (fp16) needs a GPU; on the CPU choose fp32 or bf16")
    return precision
