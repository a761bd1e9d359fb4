"""What a defence is to the loop: what it needs, which images it adds, which weighted losses it adds up.

`train` asks these questions and never which defence answers. A defence that compares with the
model as it came makes itself a `Teacher` when it is built. Each is a file beside this one, with its own
frozen options; the table in `trainer.defences` names them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pipeline.errors import UserError
from trainer.batches import Batch, Needs
from trainer.embedding import Embeddings
from trainer.model import ClipModel
from trainer.ranks import ONE, Ranks


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a defence may know of the run it is built for: never a trigger or a target."""

    clip: ClipModel
    """The model to train: as it came while the defence is built, as it has become in each step."""
    seed: int
    ranks: Ranks = ONE
    """The processes that train together: each calls `pixels` with its share of a batch, and all call `terms` with the
    embeddings of the whole batch."""
    images_vary: bool = False
    """Whether a sample's pixels differ from epoch to epoch (random crops)."""


class Defence:
    """A defence with nothing to add: a subclass says what it needs and gives its terms."""

    needs: Needs
    """What it wants of a sample."""
    weights: Mapping[str, float]
    """What each term counts in the total."""

    def prepare(self, batches: Iterator[Batch]) -> None:
        """Called before the first step of a run, with the first epoch's whole batches: to look at some of them."""

    def pixels(self, batch: Batch, *, step: int) -> Tensor | None:
        """The images to embed in the stead of the batch's, floats in [0, 1] of shape (N, 3, H, W); None: the batch's.

        The first rows are the batch's images in their order, changed or not; further ones are the defence's own, and
        come back as `Embeddings.added_XD`.
        """
        return None

    def terms(self, found: Embeddings) -> dict[str, Tensor]:
        """The loss terms of a step, unweighted, in the order of `weights`."""
        raise TypeError(f"{type(self).__name__} gives no loss terms")

    def state(self) -> dict[str, Any]:
        """What the next step depends on beside the model, as tensors and plain values."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Puts `state` back."""


def weigh(defence: str, **weights: float) -> dict[str, float]:
    """The weights without those of 0, whose terms are neither computed nor their inputs made.

    UserError where none is left: nothing would be learned.
    """
    kept = {name: weight for name, weight in weights.items() if weight}
    if not kept:
        raise UserError(f"every loss of {defence} has weight 0: nothing would be learned")
    return kept


def check_weights(options: object, *names: str) -> None:
    """UserError for a weight that is negative or no number."""
    for name in names:
        if not 0 <= getattr(options, name) < float("inf"):
            raise UserError(f"{name} must be 0 or greater, not {getattr(options, name)}")
