"""The losses against slow float64 references, written as loops over the formulas."""

import math
from itertools import product
from typing import Literal

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from pipeline.errors import UserError
from trainer import torchvision_shim  # noqa: F401
from trainer.losses import (
    CounterfactualOptions,
    clip_loss,
    counterfactual_loss,
    in_modal_loss,
    matching_loss,
    sigmoid_counterfactual_loss,
    sigmoid_loss,
    total_loss,
)

# isort: split
import open_clip  # noqa: TID251
from open_clip.loss import SigLipLoss  # noqa: TID251

B, D = 5, 7


def units(seed: int, rows: int = B) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(rows, D, generator=generator, dtype=torch.float64), dim=-1)


def dot(a: Tensor, b: Tensor) -> float:
    return sum(float(x) * float(y) for x, y in zip(a, b, strict=True))


def slow_cross_entropy(rows: Tensor, columns: Tensor, scale: float) -> float:
    """Row i against all columns, column i being right."""
    total = 0.0
    for i in range(len(rows)):
        below = sum(math.exp(scale * dot(rows[i], columns[j])) for j in range(len(columns)))
        total -= math.log(math.exp(scale * dot(rows[i], columns[i])) / below)
    return total / len(rows)


def slow_counterfactual(u: Tensor, p: Tensor, n: Tensor, options: CounterfactualOptions) -> float:
    def plus(i: int, j: int) -> float:
        return math.exp(dot(u[i], p[j]) / options.tau_positive)

    def minus(i: int, j: int) -> float:
        return math.exp(dot(u[i], n[j]) / options.tau_negative)

    image_to_text = text_to_image = 0.0
    for i in range(len(u)):
        others = range(len(u)) if options.negatives == "in-batch" else [i]
        below = sum(plus(i, j) for j in range(len(u))) + sum(minus(i, j) for j in others)
        image_to_text -= math.log(plus(i, i) / below)
        below = sum(plus(j, i) for j in range(len(u)))
        if options.text_to_image_negatives:
            below += sum(minus(j, i) for j in others)
        text_to_image -= math.log(plus(i, i) / below)
    return (image_to_text + text_to_image) / len(u) / 2


@pytest.mark.parametrize("scale", [1.0, 14.3, 100.0])
def test_clip_loss_is_the_formula(scale: float) -> None:
    u, t = units(1), units(2)
    expected = (slow_cross_entropy(u, t, scale) + slow_cross_entropy(t, u, scale)) / 2
    assert clip_loss(u, t, scale=scale).item() == pytest.approx(expected, rel=1e-12)


def slow_sigmoid(u: Tensor, t: Tensor, scale: float, bias: float, signs: Tensor) -> float:
    total = 0.0
    for i, j in product(range(len(u)), range(len(t))):
        if signs[i, j]:
            total += math.log1p(math.exp(-float(signs[i, j]) * (scale * dot(u[i], t[j]) + bias)))
    return total / len(u)


def test_sigmoid_loss_is_the_formula_and_open_clips() -> None:
    u, t = units(1), units(2)
    ours = sigmoid_loss(u, t, scale=12.0, bias=-7.0)
    assert ours.item() == pytest.approx(slow_sigmoid(u, t, 12.0, -7.0, 2 * torch.eye(B) - 1), rel=1e-12)
    theirs = SigLipLoss()(u.float(), t.float(), torch.tensor(12.0), torch.tensor(-7.0))
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)
    assert torch.equal(ours, matching_loss(u, t, scale=12.0, bias=-7.0))
    assert torch.equal(clip_loss(u, t, scale=12.0), matching_loss(u, t, scale=12.0, bias=None))


@pytest.mark.parametrize("negatives", ["in-batch", "own"])
def test_sigmoid_counterfactual_loss_is_the_formula(negatives: Literal["in-batch", "own"]) -> None:
    u, p, n = units(1), units(2), units(3)
    refused = -torch.ones(B, B) if negatives == "in-batch" else -torch.eye(B)
    expected = slow_sigmoid(u, p, 12.0, -7.0, 2 * torch.eye(B) - 1) + slow_sigmoid(u, n, 12.0, -7.0, refused)
    found = sigmoid_counterfactual_loss(u, p, n, scale=12.0, bias=-7.0, negatives=negatives)
    assert found.item() == pytest.approx(expected, rel=1e-12)


def test_clip_loss_is_open_clips() -> None:
    u, t = units(1).float(), units(2).float()
    theirs = open_clip.ClipLoss()(u, t, torch.tensor(20.0))
    assert clip_loss(u, t, scale=20.0).item() == pytest.approx(theirs.item(), rel=1e-6)


def test_in_modal_loss_is_one_directional() -> None:
    u, ua, t, ta = (units(seed) for seed in range(4))
    expected = (slow_cross_entropy(u, ua, 9.0) + slow_cross_entropy(t, ta, 9.0)) / 2
    assert in_modal_loss(u, ua, t, ta, scale=9.0).item() == pytest.approx(expected, rel=1e-12)
    assert in_modal_loss(ua, u, ta, t, scale=9.0).item() != pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("negatives", "both", "taus", "rows"),
    list(product(["in-batch", "own"], [True, False], [(0.3, 0.3), (0.07, 0.5), (0.01, 0.01)], [B, 1])),
)
def test_counterfactual_loss_is_the_formula(
    negatives: str, both: bool, taus: tuple[float, float], rows: int
) -> None:
    options = CounterfactualOptions(
        tau_positive=taus[0],
        tau_negative=taus[1],
        negatives=negatives,  # type: ignore[arg-type]
        text_to_image_negatives=both,
    )
    u, p, n = (units(seed, rows) for seed in range(3))
    expected = slow_counterfactual(u, p, n, options)
    assert counterfactual_loss(u, p, n, options=options).item() == pytest.approx(expected, rel=1e-11)


def test_own_negatives_push_an_image_from_its_own_counterfactual_harder() -> None:
    u, p, n = units(0), units(1), units(2).requires_grad_()
    pushes = {}
    for negatives in ("own", "in-batch"):
        options = CounterfactualOptions(negatives=negatives)
        (gradient,) = torch.autograd.grad(counterfactual_loss(u, p, n, options=options), n)
        pushes[negatives] = (gradient * u.detach()).sum(dim=1)
    assert (pushes["own"] > 0).all()
    assert pushes["own"].mean() > 1.5 * pushes["in-batch"].mean()


def test_own_negatives_do_not_touch_other_samples() -> None:
    u, p, n = units(0), units(1), units(2).requires_grad_()
    loss = counterfactual_loss(u[:1], p[:1], n[:1], options=CounterfactualOptions(negatives="own"))
    (gradient,) = torch.autograd.grad(loss, n)
    assert gradient[0].abs().sum() > 0
    assert gradient[1:].abs().sum() == 0


def test_half_precision_is_raised() -> None:
    u, t = units(1).bfloat16(), units(2).bfloat16()
    loss = clip_loss(u, t, scale=100.0)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, clip_loss(u.float(), t.float(), scale=100.0))


def test_a_term_without_weight_takes_no_part() -> None:
    terms = {"clip": torch.tensor(2.0), "counterfactual": torch.tensor(float("nan"))}
    assert total_loss(terms, {"clip": 1.0, "counterfactual": 0.0}).item() == 2.0
    with pytest.raises(UserError, match="every loss weight is 0"):
        total_loss(terms, {"clip": 0.0, "counterfactual": 0.0})


@pytest.mark.parametrize("wrong", [{"tau_positive": 0.0}, {"tau_negative": -1.0}, {"negatives": "some"}])
def test_wrong_switches_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        CounterfactualOptions(**wrong)  # type: ignore[arg-type]
