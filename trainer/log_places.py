"""Where else the lines of metrics.jsonl go: TensorBoard and Weights & Biases, each only where it was asked for."""

import json
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from pipeline.errors import UserError

Line = Mapping[str, object]


class LogPlaces:
    """Open logs beside metrics.jsonl."""

    def __init__(self, names: tuple[str, ...], folder: Path, record: Mapping[str, Any]) -> None:
        """UserError for a name that is none and for a package that is not installed."""
        self._open = [PLACES[name](folder, record) for name in names]

    def write(self, line: Line) -> None:
        """A line of metrics.jsonl: its numbers, at its step."""
        numbers = {name: value for name, value in line.items() if isinstance(value, int | float)}
        step = int(numbers.pop("step"))
        for write, _ in self._open:
            write(numbers, step)

    def close(self) -> None:
        """Everything is on the disk."""
        for _, close in self._open:
            close()


Place = tuple[Callable[[Mapping[str, float], int], object], Callable[[], object]]
"""What writes numbers at a step, and what closes it."""


def place_names(text: str | None) -> tuple[str, ...]:
    """The names of `tensorboard,wandb`; UserError for another one, and where a package is not installed."""
    names = tuple(dict.fromkeys(name.strip() for name in (text or "").split(",") if name.strip()))
    for name in names:
        if name not in PLACES:
            raise UserError(f"log_to must name one or more of {', '.join(PLACES)}, not {name!r}")
        _find(name)
    return names


def _find(name: str) -> Any:
    try:
        return import_module({"tensorboard": "torch.utils.tensorboard"}.get(name, name))
    except ImportError:
        raise UserError(f"{name} is not installed: pip install 'cleanerclip[{name}]'") from None


def _tensorboard(folder: Path, record: Mapping[str, Any]) -> Place:
    writer = _find("tensorboard").SummaryWriter(str(folder / "tensorboard"))
    writer.add_text("options", json.dumps(record, indent=2, default=str))

    def write(numbers: Mapping[str, float], step: int) -> None:
        for name, number in numbers.items():
            writer.add_scalar(name, number, step)

    return write, writer.close


def _wandb(folder: Path, record: Mapping[str, Any]) -> Place:
    config = json.loads(json.dumps(record, default=str))
    run = _find("wandb").init(
        project="cleanerclip", name=folder.name, dir=str(folder), config=config, resume="allow"
    )
    return lambda numbers, step: run.log(dict(numbers), step=step), run.finish


PLACES: Final[Mapping[str, Callable[[Path, Mapping[str, Any]], Place]]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
}
