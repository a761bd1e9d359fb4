"""The defences by name. To add one: its file here, and its line in this table."""

from dataclasses import dataclass, fields
from typing import Any, Final, Literal

from pipeline.errors import UserError
from trainer.defences.anchored import Anchored, AnchoredOptions
from trainer.defences.cleanclip import CleanClip, CleanClipOptions
from trainer.defences.cleanerclip import CleanerClip, CleanerClipOptions
from trainer.defences.defence import Defence, Setting
from trainer.defences.ft import Ft, FtOptions
from trainer.defences.par import Par, ParOptions

Method = Literal["anchored", "ft", "cleanclip", "cleanerclip", "par"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A defence: its options, the class that is built of them, and the learning rates it is used with."""

    options: type[Any]
    build: type[Defence]
    small_lr: float = 1e-3
    """For small models trained from scratch (ours, of a few million weights): measured, see docs/findings.md."""
    large_lr: float = 1e-5
    """For OpenAI's models and their like: what the field uses, not measured here."""


DEFENCES: Final[dict[str, Entry]] = {
    "anchored": Entry(options=AnchoredOptions, build=Anchored, small_lr=1.5e-3),
    "ft": Entry(options=FtOptions, build=Ft),
    "cleanclip": Entry(options=CleanClipOptions, build=CleanClip),
    "cleanerclip": Entry(options=CleanerClipOptions, build=CleanerClip),
    "par": Entry(options=ParOptions, build=Par),
}
DEFAULT: Final[Method] = "anchored"
SMALL_MODEL_PARAMETERS: Final = 20_000_000
"""A model of fewer weights takes the small learning rate: RN50 has 102 million, ours 5."""


def name_of(options: object) -> str:
    """The method whose options these are."""
    return next(name for name, entry in DEFENCES.items() if entry.options is type(options))


def build_defence(options: object, setting: Setting) -> Defence:
    """The defence of these options. UserError where they leave it nothing to learn."""
    defence: Defence = DEFENCES[name_of(options)].build(options, setting)  # type: ignore[call-arg]
    return defence


def choose_options(method: str, given: dict[str, Any]) -> Any:
    """The method's options with what is `given`; UserError for an unknown method and an option it does not take."""
    if method not in DEFENCES:
        raise UserError(f"method must be one of {', '.join(DEFENCES)}, not {method!r}")
    options = DEFENCES[method].options
    taken = [field.name for field in fields(options)]
    for name in given:
        if name not in taken:
            has = ", ".join(_switch(field) for field in taken) or "no option of its own"
            raise UserError(f"{method} takes no {_switch(name)}; it takes {has}")
    return options(**given)


def learning_rate_for(method: str, num_parameters: int) -> float:
    """The method's learning rate for a model of that many weights."""
    entry = DEFENCES[method]
    return entry.small_lr if num_parameters < SMALL_MODEL_PARAMETERS else entry.large_lr


def _switch(name: str) -> str:
    return "--" + name.replace("_", "-")
