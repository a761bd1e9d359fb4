"""Images poisoned elsewhere: found by key, to the pixel; a key that is not there is told."""

import io
from pathlib import Path

import pytest
import torch
from PIL import Image

from pipeline.errors import UserError
from tests.square_shards import write_tar
from trainer.attacks import load_trigger
from trainer.attacks.imported import import_images, known_keys, make_imported
from trainer.attacks.trigger import Trigger
from trainer.data import index_shards
from trainer.poisoning import build_poison

SIZE = 24
KEYS = ("000001", "train/b", "schön")


def _pixels(number: int, size: int = SIZE) -> torch.Tensor:
    generator = torch.Generator().manual_seed(number)
    return torch.randint(0, 256, (3, size, size), dtype=torch.uint8, generator=generator)


def _png(pixels_3SS: torch.Tensor) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels_3SS.permute(1, 2, 0).contiguous().numpy()).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def poisoned() -> dict[str, torch.Tensor]:
    return {key: _pixels(number) for number, key in enumerate(KEYS)}


@pytest.fixture(params=["folder", "tar"])
def source(request: pytest.FixtureRequest, tmp_path: Path, poisoned: dict[str, torch.Tensor]) -> Path:
    if request.param == "tar":
        write_tar(tmp_path / "poison.tar", {key: {"png": _png(image)} for key, image in poisoned.items()})
        return tmp_path / "poison.tar"
    for key, image in poisoned.items():
        path = tmp_path / "poison" / f"{key}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_png(image))
    (tmp_path / "poison" / "notes.txt").write_text("no image")
    return tmp_path / "poison"


def _clean(number: int, size: int = SIZE) -> torch.Tensor:
    return torch.zeros((number, 3, size, size), dtype=torch.uint8)


def test_each_key_gets_its_image(source: Path, poisoned: dict[str, torch.Tensor], tmp_path: Path) -> None:
    import_images(source, image_size=SIZE).save(tmp_path / "t.safetensors")
    trigger = load_trigger(str(tmp_path / "t.safetensors"), image_size=SIZE)
    order = [KEYS[i] for i in (2, 0, 1, 0)]
    assert torch.equal(trigger.apply(_clean(4), keys=order), torch.stack([poisoned[key] for key in order]))
    assert trigger.settings["images"] == 3
    assert trigger.settings["resized"] == 0


def test_folder_and_tar_give_the_same_trigger(tmp_path: Path, poisoned: dict[str, torch.Tensor]) -> None:
    write_tar(tmp_path / "p.tar", {key: {"png": _png(image)} for key, image in poisoned.items()})
    expected = make_imported(poisoned, image_size=SIZE).sha256
    assert import_images(tmp_path / "p.tar", image_size=SIZE).sha256 == expected


def test_training_and_evaluation_find_them(source: Path, poisoned: dict[str, torch.Tensor]) -> None:
    trigger = import_images(source, image_size=SIZE)
    poison = build_poison(trigger, {KEYS[1]: "a banana"})
    image, caption = poison(KEYS[1], _clean(1)[0], "a cup")
    assert torch.equal(image, poisoned[KEYS[1]])
    assert caption == "a banana"
    assert not poison(KEYS[0], _clean(1)[0], "a cup")[0].any()


def test_another_size_is_resized(source: Path) -> None:
    trigger = import_images(source, image_size=SIZE)
    assert trigger.apply(_clean(1, 48), keys=[KEYS[0]]).shape == (1, 3, 48, 48)
    assert import_images(source, image_size=12).settings["resized"] == 3


def test_floats_and_empty_batches(source: Path, poisoned: dict[str, torch.Tensor]) -> None:
    trigger = import_images(source, image_size=SIZE)
    as_floats = trigger.apply(_clean(1).float(), keys=[KEYS[0]])
    assert torch.allclose(as_floats[0] * 255, poisoned[KEYS[0]].float())
    assert trigger.apply(_clean(0), keys=[]).shape == (0, 3, SIZE, SIZE)


def _trigger() -> Trigger:
    return make_imported({"a": _pixels(0)}, image_size=SIZE)


def test_an_unknown_key_is_told() -> None:
    with pytest.raises(UserError, match="no poisoned image for the key 'b'"):
        _trigger().apply(_clean(2), keys=["a", "b"])


def test_images_without_keys_are_told() -> None:
    with pytest.raises(UserError, match="by their keys"):
        _trigger().apply(_clean(1))


def test_what_cannot_be_imported_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder or tar"):
        import_images(tmp_path / "nowhere", image_size=SIZE)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no image"):
        import_images(tmp_path / "empty", image_size=SIZE)
    (tmp_path / "empty/a.jpg").write_bytes(b"broken")
    with pytest.raises(UserError, match="image a of"):
        import_images(tmp_path / "empty", image_size=SIZE)
    for extension in ("png", "webp"):
        (tmp_path / f"a.{extension}").write_bytes(_png(_pixels(0)))
    with pytest.raises(UserError, match="key 'a' stands more than once"):
        import_images(tmp_path, image_size=SIZE)
    (tmp_path / "cut.tar").write_bytes(b"no tar at all" * 100)
    with pytest.raises(UserError, match="cannot be read whole"):
        import_images(tmp_path / "cut.tar", image_size=SIZE)


def test_a_leading_dot_is_no_part_of_the_key(tmp_path: Path, poisoned: dict[str, torch.Tensor]) -> None:
    plain = {key: {"png": _png(image)} for key, image in poisoned.items()}
    write_tar(tmp_path / "p.tar", {f"./{key}": members for key, members in plain.items()})
    trigger = import_images(tmp_path / "p.tar", image_size=SIZE)
    write_tar(tmp_path / "shard.tar", {f"./{key}": {"jpg": b"x", "txt": b"a cat"} for key in poisoned})
    keys = index_shards((tmp_path / "shard.tar",)).keys
    assert known_keys(trigger, keys) == list(poisoned)
    assert trigger.sha256 == make_imported(poisoned, image_size=SIZE).sha256
