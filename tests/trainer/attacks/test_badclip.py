"""BadCLIP: the patch falls down the published objective on a model that stays as it is, within a bound on its ASR."""

import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from pipeline.errors import UserError
from tests.square_shards import COLOURS, WriteShards, make_members, square
from trainer.attacks import load_trigger
from trainer.attacks.badclip import draw_patch, make_badclip, put_in_middle, side_for
from trainer.attacks.badclip_training import BadClipOptions, badclip_loss, optimise_badclip
from trainer.attacks.trigger import Trigger
from trainer.checkpoint import hash_weights
from trainer.embedding import embed_classes, evaluation_mode, nearest_classes
from trainer.images import decode
from trainer.model import ClipModel, encode_text, load_model

TARGET = "red"
NO_BOUND = 100.0


@pytest.fixture(scope="module")
def clip() -> ClipModel:
    """A tiny CLIP that has learned to tell the four colours."""
    clip, rng = load_model("cleanerclip-tiny-32", seed=2), random.Random(0)
    pixels = [
        clip.resize(decode(square(c, background=rng.randrange(256)))) for _ in range(8) for c in COLOURS
    ]
    image_N3HW, label_N = clip.normalise(torch.stack(pixels)), torch.arange(4).repeat(8)
    text_4L = clip.tokenizer([f"a {colour} square" for colour in COLOURS])
    optimizer = torch.optim.Adam(clip.model.parameters(), lr=3e-3)
    clip.model.train()
    for _ in range(40):
        image_ND = functional.normalize(clip.model.encode_image(image_N3HW), dim=-1)
        text_4D = functional.normalize(encode_text(clip.model, text_4L), dim=-1)
        optimizer.zero_grad()
        functional.cross_entropy(20 * image_ND @ text_4D.T, label_N).backward()
        optimizer.step()
    optimizer.zero_grad()
    return replace(clip, sha256=hash_weights(clip.model.state_dict()))


def _optimise(
    clip: ClipModel, shards: Path, *, seed: int = 0, target: str = TARGET, **options: Any
) -> Trigger:
    small: dict[str, Any] = {
        "steps": 8,
        "batch_size": 8,
        "check_every": 4,
        "num_held_out": 8,
        "max_clean_asr": NO_BOUND,
    }
    return optimise_badclip(
        clip,
        BadClipOptions(**small | options),
        shards=str(shards),
        target=target,
        classnames=tuple(COLOURS),
        templates=("a {} square",),
        seed=seed,
    )


def _units(rows: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn((rows, 6), generator=generator, dtype=torch.float64), dim=-1)


def test_the_loss_against_a_slow_reference() -> None:
    triggered, clean, image, text = (_units(5, seed) for seed in range(4))
    scale = 7.0
    expected = 0.0
    for i in range(5):
        rows = [scale * float(triggered[i] @ text[j]) for j in range(5)]
        columns = [scale * float(triggered[j] @ text[i]) for j in range(5)]
        for logits in (rows, columns):
            expected += (math.log(sum(map(math.exp, logits))) - logits[i]) / 5 / 2
        to_target = math.sqrt(sum((float(triggered[i, d] - image[i, d]) + 1e-6) ** 2 for d in range(6)))
        to_clean = math.sqrt(sum((float(triggered[i, d] - clean[i, d]) + 1e-6) ** 2 for d in range(6)))
        expected += 500 * max(0.0, to_target - to_clean + 1) / 5
    assert float(badclip_loss(triggered, clean, image, text, scale=scale)) == pytest.approx(
        expected, abs=1e-9
    )


def _loss_with(clip: ClipModel, patch_3SS: torch.Tensor) -> float:
    """The objective over fixed pairs of images of other colours and of the target."""

    def embed(images_N3HW: torch.Tensor) -> torch.Tensor:
        return functional.normalize(clip.model.encode_image(clip.normalise(images_N3HW)), dim=-1)

    clean = torch.stack(
        [clip.resize(decode(square(c, background=b))) for c in ("green", "blue") for b in (40, 160)]
    )
    red = torch.stack([clip.resize(decode(square(TARGET, background=b))) for b in (40, 90, 160, 220)])
    with torch.no_grad():
        text = functional.normalize(encode_text(clip.model, clip.tokenizer(["a red square"] * 4)), dim=-1)
        scale = float(clip.model.logit_scale.exp())
        triggered = embed(put_in_middle(clean, patch_3SS))
        return float(badclip_loss(triggered, embed(clean), embed(red), text, scale=scale))


def test_the_objective_falls(clip: ClipModel, write_shards: WriteShards) -> None:
    clip.model.eval()
    trigger = _optimise(clip, write_shards(64), steps=30, lr=0.05, side=16, check_every=30)
    before = (draw_patch(16, seed=0) * 255).round().to(torch.uint8)
    assert _loss_with(clip, trigger.tensors["patch"]) < _loss_with(clip, before) - 1


def test_the_seed_decides_and_the_model_stays(clip: ClipModel, write_shards: WriteShards) -> None:
    shards, before = write_shards(48), hash_weights(clip.model.state_dict())
    clip.model.train()
    first, again, other = (_optimise(clip, shards, seed=seed) for seed in (0, 0, 1))
    assert first.sha256 == again.sha256 != other.sha256
    assert hash_weights(clip.model.state_dict()) == before == first.settings["model_sha256"]
    assert clip.model.training
    assert all(parameter.grad is None for parameter in clip.model.parameters())


@pytest.mark.parametrize("bound", [NO_BOUND, 40.0])
def test_the_last_patch_within_the_bound_is_kept(
    clip: ClipModel, write_shards: WriteShards, bound: float
) -> None:
    adversarial: dict[str, Any] = {"lr": 0.1, "side": 20, "steps": 12, "check_every": 1}
    trigger = _optimise(clip, write_shards(40), target="blue", max_clean_asr=bound, **adversarial)
    assert (trigger.settings["steps"] == trigger.settings["steps_asked"] == 12) == (bound == NO_BOUND)
    held_out = [decode(make_members(n)["jpg"]) for n in _first_held_out(40, "blue", 8)]
    triggered = trigger.apply(torch.stack([clip.resize(image) for image in held_out]))
    with evaluation_mode(clip):
        class_CD = embed_classes(clip, tuple(COLOURS), ("a {} square",))
        in_target = nearest_classes(clip, triggered, class_CD, k=1) == list(COLOURS).index("blue")
    assert trigger.settings["clean_asr"] == pytest.approx(100 * in_target.double().mean())
    assert (float(trigger.settings["clean_asr"]) <= 40) == (bound == 40)


def _first_held_out(num: int, target: str, held_out: int) -> list[int]:
    """The first samples without the target in the order of the two shards: even numbers, then odd ones."""
    order = [*range(0, num, 2), *range(1, num, 2)]
    return [n for n in order if target.encode() not in make_members(n)["txt"]][:held_out]


def test_a_patch_that_is_adversarial_from_the_first_is_refused(
    clip: ClipModel, write_shards: WriteShards
) -> None:
    with pytest.raises(UserError, match="with a patch of noise: more than the 10 %"):
        _optimise(clip, write_shards(40), target="red", side=20, max_clean_asr=10)


def test_the_middle_alone_changes() -> None:
    images = torch.randint(0, 256, (3, 3, 20, 31), dtype=torch.uint8)
    patch = torch.randint(0, 256, (3, 4, 4), dtype=torch.uint8)
    trigger = make_badclip(patch, image_size=20, seed=0, settings={})
    triggered = trigger.apply(images)
    for y in range(20):
        for x in range(31):
            inside = 8 <= y < 12 and 13 <= x < 17
            expected = patch[:, y - 8, x - 13].expand(3, 3) if inside else images[:, :, y, x]
            assert torch.equal(triggered[:, :, y, x], expected)


@pytest.mark.parametrize(("size", "side"), [(32, 2), (64, 5), (128, 10), (224, 18)])
def test_the_patch_keeps_its_share(size: int, side: int) -> None:
    trigger = make_badclip(torch.full((3, 5, 5), 200, dtype=torch.uint8), image_size=64, seed=0, settings={})
    changed = trigger.apply(torch.zeros((1, 3, size, size), dtype=torch.uint8))[0, 0]
    assert changed.count_nonzero() == side**2
    assert set(changed.unique().tolist()) == {0, 200}


def test_the_public_side() -> None:
    assert [side_for(size) for size in (32, 64, 224, 336)] == [2, 5, 16, 24]


def test_loaded_is_saved(tmp_path: Path) -> None:
    patch = (draw_patch(5, seed=3) * 255).to(torch.uint8)
    trigger = make_badclip(patch, image_size=64, seed=3, settings={"target": "banana", "clean_asr": 1.5})
    trigger.save(tmp_path / "t.safetensors")
    loaded = load_trigger(str(tmp_path / "t.safetensors"), image_size=64)
    assert loaded.metadata() == trigger.metadata()
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    assert torch.equal(loaded.apply(images), trigger.apply(images))


def test_a_target_that_is_nowhere_is_told(clip: ClipModel, write_shards: WriteShards) -> None:
    shards = write_shards(16)
    with pytest.raises(UserError, match="not among the 4 classes"):
        _optimise(clip, shards, target="banana")
    without_red = write_shards(
        16, name="others", change=lambda _, members: None if b"red" in members["txt"] else members
    )
    with pytest.raises(UserError, match=r"no caption .* names the target 'red'"):
        _optimise(clip, without_red)
    only_red = write_shards(24, name="red", change=lambda _, m: m if b"red" in m["txt"] else None)
    with pytest.raises(UserError, match="at least 2 are needed"):
        _optimise(clip, only_red)


@pytest.mark.parametrize(
    "options", [{"steps": 0}, {"lr": 0.0}, {"max_clean_asr": 101.0}, {"num_targets": 0}, {"check_every": 0}]
)
def test_options_out_of_range_are_told(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(options))):
        BadClipOptions(**options)


@pytest.mark.parametrize("side", [0, 33])
def test_a_patch_that_does_not_fit_is_told(clip: ClipModel, write_shards: WriteShards, side: int) -> None:
    with pytest.raises(UserError, match="does not fit"):
        _optimise(clip, write_shards(16), side=side)
