"""`cleanerclip`: CleanCLIP's loss, and a counterfactual one over positive and negative sub-captions.

The paper's defence (CleanerCLIP, arXiv 2409.17601). What it states and what is inferred stands in
`docs/decisions.md`; every inferred choice is an option.
"""

from dataclasses import dataclass

from torch import Tensor

from pipeline.errors import UserError
from trainer.batches import Needs
from trainer.defences.cleanclip import CleanClipOptions, clean_terms, clean_weights
from trainer.defences.defence import Defence, Setting, check_weights
from trainer.embedding import Embeddings
from trainer.losses import CounterfactualOptions, counterfactual_loss, sigmoid_counterfactual_loss


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
        if setting.clip.sigmoid and "counterfactual" in self.weights:
            _refuse_softmax_options(options, of=setting.clip.name)

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
        triple = found.triple_image_TD, found.positive_TD, found.negative_TD
        if found.bias is None:
            return counterfactual_loss(*triple, options=self.options)
        return sigmoid_counterfactual_loss(
            *triple, scale=found.scale, bias=found.bias, negatives=self.options.negatives
        )


def _refuse_softmax_options(options: CleanerClipOptions, *, of: str) -> None:
    """UserError where an option is given that means nothing to a model with a bias: each pair is judged alone."""
    usual = CleanerClipOptions()
    for name in ("tau_positive", "tau_negative", "text_to_image_negatives"):
        if getattr(options, name) != getattr(usual, name):
            raise UserError(
                f"{name} means nothing to {of}, which has a logit_bias: its counterfactual loss is a sigmoid for each "
                "pair, with the model's own scale and bias"
            )
