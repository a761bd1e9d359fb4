"""What a run is put together from: manifests, templates, hashes."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import UserError
from trainer.data import find_shards
from trainer.runs import hash_shards, read_templates, training_shards

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
