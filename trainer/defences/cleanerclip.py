"""`cleanerclip`: CleanCLIP's loss, and a counterfactual one over positive and negative sub-captions.

The paper's defence (CleanerCLIP, arXiv 2409.17601). What it states and what is inferred stands in
`docs/decisions.md`; every inferred choice is an option.
"""

from dataclasses import dataclass

from torch import Tensor

from trainer.batches import Needs
from trainer.defences.cleanclip import CleanClipOptions, clean_terms, clean_weights
from trainer.defences.defence import Defence, Setting, check_weights
from trainer.embedding import Embeddings
from trainer.losses import CounterfactualOptions, counterfactual_loss


@dataclass(frozen=True, kw_only=True)
class CleanerClipOptions(CleanClipOptions, CounterfactualOptions):
    """`clean_weight * (clip + in_modal_weight * in-modal) + counterfactual_weight * counterfactual`."""

    counterfactual_weight: float = 1.0
    """lambda2, the weight of the counterfactual loss."""

    def __post_init__(self) -> None:
        CleanClipOptions.__post_init__(self)
        CounterfactualOptions.__post_init__(self)
        check_weights(self, "counterfactual_weight")


class CleanerClip(Defence):
    """The counterfactual loss beside CleanCLIP's; without its weight it is `cleanclip`, to the last bit."""

    def __init__(self, options: CleanerClipOptions, setting: Setting) -> None:
        self.options = options
        self.weights = clean_weights("cleanerclip", options, counterfactual=options.counterfactual_weight)
        self.needs = Needs(views="in_modal" in self.weights, triples="counterfactual" in self.weights)

    def terms(self, found: Embeddings) -> dict[str, Tensor]:
        """The terms whose weight is not 0; the counterfactual one is 0 in a step without triples."""
        terms = clean_terms(found, self.weights)
        if "counterfactual" in self.weights:
            terms["counterfactual"] = self._counterfactual(found)
        return terms

    def _counterfactual(self, found: Embeddings) -> Tensor:
        if found.triple_image_TD is None:
            return found.image_BD.new_zeros(())
        assert found.positive_TD is not None
        assert found.negative_TD is not None
        return counterfactual_loss(
            found.triple_image_TD, found.positive_TD, found.negative_TD, options=self.options
        )
