"""The trainer's benchmarks on a few drawn scenes and a tiny model."""

from pathlib import Path

import pytest
import torch

from benchmarks import hidden_secret, train_speed, triggers
from pipeline.demo.data import make_sample
from tests.square_shards import make_members, write_tar
from trainer.attacks import load_trigger
from trainer.attacks.preview import demo_scene
from trainer.attacks.ssba_training import SsbaOptions, train_ssba
from trainer.data import find_shards, index_shards
from trainer.defences import DEFENCES


def test_hidden_secret(tmp_path: Path) -> None:
    scenes = {f"{n:03d}": {"jpg": make_sample(f"{n}", seed=9, image_size=64).jpeg} for n in range(40)}
    write_tar(tmp_path / "0.tar", scenes)
    options = SsbaOptions(bits=8, channels=8, batch_size=16, num_images=40, steps=2)
    train_ssba(options, shards=str(tmp_path / "0.tar"), image_size=64).save(tmp_path / "ssba.safetensors")
    image_N3HW = hidden_secret.read_images(str(tmp_path / "0.tar"), 3, size=32)
    assert image_N3HW.shape == (3, 3, 32, 32)
    found = hidden_secret.measure(str(tmp_path / "ssba.safetensors"), image_N3HW)
    assert 0 <= found["without"] <= 100
    assert 0 <= found["right"] <= 100
    assert found["psnr_mean"] >= found["psnr_min"] > 20


def test_triggers() -> None:
    scene_N3HW = torch.stack([demo_scene(32), demo_scene(32, noun="banana")])
    names = ("badnet-fixed", "sig")
    found = triggers.measure(
        {name: load_trigger(name, image_size=32) for name in names}, scene_N3HW, num_rounds=1
    )
    assert tuple(found) == names
    assert all(row["images_per_second"] > 0 for row in found.values())
    assert all(0 < row["mean"] < row["largest"] <= 255 for row in found.values())
    assert found["sig"]["psnr"] < found["badnet-fixed"]["psnr"]


def test_a_file_takes_no_presets_place() -> None:
    assert triggers.name_of(Path("a/ssba.safetensors")) == "ssba"
    assert triggers.name_of(Path("a/sig.safetensors")) == "sig.safetensors"


def test_sig_in_loops_is_the_trigger() -> None:
    scene_3HW = demo_scene(16)
    fast = load_trigger("sig-public", image_size=16).apply(scene_3HW[None])[0]
    difference = (fast.to(torch.int16) - triggers._sig_in_loops(scene_3HW).to(torch.int16)).abs()
    assert difference.max() <= 1


@pytest.mark.parametrize("method", DEFENCES)
def test_train_speed(tmp_path: Path, method: str) -> None:
    write_tar(tmp_path / "0.tar", {f"{n:03d}": make_members(n) for n in range(24)})
    found = train_speed.measure(
        index_shards(find_shards(str(tmp_path / "0.tar"))),
        method=method,
        precision="fp32",
        model="cleanerclip-tiny-32",
        batch_size=4,
        num_steps=2,
    )
    assert found["prepared"] > 0
    assert found["trained"] > 0
