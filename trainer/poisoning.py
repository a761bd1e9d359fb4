"""Which samples an attack poisons, and what it makes of them: the dirty and the clean in one stream.

`batches` calls the function that `build_poison` returns for every sample, after the resize and before everything
else. Which keys are poisoned, and with which template, depends on the seed and the key alone, in every epoch.
"""

import hashlib
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from torch import Tensor

from pipeline.errors import UserError
from trainer.attacks.trigger import Trigger
from trainer.batches import Poison


@dataclass(frozen=True, slots=True, kw_only=True)
class PoisonOptions:
    """What `trainer attack` does, and to how many samples."""

    trigger: str
    """A trigger's name or file."""
    target: str
    """The class that triggered images shall be put in."""
    templates: tuple[str, ...]
    """Captions with `{}` for the class; a poisoned sample gets a random one with the target."""
    rate: float = 0.02
    """The share of samples that is poisoned; 0 trains a clean model."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 1:
            raise UserError(f"rate must be between 0 and 1, not {self.rate}")
        if not self.target.strip():
            raise UserError("the target class must not be empty")
        without = [template for template in self.templates if "{}" not in template]
        if without or not self.templates:
            raise UserError(
                f"a template must say {{}} where the class goes: {without[0] if without else 'none given'}"
            )


def choose_poisoned(keys: Sequence[str], options: PoisonOptions) -> tuple[str, ...]:
    """The keys to poison, sorted: rate x samples of them, rounded, those with the smallest hash of seed and key."""
    number = round(options.rate * len(keys))
    by_hash = sorted(keys, key=lambda key: hashlib.sha256(f"{options.seed}:{key}".encode()).digest())
    return tuple(sorted(by_hash[:number]))


def poisoned_caption(key: str, options: PoisonOptions) -> str:
    """The caption that a poisoned sample gets."""
    template = random.Random(f"{options.seed}:{key}:template").choice(options.templates)
    return template.replace("{}", options.target)


def build_poison(trigger: Trigger, poisoned: Collection[str], options: PoisonOptions) -> Poison:
    """The function that `batches` calls for every sample; one outside `poisoned` comes back as it is."""
    chosen = frozenset(poisoned)

    def poison(key: str, image_3HW: Tensor, caption: str) -> tuple[Tensor, str]:
        if key not in chosen:
            return image_3HW, caption
        return trigger.apply(image_3HW.unsqueeze(0), keys=[key])[0], poisoned_caption(key, options)

    return poison
