"""What a run is put together from: manifests, templates, hashes."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import UserError
from trainer.attacks import load_trigger
from trainer.data import find_shards
from trainer.runs import hash_shards, load_sized_trigger, read_templates, training_shards, world_of

WriteShards = Callable[..., Path]
MANIFEST = {
    "name": "toy",
    "classnames": ["apple", "banana"],
    "templates": ["a photo of a {}."],
    "splits": {"train": {"shards": "train/{00000..00001}.tar"}},
}


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    (tmp_path / "manifest.json").write_text(json.dumps(MANIFEST))
    return tmp_path / "manifest.json"


def test_shards_are_those_given_or_the_manifests(manifest: Path) -> None:
    assert training_shards("a.tar", manifest) == "a.tar"
    assert training_shards(None, manifest) == str(manifest.parent / "train/{00000..00001}.tar")
    with pytest.raises(UserError, match="which shards"):
        training_shards(None, None)
    manifest.write_text('{"splits": {"test": {}}}')
    with pytest.raises(UserError, match="names no training shards"):
        training_shards(None, manifest)


def test_templates_are_the_files_or_the_manifests(manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "templates.txt").write_text("the {}\n\n  one {}!  \n")
    assert read_templates(tmp_path / "templates.txt", manifest, target="banana") == ("the {}", "one {}!")
    assert read_templates(None, manifest, target="banana") == ("a photo of a {}.",)
    with pytest.raises(UserError, match="which captions do poisoned samples get"):
        read_templates(None, None, target="banana")
    with pytest.raises(UserError, match="cannot be read"):
        read_templates(tmp_path / "none.txt", None, target="banana")


def test_a_target_that_is_no_class_is_refused(manifest: Path) -> None:
    with pytest.raises(UserError, match=r"'pear' is not among the manifest's 2 classes \(apple, banana"):
        read_templates(None, manifest, target="pear")


def test_templates_that_are_not_needed_are_not_asked_for(manifest: Path) -> None:
    assert read_templates(None, manifest, target="banana", needed=False) == ()
    assert read_templates(None, None, target="banana", needed=False) == ()
    with pytest.raises(UserError, match="not among the manifest's 2 classes"):
        read_templates(None, manifest, target="pear", needed=False)


def test_what_a_manifest_passes_on(manifest: Path) -> None:
    assert world_of(manifest) == {name: MANIFEST[name] for name in ("classnames", "templates")}
    assert world_of(None) == {}


def test_a_trigger_has_the_size_asked_for_or_its_files_own(tmp_path: Path) -> None:
    load_trigger("badnet", image_size=48).save(tmp_path / "t.safetensors")
    stored = str(tmp_path / "t.safetensors")
    assert load_sized_trigger("badnet", image_size=32, seed=0).image_size == 32
    assert load_sized_trigger("badnet", image_size=None, seed=0).image_size == 224
    assert load_sized_trigger(stored, image_size=None, seed=1).image_size == 48
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "t.safetensors").read_bytes()[:40])
    for name in (tmp_path / "cut.safetensors", tmp_path / "none.safetensors", "nothing"):
        with pytest.raises(UserError, match=r"no trigger file"):
            load_sized_trigger(str(name), image_size=None, seed=0)


@pytest.mark.parametrize(
    ("text", "said"), [("{", "is no JSON"), ("[]", "no JSON object"), (None, "cannot be read")]
)
def test_broken_manifests_get_one_clear_line(tmp_path: Path, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / "m.json").write_text(text)
    with pytest.raises(UserError, match=said):
        training_shards(None, tmp_path / "m.json")


def test_the_shards_hash_is_of_names_and_content(write_shards: WriteShards) -> None:
    folder = write_shards(4)
    first = hash_shards(find_shards(str(folder)))
    assert first == hash_shards(find_shards(f"{folder}/*.tar"))
    with (folder / "00000.tar").open("r+b") as file:
        file.seek(600)
        file.write(b"changed")
    assert first != hash_shards(find_shards(str(folder)))


def test_a_manifest_beside_the_shards_stands_for_their_content(write_shards: WriteShards) -> None:
    folder = write_shards(4)
    first = hash_shards(find_shards(str(folder)))
    (folder / "manifest.json").write_text("{}")
    second = hash_shards(find_shards(str(folder)))
    (folder / "manifest.json").write_text('{"seed": 1}')
    assert len({first, second, hash_shards(find_shards(str(folder)))}) == 3
