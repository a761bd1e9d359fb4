"""The losses of the defence: pure functions of unit embeddings, computed in float32 or better.

`methods` says which of them a method adds up. Notation: u image, t caption, p positive, n negative embeddings, all
unit vectors; B samples of D dimensions; s the learnable scale exp(logit_scale). CleanCLIP's two terms follow its
public definition; the counterfactual terms are numbered (1) to (3) as in `docs/decisions.md`. A model that has a bias
b for its logits (SigLIP) was trained with a sigmoid for each pair: so are its terms here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.errors import UserError

Negatives = Literal["in-batch", "own"]


@dataclass(frozen=True, kw_only=True)
class CounterfactualOptions:
    """The switches of the counterfactual loss; the paper states the two temperatures and leaves the rest open."""

    tau_positive: float = 0.3
    """Temperature of the positives' logits; smaller: more attention to them."""
    tau_negative: float = 0.3
    """Temperature of the negatives' logits."""
    negatives: Negatives = "in-batch"
    """in-batch: every sample of the step sees every negative; own: only its own counterfactual."""
    text_to_image_negatives: bool = True
    """Negatives in the text-to-image direction, too; MosaiCLIP has none there."""

    def __post_init__(self) -> None:
        for name in ("tau_positive", "tau_negative"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name} must be greater than 0, not {getattr(self, name)}")
        if self.negatives not in get_args(Negatives):
            raise UserError(
                f"negatives must be one of {', '.join(get_args(Negatives))}, not {self.negatives!r}"
            )


def clip_loss(image_BD: Tensor, text_BD: Tensor, *, scale: Tensor | float) -> Tensor:
    """CLIP's symmetric cross-entropy, [CE(s U T') + CE(s T U')] / 2: a scalar."""
    logits_BB = scale * (_full(image_BD) @ _full(text_BD).T)
    labels_B = torch.arange(len(logits_BB), device=logits_BB.device)
    image_to_text = functional.cross_entropy(logits_BB, labels_B)
    return (image_to_text + functional.cross_entropy(logits_BB.T, labels_B)) / 2


def sigmoid_loss(image_BD: Tensor, text_BD: Tensor, *, scale: Tensor | float, bias: Tensor | float) -> Tensor:
    """SigLIP's loss, -1/B sum over all pairs of log sigmoid(+-(s u t' + b)), + where they belong together: a scalar."""
    logits_BB = scale * (_full(image_BD) @ _full(text_BD).T) + bias
    signs_BB = 2 * torch.eye(len(logits_BB), device=logits_BB.device) - 1
    return -functional.logsigmoid(signs_BB * logits_BB).sum() / len(logits_BB)


def matching_loss(
    image_BD: Tensor, text_BD: Tensor, *, scale: Tensor | float, bias: Tensor | float | None
) -> Tensor:
    """The loss that a model's images and captions were matched with: SigLIP's where it has a bias, else CLIP's."""
    if bias is None:
        return clip_loss(image_BD, text_BD, scale=scale)
    return sigmoid_loss(image_BD, text_BD, scale=scale, bias=bias)


def in_modal_loss(
    image_BD: Tensor,
    image_view_BD: Tensor,
    text_BD: Tensor,
    text_view_BD: Tensor,
    *,
    scale: Tensor | float,
) -> Tensor:
    """CleanCLIP's in-modal term, [CE(s U Ua') + CE(s T Ta')] / 2: originals against views, one direction only."""
    labels_B = torch.arange(len(image_BD), device=image_BD.device)
    image_logits_BB = scale * (_full(image_BD) @ _full(image_view_BD).T)
    text_logits_BB = scale * (_full(text_BD) @ _full(text_view_BD).T)
    images = functional.cross_entropy(image_logits_BB, labels_B)
    return (images + functional.cross_entropy(text_logits_BB, labels_B)) / 2


def counterfactual_loss(
    image_BD: Tensor, positive_BD: Tensor, negative_BD: Tensor, *, options: CounterfactualOptions
) -> Tensor:
    """The mean of both directions of the counterfactual loss, Eqs (1) to (3): a scalar.

    (1) contrasts each image with its positive against all positives and the negatives; (2) contrasts each positive
    with its image against all images, and with the images' similarity to its own negative.
    """
    image_BD, positive_BD, negative_BD = _full(image_BD), _full(positive_BD), _full(negative_BD)
    positive_BB = image_BD @ positive_BD.T / options.tau_positive
    negative_BB = image_BD @ negative_BD.T / options.tau_negative
    if options.negatives == "own":
        own_BB = torch.eye(len(image_BD), dtype=torch.bool, device=image_BD.device)
        negative_BB = negative_BB.masked_fill(~own_BB, -torch.inf)
    matched_B = positive_BB.diagonal()
    image_to_text = torch.logsumexp(torch.cat([positive_BB, negative_BB], dim=1), dim=1) - matched_B
    against = [positive_BB.T, negative_BB.T] if options.text_to_image_negatives else [positive_BB.T]
    text_to_image = torch.logsumexp(torch.cat(against, dim=1), dim=1) - matched_B
    return (image_to_text.mean() + text_to_image.mean()) / 2


def sigmoid_counterfactual_loss(
    image_BD: Tensor,
    positive_BD: Tensor,
    negative_BD: Tensor,
    *,
    scale: Tensor | float,
    bias: Tensor | float,
    negatives: Negatives,
) -> Tensor:
    """The counterfactual loss of a model with a bias: `sigmoid_loss` of images and positives, and each negative a
    caption that belongs to no image: -1/B sum of log sigmoid(-(s u n' + b)), over all pairs or the own ones. A scalar.
    """
    image_BD, negative_BD = _full(image_BD), _full(negative_BD)
    logits_BB = scale * (image_BD @ negative_BD.T) + bias
    refused_BB = -functional.logsigmoid(-logits_BB)
    refused = refused_BB.sum() if negatives == "in-batch" else refused_BB.diagonal().sum()
    return sigmoid_loss(image_BD, positive_BD, scale=scale, bias=bias) + refused / len(image_BD)


def total_loss(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """The weighted sum of the terms, in their order; a term of weight 0 takes no part, not even as 0 times NaN."""
    weighted = [
        term if weights[name] == 1 else weights[name] * term for name, term in terms.items() if weights[name]
    ]
    if not weighted:
        raise UserError(f"every loss weight is 0: {', '.join(terms)}; give at least one a weight above 0")
    return torch.stack(weighted).sum() if len(weighted) > 1 else weighted[0]


def _full(embedding: Tensor) -> Tensor:
    """Half precision is raised to float32; float64 stays."""
    return embedding if embedding.dtype == torch.float64 else embedding.float()
