"""Defences: what each needs, that a part without weight is no part, and which option goes with which."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from pipeline.errors import UserError
from trainer.batches import Batch
from trainer.defences import DEFENCES, build_defence, choose_options, learning_rate_for, name_of
from trainer.defences.cleanclip import CleanClipOptions
from trainer.defences.cleanerclip import CleanerClipOptions
from trainer.defences.defence import Setting
from trainer.defences.ft import FtOptions
from trainer.embedding import encode
from trainer.losses import total_loss
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


def build(options: object, clip: ClipModel) -> Any:
    return build_defence(options, Setting(clip=clip, seed=0))


@pytest.mark.parametrize(
    ("options", "views", "triples", "texts"),
    [
        (FtOptions(), False, False, True),
        (CleanClipOptions(), True, False, True),
        (CleanerClipOptions(), True, True, True),
        (CleanerClipOptions(in_modal_weight=0), False, True, True),
        (CleanerClipOptions(counterfactual_weight=0), True, False, True),
        (CleanerClipOptions(clean_weight=0), False, True, True),
        (DEFENCES["par"].options(), False, False, True),
        (DEFENCES["anchored"].options(), False, False, False),
    ],
)
def test_needs_follow_the_weights(
    clip: ClipModel, options: object, views: bool, triples: bool, texts: bool
) -> None:
    needs = build(options, clip).needs
    assert (needs.views, needs.triples, needs.texts) == (views, triples, texts)


def test_total_is_the_weighted_sum(clip: ClipModel, batch: Batch) -> None:
    defence = build(CleanerClipOptions(clean_weight=2, in_modal_weight=0.5, counterfactual_weight=3), clip)
    with torch.no_grad():
        terms = defence.terms(encode(clip.model, batch, normalise=clip.normalise))
    expected = 2 * (terms["clip"] + 0.5 * terms["in_modal"]) + 3 * terms["counterfactual"]
    assert total_loss(terms, defence.weights).item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_step_without_triples_has_no_counterfactual_loss(clip: ClipModel, batch: Batch) -> None:
    without = replace(batch, triple_rows_T=None, positive_TL=None, negative_TL=None)
    with torch.no_grad():
        terms = build(CleanerClipOptions(), clip).terms(encode(clip.model, without, normalise=clip.normalise))
    assert terms["counterfactual"].item() == 0


@pytest.mark.parametrize(
    ("method", "wrong"),
    [
        ("cleanerclip", {"clean_weight": -1.0}),
        ("cleanerclip", {"counterfactual_weight": float("nan")}),
        ("cleanclip", {"in_modal_weight": float("inf")}),
        ("cleanerclip", {"tau_positive": 0.0}),
        ("par", {"distance_weight": -1.0}),
        ("par", {"distance_threshold": 5.0}),
        ("anchored", {"share": 0.0}),
        ("anchored", {"anchor_weight": -1.0}),
        ("anchored", {"bank": "patch,sticker"}),
        ("anchored", {"bank": ""}),
        ("anchored", {"invent_images": 1}),
        ("anchored", {"pool": 0}),
    ],
)
def test_wrong_options_are_refused(method: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        choose_options(method, wrong)


def test_an_option_of_another_method_is_refused_with_what_there_is() -> None:
    with pytest.raises(UserError, match="ft takes no --tau-positive; it takes no option of its own"):
        choose_options("ft", {"tau_positive": 0.1})
    with pytest.raises(UserError, match=r"par takes no --share; it takes --distance-weight, "):
        choose_options("par", {"share": 0.1})
    with pytest.raises(UserError, match=r"method must be one of anchored, ft, .* not 'cleanestclip'"):
        choose_options("cleanestclip", {})


def test_all_weights_zero_is_refused(clip: ClipModel) -> None:
    with pytest.raises(UserError, match="every loss of cleanclip has weight 0: nothing would be learned"):
        build(CleanClipOptions(clean_weight=0), clip)


@pytest.mark.parametrize("method", DEFENCES)
def test_every_defence_gives_the_terms_that_it_weighs(clip: ClipModel, batch: Batch, method: str) -> None:
    options = DEFENCES[method].options()
    assert name_of(options) == method
    defence = build(options, clip)
    defence.prepare(iter([batch]))
    pixels = defence.pixels(batch, step=0)
    found = encode(clip.model, batch, normalise=clip.normalise, pixels_N3HW=pixels, texts=defence.needs.texts)
    terms = defence.terms(found)
    assert list(terms) == list(defence.weights)
    assert total_loss(terms, defence.weights).isfinite()


def test_small_models_learn_at_a_higher_rate() -> None:
    assert learning_rate_for("anchored", 5_000_000) > 10 * learning_rate_for("anchored", 100_000_000)
