"""Triggers as files: what is saved is what is loaded, to the pixel; what is broken is told."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pipeline.errors import UserError
from trainer.attacks import PRESETS, load_trigger

SIZE = 64


def _images(number: int = 6, size: int = SIZE) -> torch.Tensor:
    return torch.randint(
        0, 256, (number, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )


@pytest.mark.parametrize("name", PRESETS)
def test_loaded_is_saved(tmp_path: Path, name: str) -> None:
    trigger = load_trigger(name, image_size=SIZE, seed=5)
    trigger.save(tmp_path / "trigger.safetensors")
    loaded = load_trigger(str(tmp_path / "trigger.safetensors"), image_size=SIZE)
    assert loaded.sha256 == trigger.sha256
    assert torch.equal(loaded.apply(_images()), trigger.apply(_images()))
    assert loaded.metadata() == trigger.metadata()
    assert json.loads((tmp_path / "trigger.json").read_text())["sha256"] == trigger.sha256


def test_a_size_that_is_not_asked_for_is_the_files_own(tmp_path: Path) -> None:
    load_trigger("badnet", image_size=48).save(tmp_path / "t.safetensors")
    stored = str(tmp_path / "t.safetensors")
    assert load_trigger(stored).image_size == 48
    assert load_trigger("badnet").image_size == 224
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "t.safetensors").read_bytes()[:40])
    for name in (tmp_path / "cut.safetensors", tmp_path / "none.safetensors"):
        with pytest.raises(UserError, match=r"no trigger file"):
            load_trigger(str(name))


def test_saving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        load_trigger("badnet", image_size=SIZE).save(tmp_path / f"{name}.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_a_saved_file_has_the_permissions_of_any_other(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    load_trigger("badnet", image_size=SIZE).save(path)
    assert path.stat().st_mode == path.with_suffix(".json").stat().st_mode


@pytest.mark.parametrize("name", PRESETS)
def test_apply_is_pure(name: str) -> None:
    images, trigger = _images(), load_trigger(name, image_size=SIZE)
    before = images.clone()
    first = trigger.apply(images)
    assert torch.equal(images, before)
    assert first.dtype == torch.uint8
    assert first.shape == images.shape
    torch.manual_seed(3)
    assert torch.equal(trigger.apply(images), first)


@pytest.mark.parametrize("keys", [None, [f"key{i}" for i in range(6)]])
@pytest.mark.parametrize("name", PRESETS)
def test_an_image_gets_the_same_trigger_in_any_batch(name: str, keys: list[str] | None) -> None:
    images, trigger = _images(), load_trigger(name, image_size=SIZE)
    together = trigger.apply(images, keys=keys)
    for i in range(6):
        assert torch.equal(together[i], trigger.apply(images[i : i + 1], keys=keys and keys[i : i + 1])[0])


def test_an_empty_batch_stays_empty() -> None:
    assert load_trigger("badnet", image_size=SIZE).apply(_images(0)).shape == (0, 3, SIZE, SIZE)


def test_another_seed_is_another_trigger() -> None:
    first, second = (load_trigger("badnet", image_size=SIZE, seed=seed) for seed in (0, 1))
    assert first.sha256 != second.sha256
    assert not torch.equal(first.tensors["patch"], second.tensors["patch"])


def test_an_unknown_name_names_the_known_ones() -> None:
    with pytest.raises(UserError, match="badnet-public"):
        load_trigger("wanett", image_size=SIZE)


def test_a_missing_file_is_told() -> None:
    with pytest.raises(UserError, match="no trigger file"):
        load_trigger("nowhere/trigger.safetensors", image_size=SIZE)


def test_a_changed_pixel_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "trigger.safetensors"
    load_trigger("badnet", image_size=SIZE).save(path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="sha256"):
        load_trigger(str(path), image_size=SIZE)


@pytest.mark.parametrize("keep", [0, 7, 60, -1])
def test_a_cut_file_is_told(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "trigger.safetensors"
    load_trigger("badnet", image_size=SIZE).save(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match="broken"):
        load_trigger(str(path), image_size=SIZE)


@pytest.mark.parametrize("header", [None, {"trigger": "[1]"}, {"trigger": "{}"}, {"trigger": "{"}])
def test_safetensors_of_another_kind_are_no_trigger(tmp_path: Path, header: dict[str, str] | None) -> None:
    save_file({"patch": torch.zeros(3)}, tmp_path / "weights.safetensors", metadata=header)
    with pytest.raises(UserError, match="no trigger file"):
        load_trigger(str(tmp_path / "weights.safetensors"), image_size=SIZE)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("shape", [(40, 64), (96, 31), (128, 128), (1, 1), (3, 200)])
def test_images_of_any_size(name: str, shape: tuple[int, int]) -> None:
    images = torch.randint(0, 256, (2, 3, *shape), dtype=torch.uint8)
    triggered = load_trigger(name, image_size=SIZE).apply(images)
    assert triggered.shape == images.shape
    assert shape == (1, 1) or not torch.equal(triggered, images)


@pytest.mark.parametrize("name", PRESETS)
def test_floats_get_what_bytes_get(name: str) -> None:
    images, trigger = _images(), load_trigger(name, image_size=SIZE)
    as_bytes = trigger.apply(images)
    for dtype in (torch.float32, torch.float64):
        floats = (images.to(torch.float64) / 255).to(dtype)
        triggered = trigger.apply(floats)
        assert triggered.dtype == dtype
        assert 0 <= float(triggered.min()) <= float(triggered.max()) <= 1
        exact = triggered.double() * 255
        assert float((exact - as_bytes.double()).abs().max()) <= (
            1.001 if trigger.settings.get("rounding") == "cut" else 0.501
        )


def test_slices_and_strides_do_not_matter() -> None:
    trigger = load_trigger("badnet", image_size=SIZE)
    images = _images(200)  # more than are taken at a time
    turned = images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    assert torch.equal(trigger.apply(turned), trigger.apply(images))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (_images()[0], "triggers take images"),
        (_images()[:, :1], "triggers take images"),
        (_images()[..., :0], "triggers take images"),
        (_images().float(), "must lie in 0..1"),
        (_images().int(), "uint8 or float images"),
        (torch.full((1, 3, 4, 4), float("nan")), "must lie in 0..1"),
    ],
)
def test_what_is_no_image_is_refused(wrong: torch.Tensor, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        load_trigger("badnet", image_size=SIZE).apply(wrong)


def test_a_file_made_at_another_size_is_applied(tmp_path: Path) -> None:
    load_trigger("badnet-fixed", image_size=SIZE).save(tmp_path / "t.safetensors")
    triggered = load_trigger(str(tmp_path / "t.safetensors"), image_size=128).apply(
        torch.zeros((1, 3, 128, 128), dtype=torch.uint8)
    )
    assert triggered[0].any(0).nonzero().amin(0).tolist() == [118, 118]  # 5 of 64 pixels are 10 of 128


def test_a_consistent_but_impossible_file_is_told(tmp_path: Path) -> None:
    trigger = load_trigger("badnet", image_size=SIZE)
    object.__setattr__(trigger, "settings", {**trigger.settings, "side": 9})
    trigger.save(tmp_path / "t.safetensors")
    with pytest.raises(UserError, match="cannot be applied"):
        load_trigger(str(tmp_path / "t.safetensors"), image_size=SIZE)
