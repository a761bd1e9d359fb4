"""PAR: its loss is a slow reference's in float64; what the threshold does; what images become."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from trainer.batches import Batch
from trainer.defences.defence import Setting
from trainer.defences.par import Par, ParOptions, bounded_distance
from trainer.embedding import encode
from trainer.losses import total_loss
from trainer.model import ClipModel, load_model


@pytest.fixture
def clip() -> ClipModel:
    return load_model("cleanerclip-tiny-32", seed=1)


@pytest.fixture
def batch(clip: ClipModel) -> Batch:
    images = torch.randint(0, 256, (6, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    return Batch(
        keys=tuple("abcdef"),
        image_M3HW=images.to(torch.uint8),
        text_BL=clip.tokenizer([f"a thing number {n}" for n in range(6)]),
        num_pairs=6,
    )


def unit(number: int, *, seed: int) -> Tensor:
    raw = torch.randn(number, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return functional.normalize(raw, dim=-1)


def slow_par(u: Tensor, t: Tensor, u0: Tensor, t0: Tensor, *, scale: float, options: ParOptions) -> float:
    """CLIP's loss minus the weighted distances, entry by entry."""
    num = len(u)
    clip = 0.0
    for i in range(num):
        row = [math.exp(scale * float(u[i] @ t[j])) for j in range(num)]
        column = [math.exp(scale * float(u[j] @ t[i])) for j in range(num)]
        clip -= (math.log(row[i] / sum(row)) + math.log(column[i] / sum(column))) / (2 * num)
    total = clip
    for now, before in ((u, u0), (t, t0)):
        distance = sum(float(((now[i] - before[i]) ** 2).sum()) for i in range(num)) / num
        total -= options.distance_weight * (0 if distance > options.distance_threshold else distance)
    return total


@pytest.mark.parametrize("threshold", [0.5, 2.15])
def test_the_loss_is_the_slow_reference_in_float64(clip: ClipModel, batch: Batch, threshold: float) -> None:
    options = ParOptions(distance_threshold=threshold, noise=0, erase=False)
    par = Par(options, Setting(clip=clip, seed=0))
    with torch.no_grad():
        for parameter in clip.model.parameters():  # the student is no longer the teacher
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    clip.model.double()
    par.teacher.model.double()
    pixels = batch.image_M3HW.double() / 255
    with torch.no_grad():
        par.taught_image_BD = par.teacher.model.encode_image(clip.normalise(pixels), normalize=True)
        par.taught_text_BD = par.teacher.model.encode_text(batch.text_BL, normalize=True)
        u = clip.model.encode_image(clip.normalise(pixels), normalize=True)
        t = clip.model.encode_text(batch.text_BL, normalize=True)
    scale = float(clip.model.logit_scale.detach().exp())
    found = encode(clip.model, batch, normalise=clip.normalise, pixels_N3HW=pixels)
    loss = total_loss(par.terms(found), par.weights).detach().item()
    slow = slow_par(u, t, par.taught_image_BD, par.taught_text_BD, scale=scale, options=options)
    assert loss == pytest.approx(slow, rel=1e-4)


def test_a_distance_above_the_threshold_is_rewarded_no_more() -> None:
    near, far = unit(4, seed=1), unit(4, seed=2)
    distance = float((near - far).square().sum(dim=1).mean())
    assert float(bounded_distance(near, far, threshold=4)) == pytest.approx(distance)
    assert float(bounded_distance(near, far, threshold=distance / 2)) == 0
    assert float(bounded_distance(near, near, threshold=2.15)) == 0


def test_noise_and_erasing_change_some_images_and_are_the_same_in_the_same_step(
    clip: ClipModel, batch: Batch
) -> None:
    par = Par(ParOptions(), Setting(clip=clip, seed=3))
    one, same, other = (par.pixels(batch, step=step) for step in (5, 5, 6))
    clean = batch.image_M3HW.float() / 255
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert one.shape == clean.shape
    assert 0 <= one.min() <= one.max() <= 1
    assert not torch.equal(one, clean)
    plain = Par(ParOptions(noise=0, erase=False), Setting(clip=clip, seed=3)).pixels(batch, step=5)
    assert torch.equal(plain, clean)
