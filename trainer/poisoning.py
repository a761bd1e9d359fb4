"""Which samples an attack poisons, and what it makes of them: the dirty and the clean in one stream.

`plan_for` chooses the keys and their captions; `batches` calls the function that `build_poison` returns for every
sample, after the resize and before everything else, and `poisoned_shards` writes the same samples to disk. Which keys
are poisoned, and with which caption, depends on the seed and the key alone, in every epoch.
"""

import hashlib
import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from torch import Tensor

from pipeline.errors import UserError
from pipeline.storage import write_json
from trainer.attacks.imported import known_keys
from trainer.attacks.trigger import Trigger
from trainer.batches import Poison
from trainer.classes import names_class
from trainer.data import ShardIndex, read_captions

Captions = Literal["templates", "natural"]

POISONED_FILE: Final = "poisoned.json"
"""The poisoned keys and their captions, in a run's folder or beside poisoned shards."""
TRIGGER_FILE: Final = "trigger.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class PoisonChoice:
    """How many samples an attack poisons, and what their captions are."""

    rate: float = 0.02
    """The share of samples that is poisoned; 0 trains a clean model."""
    captions: Captions = "templates"
    """Of poisoned samples: templates, or natural, other samples' captions that name the target (BadCLIP)."""
    label_consistent: bool = False
    """Poison only samples whose own caption names the target; they keep it."""

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 1:
            raise UserError(f"rate must be between 0 and 1, not {self.rate}")
        if self.captions not in get_args(Captions):
            raise UserError(f"captions must be one of {', '.join(get_args(Captions))}, not {self.captions!r}")
        if self.label_consistent and self.captions == "natural":
            raise UserError(
                "label-consistent samples keep their own caption: leave out --captions natural, or --label-consistent"
            )

    @property
    def needs_templates(self) -> bool:
        """Whether poisoned captions are made from templates."""
        return self.captions == "templates" and not self.label_consistent

    @property
    def needs_captions(self) -> bool:
        """Whether the samples' own captions have to be read first."""
        return not self.needs_templates


@dataclass(frozen=True, slots=True, kw_only=True)
class PoisonOptions(PoisonChoice):
    """What an attack does, and to how many samples."""

    trigger: str
    """A trigger's name or file."""
    target: str
    """The class that triggered images shall be put in."""
    templates: tuple[str, ...] = ()
    """Captions with `{}` for the class; a poisoned sample gets a random one with the target."""
    seed: int = 0

    def __post_init__(self) -> None:
        PoisonChoice.__post_init__(self)
        if not self.target.strip():
            raise UserError("the target class must not be empty")
        without = [template for template in self.templates if "{}" not in template]
        if without or (self.needs_templates and not self.templates):
            raise UserError(
                f"a template must say {{}} where the class goes: {without[0] if without else 'none given'}"
            )


def plan_for(index: ShardIndex, poison: PoisonOptions, trigger: Trigger) -> dict[str, str]:
    """The keys to poison with their captions; the shards' own captions are read where they are needed."""
    captions = read_captions(index) if poison.needs_captions else ()
    eligible = known_keys(trigger, index.keys) if trigger.kind == "imported" else None
    return plan_poison(index.keys, poison, captions=captions, eligible=eligible)


def plan_poison(
    keys: Sequence[str],
    options: PoisonOptions,
    *,
    captions: Iterable[tuple[str, str]] = (),
    eligible: Collection[str] | None = None,
) -> dict[str, str]:
    """The keys to poison, sorted, each with the caption it gets.

    `captions` are (key, caption) of every sample, read where `options.needs_captions`. `eligible`: the keys that may
    be chosen; None: all. The rate is of all keys either way.

    Raises:
        UserError: No caption names the target, or fewer keys are eligible, or name the target where samples shall be
            label-consistent, than are to be poisoned.
    """
    number = round(options.rate * len(keys))
    eligible = frozenset(keys if eligible is None else eligible)
    if len(eligible) < number:
        raise UserError(
            f"{number} samples are to be poisoned, and the trigger has images for only {len(eligible)} of these "
            f"{len(keys)}: lower --rate to {len(eligible) / len(keys):.2g} at most, or import more"
        )
    if options.needs_templates or not number:
        chosen = choose_keys(eligible, number, seed=options.seed)
        return {key: template_caption(key, options) for key in chosen}
    named = {key: caption for key, caption in captions if names_class(caption, options.target)}
    if not named:
        raise UserError(
            f"no caption names the target {options.target!r} as a whole word: use captions from templates, "
            "or shards that show it"
        )
    if options.label_consistent:
        consistent = eligible & named.keys()
        if len(consistent) < number:
            raise UserError(
                f"{number} samples are to be poisoned, and only {len(consistent)} captions name the target "
                f"{options.target!r}: lower --rate to {len(consistent) / len(keys):.2g} at most"
            )
        return {key: named[key] for key in choose_keys(consistent, number, seed=options.seed)}
    pool = sorted(set(named.values()))
    chosen = choose_keys(eligible, number, seed=options.seed)
    return {key: random.Random(f"{options.seed}:{key}:natural").choice(pool) for key in chosen}


def choose_keys(keys: Collection[str], number: int, *, seed: int) -> tuple[str, ...]:
    """`number` of the keys, sorted: those with the smallest hash of seed and key."""
    by_hash = sorted(keys, key=lambda key: hashlib.sha256(f"{seed}:{key}".encode()).digest())
    return tuple(sorted(by_hash[:number]))


def template_caption(key: str, options: PoisonOptions) -> str:
    """The caption that a sample poisoned with templates gets."""
    template = random.Random(f"{options.seed}:{key}:template").choice(options.templates)
    return template.replace("{}", options.target)


def build_poison(trigger: Trigger, captions: Mapping[str, str]) -> Poison:
    """The function that `batches` calls for every sample; one outside `captions` comes back as it is."""

    def poison(key: str, image_3HW: Tensor, caption: str) -> tuple[Tensor, str]:
        if key not in captions:
            return image_3HW, caption
        return trigger.apply(image_3HW.unsqueeze(0), keys=[key])[0], captions[key]

    return poison


def write_poisoned_list(out: Path, captions: Mapping[str, str], *, target: str) -> None:
    """Writes poisoned.json: the poisoned keys and their captions."""
    write_json(out / POISONED_FILE, {"target": target, "count": len(captions), "captions": dict(captions)})
