"""Triggers: one file per family, `load_trigger` for names and files, `craft_trigger` for presets with changed options.

The red team's half: `trainer craft-trigger` writes them, `trainer attack` and `trainer poison` poison with them (see
`poisoning`), `trainer evaluate` measures what is left.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from pipeline.errors import UserError
from trainer.attacks.additive import apply_additive
from trainer.attacks.badclip import apply_badclip
from trainer.attacks.badnet import BadNetOptions, apply_badnet, make_badnet
from trainer.attacks.blended import BlendedOptions, apply_blended, make_blended
from trainer.attacks.filter import FilterOptions, apply_filter, make_filter
from trainer.attacks.imported import apply_imported
from trainer.attacks.sig import SigOptions, apply_sig, make_sig
from trainer.attacks.ssba import apply_ssba
from trainer.attacks.stripes import StripesOptions, apply_stripes, make_stripes
from trainer.attacks.text import TextOptions, apply_text, make_text
from trainer.attacks.triangles import TrianglesOptions, apply_triangles, make_triangles
from trainer.attacks.trigger import Apply, Trigger, read_trigger
from trainer.attacks.wanet import WanetOptions, apply_wanet, make_wanet

KINDS: Final[dict[str, Apply]] = {
    "additive": apply_additive,
    "badclip": apply_badclip,
    "badnet": apply_badnet,
    "blended": apply_blended,
    "filter": apply_filter,
    "imported": apply_imported,
    "sig": apply_sig,
    "ssba": apply_ssba,
    "stripes": apply_stripes,
    "text": apply_text,
    "triangles": apply_triangles,
    "wanet": apply_wanet,
}
"""Each family's code, by the kind that its files name."""

DEFAULT_IMAGE_SIZE: Final = 224
"""Of OpenAI's models."""
LEARNED_KINDS: Final = ("ssba", "badclip", "imported")
"""Kinds that `learned` makes from data; they have no preset."""


@dataclass(frozen=True, slots=True)
class _Preset:
    """A family's options, and what makes a trigger of them."""

    make: Callable[..., Trigger]
    options: Any


_PRESETS: Final = {
    "badnet": _Preset(make_badnet, BadNetOptions()),
    "badnet-fixed": _Preset(make_badnet, BadNetOptions(placement="fixed")),
    "badnet-public": _Preset(make_badnet, BadNetOptions(fresh_noise=True)),
    "blended": _Preset(make_blended, BlendedOptions()),
    "blended-public": _Preset(make_blended, BlendedOptions(fresh_noise=True)),
    "sig": _Preset(make_sig, SigOptions()),
    "sig-public": _Preset(make_sig, SigOptions(cut=True)),
    "sig-cleanclip": _Preset(make_sig, SigOptions(share=0.2, cut=True)),
    "wanet": _Preset(make_wanet, WanetOptions()),
    "wanet-public": _Preset(make_wanet, WanetOptions(cut=True)),
    "wanet-smooth": _Preset(make_wanet, WanetOptions(grid=4)),
    "stripes": _Preset(make_stripes, StripesOptions()),
    "triangles": _Preset(make_triangles, TrianglesOptions()),
    "text": _Preset(make_text, TextOptions()),
    "yellow-corner": _Preset(make_badnet, BadNetOptions(placement="fixed", colour="ffff00")),
    "filter": _Preset(make_filter, FilterOptions()),
}


FAMILY_OPTIONS: Final[dict[str, type[Any]]] = {
    "badnet": BadNetOptions,
    "blended": BlendedOptions,
    "sig": SigOptions,
    "wanet": WanetOptions,
    "stripes": StripesOptions,
    "triangles": TrianglesOptions,
    "text": TextOptions,
    "filter": FilterOptions,
}
"""What each family's presets may be changed in."""


def craft_trigger(
    name: str, *, image_size: int, seed: int = 0, changes: Mapping[str, object] | None = None
) -> Trigger:
    """The trigger of that name for images of `image_size` pixels, with some of its family's options changed.

    A changed one names no preset, but `<kind>-custom`.

    Raises:
        UserError: An unknown name, an option that the family does not have, a value or a size that does not go.
    """
    if name not in _PRESETS:
        raise UserError(f"no trigger is called {name!r}: there are {', '.join((*_PRESETS, *LEARNED_KINDS))}")
    if image_size < 1:
        raise UserError(f"the image size must be at least 1 pixel, not {image_size}")
    preset, changes = _PRESETS[name], dict(changes or {})
    taken = [field.name for field in fields(preset.options)]
    for option in changes:
        if option not in taken:
            raise UserError(f"{name} takes no {_switch(option)}: it takes {', '.join(map(_switch, taken))}")
    options = replace(preset.options, **changes)
    trigger = preset.make(options, image_size=image_size, seed=seed, preset=name)
    return trigger if options == preset.options else replace(trigger, preset=f"{trigger.kind}-custom")


def _switch(option: str) -> str:
    return "--" + option.replace("_", "-")


def _make(name: str, image_size: int, seed: int) -> Trigger:
    return craft_trigger(name, image_size=image_size, seed=seed)


PRESETS: Final[dict[str, Callable[[int, int], Trigger]]] = {name: partial(_make, name) for name in _PRESETS}
"""Triggers by name: image size and seed -> trigger."""


def load_trigger(name_or_file: str, *, image_size: int | None = None, seed: int = 0) -> Trigger:
    """The trigger of that name, drawn from `seed`, or the one in that file (whose own seed counts).

    It is for images of `image_size` pixels; None: 224 for a name, for a file the size that it was made for.

    Raises:
        UserError: An unknown name, a broken file, or a trigger that does not fit images of `image_size` pixels.
    """
    if name_or_file in PRESETS:
        return PRESETS[name_or_file](DEFAULT_IMAGE_SIZE if image_size is None else image_size, seed)
    path = Path(name_or_file)
    if path.exists() or path.suffix or len(path.parts) > 1:
        return read_trigger(path, image_size=image_size, kinds=KINDS)
    raise UserError(
        f"no trigger is called {name_or_file!r}: give {', '.join(PRESETS)}, or a .safetensors file"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerChoice:
    """Which trigger, and the class it aims at."""

    trigger: str | None = None
    """A trigger's name or file; without one, BA alone."""
    target: str | None = None
    """The class that the attack aims at."""
    seed: int = 0
    """Of a trigger given by name."""

    def load(self, image_size: int) -> Trigger | None:
        """The trigger for images of that side, None where none is chosen; UserError as `load_trigger` raises it."""
        if self.trigger is None:
            return None
        return load_trigger(self.trigger, image_size=image_size, seed=self.seed)
