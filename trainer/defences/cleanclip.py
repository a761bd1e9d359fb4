"""`cleanclip`: CLIP's loss, and an in-modal one that keeps each image and caption near a view of itself.

After its public definition (CleanCLIP, ICCV 2023): the in-modal term is one-directional, the views take no part in
the cross-modal one.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from trainer.batches import Needs
from trainer.defences.defence import Defence, Setting, check_weights, weigh
from trainer.embedding import Embeddings
from trainer.losses import in_modal_loss, matching_loss


@dataclass(frozen=True, kw_only=True)
class CleanClipOptions:
    """The weights of `clean_weight * (clip + in_modal_weight * in-modal)`."""

    clean_weight: float = 1.0
    """lambda1, the weight of CleanCLIP's loss."""
    in_modal_weight: float = 1.0
    """The weight of the in-modal term inside CleanCLIP's loss."""

    def __post_init__(self) -> None:
        check_weights(self, "clean_weight", "in_modal_weight")


class CleanClip(Defence):
    """CleanCLIP's loss; without its in-modal weight it is `ft`, to the last bit."""

    def __init__(self, options: CleanClipOptions, setting: Setting) -> None:
        self.weights = clean_weights("cleanclip", options)
        self.needs = Needs(views="in_modal" in self.weights)

    def terms(self, found: Embeddings) -> dict[str, Tensor]:
        """The terms whose weight is not 0."""
        return clean_terms(found, self.weights)


def clean_weights(defence: str, options: CleanClipOptions, **more: float) -> dict[str, float]:
    """The weights of CleanCLIP's two terms, and of what a defence adds; CLIP's own term is always computed."""
    in_modal = options.clean_weight * options.in_modal_weight
    weights = weigh(defence, clip=options.clean_weight, in_modal=in_modal, **more)
    return {"clip": options.clean_weight, **weights}


def clean_terms(found: Embeddings, weights: Mapping[str, float]) -> dict[str, Tensor]:
    """CLIP's loss and, where it weighs something, the in-modal one."""
    terms = {"clip": matching_loss(found.image_BD, found.texts, scale=found.scale, bias=found.bias)}
    if "in_modal" in weights:
        assert found.image_view_BD is not None
        assert found.text_view_BD is not None
        terms["in_modal"] = in_modal_loss(
            found.image_BD, found.image_view_BD, found.texts, found.text_view_BD, scale=found.scale
        )
    return terms
