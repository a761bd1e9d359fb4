"""`ft`: plain fine-tuning with CLIP's loss, the baseline that every defence must beat."""

from dataclasses import dataclass

from torch import Tensor

from trainer.batches import Needs
from trainer.defences.defence import Defence, Setting
from trainer.embedding import Embeddings
from trainer.losses import matching_loss


@dataclass(frozen=True, slots=True, kw_only=True)
class FtOptions:
    """Plain fine-tuning has no switch of its own."""


class Ft(Defence):
    """CLIP's symmetric cross-entropy over the batch's pairs, nothing else."""

    needs = Needs()
    weights = {"clip": 1.0}  # noqa: RUF012  (never changed)

    def __init__(self, options: FtOptions, setting: Setting) -> None:
        pass

    def terms(self, found: Embeddings) -> dict[str, Tensor]:
        """CLIP's loss."""
        return {"clip": matching_loss(found.image_BD, found.texts, scale=found.scale, bias=found.bias)}
