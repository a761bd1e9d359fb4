"""The optimiser's groups and the schedule."""

import math
import re
from itertools import pairwise

import pytest
import torch

from pipeline.errors import UserError
from trainer.model import load_model
from trainer.optim import MAX_LOGIT_SCALE, OptimOptions, build_optimizer, clamp_logit_scale, learning_rate


@pytest.mark.parametrize("name", ["cleanerclip-tiny-32", "cleanerclip-vit-64"])
def test_every_parameter_is_in_one_group_and_norms_do_not_decay(name: str) -> None:
    model = load_model(name).model
    decayed, plain = build_optimizer(model, OptimOptions(weight_decay=0.2)).param_groups
    ids = {id(parameter): key for key, parameter in model.named_parameters()}
    grouped = [ids[id(parameter)] for group in (decayed, plain) for parameter in group["params"]]
    assert sorted(grouped) == sorted(ids.values())
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.2, 0.0)
    plain_names = {ids[id(parameter)] for parameter in plain["params"]}
    assert "logit_scale" in plain_names
    assert all(
        re.search(r"bias$|ln_|bn|downsample\.1|^logit_scale$|class_embedding", key) for key in plain_names
    )
    assert "token_embedding.weight" in {ids[id(parameter)] for parameter in decayed["params"]}


def test_defaults_are_the_papers() -> None:
    options = OptimOptions()
    group = build_optimizer(torch.nn.Linear(2, 2), options).param_groups[0]
    assert (group["betas"], group["eps"], group["weight_decay"]) == ((0.9, 0.999), 1e-8, 0.1)


def test_schedule_warms_up_linearly_and_ends_near_zero() -> None:
    options = OptimOptions(lr=2.0, warmup=10)
    rates = [learning_rate(step, total_steps=110, options=options) for step in range(110)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[9] == rates[10] == 2.0
    assert rates[60] == pytest.approx(1.0)
    assert rates[109] == pytest.approx(1 + math.cos(math.pi * 0.99), abs=1e-9)
    assert all(earlier >= later for earlier, later in pairwise(rates[10:]))


@pytest.mark.parametrize(("total", "warmup"), [(50, 5), (1_000_000, 10_000), (5, 0)])
def test_default_warmup(total: int, warmup: int) -> None:
    rates = [
        learning_rate(step, total_steps=total, options=OptimOptions(lr=1.0))
        for step in range(min(total, 10_002))
    ]
    assert sum(rate < 1 for rate in rates[:warmup]) == max(0, warmup - 1)
    assert rates[warmup] == 1.0


def test_logit_scale_stays_within_its_bounds() -> None:
    model = torch.nn.Module()
    for value, kept in ((9.0, MAX_LOGIT_SCALE), (-1.0, 0.0), (2.5, 2.5)):
        model.logit_scale = torch.nn.Parameter(torch.tensor(value))
        clamp_logit_scale(model)
        assert model.logit_scale.item() == pytest.approx(kept)


@pytest.mark.parametrize(
    "wrong",
    [
        {"lr": 0.0},
        {"lr": float("nan")},
        {"warmup": -1},
        {"weight_decay": -0.1},
        {"beta2": 1.0},
        {"max_gradient_norm": 0.0},
    ],
)
def test_wrong_options_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        OptimOptions(**wrong)  # type: ignore[arg-type]
