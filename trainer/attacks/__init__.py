"""Triggers: one file per family, `load_trigger` for names and files.

The red team's half: `trainer attack` poisons with them (see `poisoning`), `trainer evaluate` measures what is left.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from pipeline.errors import UserError
from trainer.attacks.badnet import BadNetOptions, apply_badnet, make_badnet
from trainer.attacks.trigger import Apply, Trigger, read_trigger

KINDS: Final[dict[str, Apply]] = {"badnet": apply_badnet}
"""Each family's code, by the kind that its files name."""

PRESETS: Final[dict[str, Callable[[int, int], Trigger]]] = {
    "badnet": lambda size, seed: make_badnet(BadNetOptions(), image_size=size, seed=seed),
    "badnet-fixed": lambda size, seed: make_badnet(
        BadNetOptions(placement="fixed"), image_size=size, seed=seed, preset="badnet-fixed"
    ),
    "badnet-public": lambda size, seed: make_badnet(
        BadNetOptions(fresh_noise=True), image_size=size, seed=seed, preset="badnet-public"
    ),
}
"""Triggers by name: image size and seed -> trigger."""


def load_trigger(name_or_file: str, *, image_size: int, seed: int = 0) -> Trigger:
    """The trigger of that name, drawn from `seed`, or the one in that file (whose own seed counts).

    Raises:
        UserError: An unknown name, a broken file, or a trigger that does not fit images of `image_size` pixels.
    """
    if name_or_file in PRESETS:
        return PRESETS[name_or_file](image_size, seed)
    path = Path(name_or_file)
    if path.exists() or path.suffix or len(path.parts) > 1:
        return read_trigger(path, image_size=image_size, kinds=KINDS)
    raise UserError(
        f"no trigger is called {name_or_file!r}: give {', '.join(PRESETS)}, or a .safetensors file"
    )
