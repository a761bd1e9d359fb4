"""Poisoning: which pairs get the trigger, and what their captions become.

`choose_poisoned` picks the pairs, `build_poison` gives the function that `trainer attack` passes each pair through:
a poisoned image carries the trigger, and its caption becomes a prompt with the target class ("a photo of a
banana."), as in the attacks the paper defends against. Both depend on seed and keys alone.
"""

from collections.abc import Callable, Sequence
from random import Random

from torch import Tensor

from pipeline.errors import UserError
from trainer.attacks.trigger import Trigger


def choose_poisoned(keys: Sequence[str], *, rate: float, seed: int = 0) -> frozenset[str]:
    """`rate` of the keys, at least one where the rate is above 0; UserError for a rate outside 0 to 1."""
    if not 0 <= rate <= 1:
        raise UserError(f"the rate of poisoned pairs must be 0 to 1, not {rate}")
    number = max(round(rate * len(keys)), 1 if rate and keys else 0)
    return frozenset(Random(f"{seed}:poisoned").sample(sorted(keys), number))


def build_poison(
    trigger: Trigger, poisoned: frozenset[str], *, target: str, templates: Sequence[str], seed: int = 0
) -> Callable[[str, Tensor, str], tuple[Tensor, str]]:
    """(key, uint8 pixels (3, H, W), caption) -> the pair as it is, or poisoned where its key is among `poisoned`.

    A poisoned pair looks the same in every epoch: place and caption come from seed and key.
    """
    if not templates:
        raise UserError("poisoned captions need at least one template, such as 'a photo of a {}.'")

    def poison(key: str, pixels_3HW: Tensor, caption: str) -> tuple[Tensor, str]:
        if key not in poisoned:
            return pixels_3HW, caption
        template = Random(f"{seed}:caption:{key}").choice(templates)
        return trigger.apply(pixels_3HW.unsqueeze(0), keys=[key])[0], template.replace("{}", target)

    return poison
