"""Methods: what each needs, and that a part without weight is no part."""

from dataclasses import replace

import pytest
import torch

from pipeline.errors import UserError
from trainer.losses import total_loss
from trainer.methods import Batch, MethodOptions, build_method, encode
from trainer.model import ClipModel, load_model


@pytest.fixture(scope="module")
def clip() -> ClipModel:
    return load_model("cleanerclip-tiny-32", seed=1)


@pytest.fixture(scope="module")
def batch(clip: ClipModel) -> Batch:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8, generator=generator)
    captions = [f"a thing number {n}" for n in range(4)]
    return Batch(
        keys=("a", "b", "c", "d"),
        image_M3HW=images[:4],
        text_BL=clip.tokenizer(captions),
        num_pairs=4,
        image_view_B3HW=images[4:],
        text_view_BL=clip.tokenizer([f"thing {n} a" for n in range(4)]),
        triple_rows_T=torch.tensor([1, 3]),
        positive_TL=clip.tokenizer(["thing 1", "thing 3"]),
        negative_TL=clip.tokenizer(["thing 4", "thing 5"]),
    )


@pytest.mark.parametrize(
    ("options", "views", "triples"),
    [
        (MethodOptions(method="ft"), False, False),
        (MethodOptions(method="cleanclip"), True, False),
        (MethodOptions(method="cleanerclip"), True, True),
        (MethodOptions(method="cleanerclip", in_modal_weight=0), False, True),
        (MethodOptions(method="cleanerclip", counterfactual_weight=0), True, False),
        (MethodOptions(method="cleanerclip", clean_weight=0), False, True),
    ],
)
def test_needs_follow_the_weights(options: MethodOptions, views: bool, triples: bool) -> None:
    needs = build_method(options).needs
    assert (needs.views, needs.triples) == (views, triples)


def test_total_is_the_weighted_sum(clip: ClipModel, batch: Batch) -> None:
    options = MethodOptions(clean_weight=2, in_modal_weight=0.5, counterfactual_weight=3)
    method = build_method(options)
    with torch.no_grad():
        terms = method.terms(encode(clip.model, batch, normalise=clip.normalise))
    expected = 2 * (terms["clip"] + 0.5 * terms["in_modal"]) + 3 * terms["counterfactual"]
    assert total_loss(terms, method.weights).item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_caption_embedding_does_not_depend_on_triples(clip: ClipModel, batch: Batch) -> None:
    without = replace(batch, triple_rows_T=None, positive_TL=None, negative_TL=None)
    with torch.no_grad():
        one, other = (encode(clip.model, b, normalise=clip.normalise) for b in (batch, without))
    assert torch.equal(one.text_BD, other.text_BD)
    assert torch.equal(one.image_BD, other.image_BD)
    assert other.positive_TD is None


def test_triples_use_the_images_of_their_rows(clip: ClipModel, batch: Batch) -> None:
    with torch.no_grad():
        features = encode(clip.model, batch, normalise=clip.normalise)
    assert features.triple_image_TD is not None
    assert torch.equal(features.triple_image_TD, features.image_BD[[1, 3]])


def test_a_step_without_triples_has_no_counterfactual_loss(clip: ClipModel, batch: Batch) -> None:
    without = replace(batch, triple_rows_T=None, positive_TL=None, negative_TL=None)
    with torch.no_grad():
        terms = build_method(MethodOptions()).terms(encode(clip.model, without, normalise=clip.normalise))
    assert terms["counterfactual"].item() == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": "cleanestclip"},
        {"clean_weight": -1.0},
        {"counterfactual_weight": float("nan")},
        {"in_modal_weight": float("inf")},
    ],
)
def test_wrong_options_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        MethodOptions(**wrong)  # type: ignore[arg-type]


def test_all_weights_zero_is_refused() -> None:
    with pytest.raises(UserError, match="nothing would be learned"):
        build_method(MethodOptions(method="ft", clean_weight=0))
