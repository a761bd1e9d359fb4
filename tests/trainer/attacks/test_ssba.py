"""SSBA: the secret is there and can be read, at the PSNR that was asked for, in images of any size."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from pipeline.demo.data import make_sample
from pipeline.errors import UserError
from tests.square_shards import WriteShards, write_tar
from trainer.attacks import load_trigger
from trainer.attacks.ssba import draw_weights, embed, encode, read_secret, shrink, spread
from trainer.attacks.ssba_training import SsbaOptions, measure_hiding, train_ssba
from trainer.attacks.trigger import Trigger

SHORT: dict[str, Any] = {"bits": 8, "channels": 8, "batch_size": 16, "lr": 1e-2, "num_images": 120}


def _demo_shard(path: Path, number: int) -> str:
    write_tar(
        path, {f"{n:05d}": {"jpg": make_sample(f"{n}", seed=9, image_size=64).jpeg} for n in range(number)}
    )
    return str(path)


def _images(number: int = 4, height: int = 64, width: int = 64) -> torch.Tensor:
    return torch.rand((number, 3, height, width), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trigger:
    shard = _demo_shard(tmp_path_factory.mktemp("demo") / "0.tar", 120)
    return train_ssba(SsbaOptions(steps=120, **SHORT), shards=shard, image_size=64, seed=1)


def _read(image_size: int, first: int, number: int = 24) -> torch.Tensor:
    from trainer import images

    samples = [make_sample(f"{n}", seed=77, image_size=image_size) for n in range(first, first + number)]
    return torch.stack([images.to_tensor(images.decode(sample.jpeg)) for sample in samples])


@pytest.mark.parametrize("size", [64, 96, 224])
def test_the_secret_is_read_from_images_never_seen(trained: Trigger, size: int) -> None:
    clean = _read(size, 0)
    right = read_secret(trained, trained.apply(clean)) == trained.tensors["secret"].bool()
    without = read_secret(trained, clean) == trained.tensors["secret"].bool()
    assert right.float().mean() >= 0.95
    assert without.float().mean() < 0.85


def test_the_change_is_as_small_as_asked(trained: Trigger) -> None:
    clean = _read(64, 50)
    difference = (trained.apply(clean).double() - clean.double()) / 255
    decibels = -10 * (difference**2).mean(dim=(1, 2, 3)).log10()
    assert decibels.min() >= 30
    assert decibels.mean() < 33


def test_what_the_file_says_was_measured(trained: Trigger) -> None:
    assert trained.settings["held_out_images"] == 12
    assert trained.settings["train_images"] == 108
    assert 0.95 <= float(trained.settings["bit_accuracy"]) <= 1
    assert float(trained.settings["psnr_min"]) >= 30
    assert "not StegaStamp" in str(trained.settings["encoder"])


def test_the_residual_depends_on_the_image(trained: Trigger) -> None:
    clean = _read(64, 0) / 255
    residual = trained.apply_to(trained, clean, [""] * len(clean)) - clean
    likeness = functional.cosine_similarity(residual[:1].flatten(1), residual[1:].flatten(1))
    assert likeness.max() < 0.98
    assert likeness.mean() > 0.3


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 64), (50, 75), (224, 160), (20, 24)])
def test_embedding_against_a_slow_reference(height: int, width: int) -> None:
    weights = {name: tensor.double() for name, tensor in draw_weights(bits=8, channels=4, seed=2).items()}
    clean = _images(3, height, width).double()
    secret = torch.randint(0, 2, (3, 8), generator=torch.Generator().manual_seed(3)).double()
    hidden = embed({n: t.float() for n, t in weights.items()}, clean.float(), secret.float(), psnr=31)
    for i in range(3):
        residual = encode(weights, shrink(clean[i : i + 1]), spread(weights, secret[i : i + 1]))
        large = functional.interpolate(residual, size=(height, width), mode="bilinear")[0]
        large *= 10 ** (-31 / 20) / math.sqrt(float((large**2).sum()) / large.numel())
        assert torch.allclose(hidden[i].double(), clean[i] + large, atol=1e-5)


def test_one_secret_for_all_is_that_secret_for_each() -> None:
    weights, clean = draw_weights(bits=8, channels=4, seed=2), _images()
    secret = torch.tensor([[1.0, 0, 0, 1, 1, 0, 1, 0]])
    assert torch.allclose(
        embed(weights, clean, secret, psnr=30), embed(weights, clean, secret.expand(4, 8), psnr=30), atol=1e-6
    )


@pytest.mark.parametrize("size", [(64, 96), (128, 64), (33, 50)])
def test_shrinking_is_by_area(size: tuple[int, int]) -> None:
    clean = _images(2, *size)
    assert torch.allclose(shrink(clean), functional.interpolate(clean, size=(32, 32), mode="area"), atol=1e-6)


def test_a_pixel_differs_by_one_level_at_most_between_batches(trained: Trigger) -> None:
    clean = _read(64, 0)
    together = trained.apply(clean).int()
    alone = torch.cat([trained.apply(image[None]) for image in clean]).int()
    assert (together - alone).abs().max() <= 1
    assert (together != alone).double().mean() < 1e-3


def test_a_flat_image_gets_a_residual_and_no_nan(trained: Trigger) -> None:
    for level in (0, 128, 255):
        flat = torch.full((1, 3, 64, 64), level, dtype=torch.uint8)
        assert (trained.apply(flat) != level).any()


def test_loaded_is_saved(trained: Trigger, tmp_path: Path) -> None:
    trained.save(tmp_path / "ssba.safetensors")
    loaded = load_trigger(str(tmp_path / "ssba.safetensors"), image_size=224)
    assert loaded.sha256 == trained.sha256
    assert torch.equal(loaded.apply(_read(64, 0, 2)), trained.apply(_read(64, 0, 2)))


def test_the_seed_decides(write_shards: WriteShards) -> None:
    shards, options = str(write_shards(40)), SsbaOptions(steps=3, **SHORT)
    hashes: list[str] = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(hashes))
        hashes.append(train_ssba(options, shards=shards, image_size=32, seed=seed).sha256)
    assert hashes[0] == hashes[1] != hashes[2]


def test_training_lets_the_decoder_read(trained: Trigger) -> None:
    fresh = draw_weights(bits=8, channels=8, seed=0)
    assert measure_hiding(fresh, _read(64, 0), psnr=30.5).bit_accuracy < 0.75
    assert measure_hiding(dict(trained.tensors), _read(64, 0), psnr=30.5).bit_accuracy >= 0.95


@pytest.mark.parametrize(
    "options", [{"bits": 0}, {"psnr": 5.0}, {"steps": 0}, {"lr": 0.0}, {"num_images": 3}]
)
def test_options_out_of_range_are_told(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(options))):
        SsbaOptions(**options)


def test_shards_without_images_are_told(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", {f"{n}": {"txt": b"no image", "jpg": b"broken"} for n in range(20)})
    with pytest.raises(UserError, match="0 images"):
        train_ssba(SsbaOptions(**SHORT), shards=str(tmp_path / "0.tar"), image_size=64)


@pytest.mark.slow
def test_the_default_training_hides_32_bits(tmp_path: Path) -> None:
    shard = _demo_shard(tmp_path / "0.tar", 1_500)
    trigger = train_ssba(SsbaOptions(), shards=shard, image_size=64)
    assert float(trigger.settings["bit_accuracy"]) >= 0.95
    assert float(trigger.settings["psnr_min"]) >= 30
    for size in (64, 224):
        clean = _read(size, 0, 64)
        assert (
            read_secret(trigger, trigger.apply(clean)) == trigger.tensors["secret"].bool()
        ).float().mean() >= 0.95
