"""The defences as data: which views a method needs, and which weighted losses it adds up.

`data` and `batches` read `needs`; `train` calls `encode` and `terms` in its loop and never asks which method runs.
A term whose weight is 0 is not computed and its views are not made: `cleanerclip` without the counterfactual weight
is `cleanclip`, and `cleanclip` without the in-modal weight is `ft`, to the last bit.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.errors import UserError
from trainer.losses import CounterfactualOptions, clip_loss, counterfactual_loss, in_modal_loss
from trainer.model import encode_text

MethodName = Literal["ft", "cleanclip", "cleanerclip"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodOptions:
    """The weights of `L = clean_weight * (clip + in_modal_weight * in-modal) + counterfactual_weight * L_cf`."""

    method: MethodName = "cleanerclip"
    clean_weight: float = 1.0
    """lambda1, the weight of CleanCLIP's loss."""
    in_modal_weight: float = 1.0
    """The weight of the in-modal term inside CleanCLIP's loss."""
    counterfactual_weight: float = 1.0
    """lambda2, the weight of the counterfactual loss."""
    counterfactual: CounterfactualOptions = field(default_factory=CounterfactualOptions)

    def __post_init__(self) -> None:
        if self.method not in get_args(MethodName):
            raise UserError(f"method must be one of {', '.join(get_args(MethodName))}, not {self.method!r}")
        for name in ("clean_weight", "in_modal_weight", "counterfactual_weight"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UserError(f"{name} must be 0 or greater, not {getattr(self, name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a method wants of a sample beyond its image and caption."""

    views: bool
    """The augmented image and the augmented caption."""
    triples: bool
    """A positive and a negative sub-caption for the selected samples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """Unit embeddings of one step: B pairs, and T triples among or beside them."""

    image_BD: Tensor
    text_BD: Tensor
    image_view_BD: Tensor | None
    text_view_BD: Tensor | None
    triple_image_TD: Tensor | None
    positive_TD: Tensor | None
    negative_TD: Tensor | None
    scale: Tensor
    """exp(logit_scale), a scalar."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A defence as the loop sees it."""

    needs: Needs
    weights: Mapping[str, float]
    """What each term counts in the total."""
    terms: Callable[[Features], dict[str, Tensor]]
    """The loss terms of a step, unweighted, in the order of `weights`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What `batches` yields: B pairs, then the images of triples that stand beside them."""

    keys: tuple[str, ...]
    image_M3HW: Tensor
    """uint8; the first `num_pairs` belong to the captions, the rest to triples from a cycled stream."""
    text_BL: Tensor
    num_pairs: int
    image_view_B3HW: Tensor | None = None
    text_view_BL: Tensor | None = None
    triple_rows_T: Tensor | None = None
    """Which images the triples belong to: rows of `image_M3HW`; None where the step has no triple."""
    positive_TL: Tensor | None = None
    negative_TL: Tensor | None = None

    def to(self, device: torch.device) -> "Batch":
        """The same batch with its tensors on `device`."""
        tensors = {name: getattr(self, name) for name in self.__slots__}
        moved: dict[str, Any] = {
            name: value.to(device) for name, value in tensors.items() if isinstance(value, Tensor)
        }
        return replace(self, **moved)


def build_method(options: MethodOptions) -> Method:
    """The method of that name with these weights, without the parts that weigh nothing."""
    weights = {"clip": options.clean_weight}
    if options.method in ("cleanclip", "cleanerclip"):
        weights["in_modal"] = options.clean_weight * options.in_modal_weight
    if options.method == "cleanerclip":
        weights["counterfactual"] = options.counterfactual_weight
    if not any(weights.values()):
        raise UserError(f"every loss of {options.method} has weight 0: nothing would be learned")
    weights = {name: weight for name, weight in weights.items() if weight or name == "clip"}

    def terms(features: Features) -> dict[str, Tensor]:
        found = {"clip": clip_loss(features.image_BD, features.text_BD, scale=features.scale)}
        if "in_modal" in weights:
            found["in_modal"] = _in_modal(features)
        if "counterfactual" in weights:
            found["counterfactual"] = _counterfactual(features, options.counterfactual)
        return found

    needs = Needs(views="in_modal" in weights, triples="counterfactual" in weights)
    return Method(needs=needs, weights=weights, terms=terms)


def encode(model: Any, batch: Batch, *, normalise: Callable[[Tensor], Tensor]) -> Features:
    """Embeds a batch: images and views in one forward (as CleanCLIP does: one batch statistic), captions likewise.

    The sub-captions have a forward of their own, so that a caption's embedding does not depend on whether triples
    are present.
    """
    images = (
        [batch.image_M3HW] if batch.image_view_B3HW is None else [batch.image_M3HW, batch.image_view_B3HW]
    )
    captions = [batch.text_BL] if batch.text_view_BL is None else [batch.text_BL, batch.text_view_BL]
    image_features = functional.normalize(model.encode_image(normalise(torch.cat(images))).float(), dim=-1)
    text_features = functional.normalize(encode_text(model, torch.cat(captions)).float(), dim=-1)
    num_images, num_pairs = len(batch.image_M3HW), batch.num_pairs
    positive_TD = negative_TD = triple_image_TD = None
    if batch.triple_rows_T is not None and batch.positive_TL is not None and batch.negative_TL is not None:
        both = torch.cat([batch.positive_TL, batch.negative_TL])
        positive_TD, negative_TD = functional.normalize(encode_text(model, both).float(), dim=-1).chunk(2)
        triple_image_TD = image_features[batch.triple_rows_T]
    return Features(
        image_BD=image_features[:num_pairs],
        text_BD=text_features[:num_pairs],
        image_view_BD=None if batch.image_view_B3HW is None else image_features[num_images:],
        text_view_BD=None if batch.text_view_BL is None else text_features[num_pairs:],
        triple_image_TD=triple_image_TD,
        positive_TD=positive_TD,
        negative_TD=negative_TD,
        scale=model.logit_scale.exp(),
    )


def _in_modal(features: Features) -> Tensor:
    assert features.image_view_BD is not None
    assert features.text_view_BD is not None
    return in_modal_loss(
        features.image_BD,
        features.image_view_BD,
        features.text_BD,
        features.text_view_BD,
        scale=features.scale,
    )


def _counterfactual(features: Features, options: CounterfactualOptions) -> Tensor:
    """0 in a step without triples."""
    if features.triple_image_TD is None:
        return features.image_BD.new_zeros(())
    assert features.positive_TD is not None
    assert features.negative_TD is not None
    return counterfactual_loss(
        features.triple_image_TD, features.positive_TD, features.negative_TD, options=options
    )
