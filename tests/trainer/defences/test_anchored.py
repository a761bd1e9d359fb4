"""`anchored`: what its bank does, that it is kept over a stop, and that it makes triggers harmless."""

import copy
from dataclasses import replace

import pytest
import torch

from pipeline.demo.data import make_sample
from tests.places import ROOT
from trainer.batches import Batch
from trainer.defences.anchored import Anchored, AnchoredOptions
from trainer.defences.defence import Setting
from trainer.defences.invented import KINDS, concentrate, invent, spread
from trainer.embedding import Teacher, encode
from trainer.images import decode, to_tensor
from trainer.model import ClipModel, load_model

SIZE = 64


@pytest.fixture(scope="module")
def victim() -> ClipModel:
    """A trained model: one of random weights puts all images in one place, trigger or not."""
    return load_model(checkpoint=ROOT / "trainer" / "demo_victim" / "victim.safetensors")


@pytest.fixture
def clip(victim: ClipModel) -> ClipModel:
    return replace(victim, model=copy.deepcopy(victim.model))


@pytest.fixture(scope="module")
def batch() -> Batch:
    scenes = [decode(make_sample(f"{n}", seed=1, image_size=SIZE).jpeg) for n in range(12)]
    return Batch(
        keys=tuple("abcdefghijkl"),
        image_M3HW=torch.stack([to_tensor(scene) for scene in scenes]),
        text_BL=torch.zeros(12, 16, dtype=torch.long),
        num_pairs=12,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_trigger_stays_within_its_bounds_and_images_within_theirs(kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    trigger = KINDS[kind](SIZE, generator)
    images = torch.rand((3, 3, SIZE, SIZE), generator=generator)
    for _ in range(200):
        trigger.step(torch.ones_like(trigger.values))
    assert float(trigger.values.min()) >= trigger.low - 1e-6
    assert float(trigger.values.max()) <= trigger.high + 1e-6
    triggered = trigger.apply(images, generator)
    assert triggered.shape == images.shape
    assert 0 <= float(triggered.min()) <= float(triggered.max()) <= 1
    assert not torch.equal(triggered, images)


@pytest.mark.parametrize("kind", KINDS)
def test_inventing_leads_images_together_and_away(kind: str, clip: ClipModel, batch: Batch) -> None:
    generator = torch.Generator().manual_seed(0)
    teacher = Teacher(clip, remember=True)
    clean = teacher.embed_images(batch)
    trigger = KINDS[kind](SIZE, generator)

    def aim() -> float:
        pixels = trigger.apply(batch.image_M3HW.float() / 255, torch.Generator().manual_seed(1))
        with torch.no_grad():
            return float(concentrate(teacher.embed_images(_other_keys(batch), pixels), clean))

    before = aim()
    for _ in range(10):
        invent([trigger], teacher.model, clip, batch.image_M3HW, clean, generators=[generator], num=12)
    assert aim() < before


def _other_keys(batch: Batch) -> Batch:
    """So that the teacher does not remember."""
    return Batch(
        keys=tuple(str(torch.rand(())) for _ in batch.keys),
        image_M3HW=batch.image_M3HW,
        text_BL=batch.text_BL,
        num_pairs=batch.num_pairs,
    )


def terms_of(
    anchored: Anchored, clip: ClipModel, batch: Batch, pixels: torch.Tensor
) -> dict[str, torch.Tensor]:
    """In evaluation mode, so that images do not depend on one another."""
    found = encode(clip.model.eval(), batch, normalise=clip.normalise, pixels_N3HW=pixels, texts=False)
    return anchored.terms(found)


def test_a_step_holds_clean_strange_and_triggered_images(clip: ClipModel, batch: Batch) -> None:
    options = AnchoredOptions(share=0.5, strange=0.75, invent_steps=1)
    anchored = Anchored(options, Setting(clip=clip, seed=0))
    anchored.prepare(iter([batch]))
    pixels = anchored.pixels(batch, step=0)
    assert len(pixels) == 12 + 9 + 6
    assert torch.equal(pixels[:12], batch.image_M3HW.float() / 255)
    terms = terms_of(anchored, clip, batch, pixels)
    assert terms.keys() == anchored.weights.keys()
    for untouched in ("anchor", "strange"):  # nothing has moved yet
        assert float(terms[untouched].detach()) == pytest.approx(0, abs=1e-5)
    assert float(terms["triggered"].detach()) > 1e-3


def test_without_strange_images_there_is_no_such_term(clip: ClipModel, batch: Batch) -> None:
    anchored = Anchored(AnchoredOptions(share=0.5, strange=0, invent_steps=0), Setting(clip=clip, seed=0))
    anchored.prepare(iter([batch]))
    pixels = anchored.pixels(batch, step=0)
    assert len(pixels) == 12 + 6
    assert (
        terms_of(anchored, clip, batch, pixels).keys() == anchored.weights.keys() == {"anchor", "triggered"}
    )


def test_a_step_moves_the_triggers_it_takes_and_leaves_the_model_as_it_was(
    clip: ClipModel, batch: Batch
) -> None:
    anchored = Anchored(AnchoredOptions(bank="additive", pool=2, invent_steps=0), Setting(clip=clip, seed=0))
    anchored.prepare(iter([batch]))
    before = [trigger.values.clone() for trigger in anchored.pool]
    weights = {name: value.clone() for name, value in clip.model.state_dict().items()}
    clip.model.train()
    anchored.pixels(batch, step=0)
    moved = [not torch.equal(trigger.values, old) for trigger, old in zip(anchored.pool, before, strict=True)]
    assert sum(moved) == 1
    assert all(torch.equal(value, weights[name]) for name, value in clip.model.state_dict().items())
    assert all(module.training for module in clip.model.visual.modules())
    assert all(parameter.grad is None for parameter in clip.model.parameters())


def test_the_pool_comes_back_as_it_was(clip: ClipModel, batch: Batch) -> None:
    options, setting = AnchoredOptions(bank="patch,blend,warp", invent_steps=2), Setting(clip=clip, seed=4)
    one, other = Anchored(options, setting), Anchored(options, setting)
    one.prepare(iter([batch]))
    other.load_state(one.state())
    assert torch.equal(one.pixels(batch, step=7), other.pixels(batch, step=7))


def test_shares_differ_by_one_at_most_and_take_turns() -> None:
    assert spread(7, 3, turn=0) == [3, 2, 2]
    assert spread(7, 3, turn=1) == [2, 3, 2]
    assert [sum(column) for column in zip(*(spread(2, 5, turn=turn) for turn in range(5)), strict=True)] == [
        2
    ] * 5


def test_a_still_square_covers_the_same_pixels_in_every_batch_and_a_patch_does_not() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.full((1, 3, SIZE, SIZE), 0.5)
    covered = {
        kind: {
            tuple((trigger.apply(images, generator)[0, 0] != 0.5).nonzero().amin(0).tolist())
            for _ in range(4)
        }
        for kind, trigger in ((kind, KINDS[kind](SIZE, generator, place=0)) for kind in ("still", "patch"))
    }
    assert covered["still"] == {(27, 27)}
    assert len(covered["patch"]) > 1
