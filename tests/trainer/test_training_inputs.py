"""What the shards, the manifest and the templates mean to a command that trains or poisons."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import UserError
from trainer.manifests import DataManifest, read_manifest, require_manifest
from trainer.training_inputs import read_templates, training_shards

MANIFEST = {
    "name": "toy",
    "classnames": ["apple", "banana"],
    "templates": ["a photo of a {}."],
    "splits": {"train": {"shards": "train/{00000..00001}.tar::more.tar"}},
}


@pytest.fixture
def manifest(tmp_path: Path) -> DataManifest:
    (tmp_path / "manifest.json").write_text(json.dumps(MANIFEST))
    return read_manifest(tmp_path / "manifest.json")


def test_shards_are_those_given_or_the_manifests(manifest: DataManifest) -> None:
    assert training_shards("a.tar", manifest) == "a.tar"
    root = manifest.root
    assert training_shards(None, manifest) == f"{root}/train/{{00000..00001}}.tar::{root}/more.tar"
    with pytest.raises(UserError, match="which shards"):
        training_shards(None, None)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tiny-imagenet", "describes parquet files"),
        ("cc3m-validation", "names no training shards"),
        ("cc3m", "cc3m-tsv"),
    ],
)
def test_a_set_without_training_shards_is_told(name: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        training_shards(None, require_manifest(name))


def test_templates_are_the_files_or_the_manifests_or_the_fields(
    manifest: DataManifest, tmp_path: Path
) -> None:
    (tmp_path / "templates.txt").write_text("the {}\n\n  one {}!  \n")
    assert read_templates(tmp_path / "templates.txt", manifest, target="banana") == ("the {}", "one {}!")
    assert read_templates(None, manifest, target="banana") == ("a photo of a {}.",)
    of_the_field = require_manifest("imagenet1k").templates
    assert read_templates(None, None, target="banana") == of_the_field
    assert read_templates(None, replace(manifest, templates=()), target="banana") == of_the_field
    assert len(of_the_field) == 80
    with pytest.raises(UserError, match="cannot be read"):
        read_templates(tmp_path / "none.txt", None, target="banana")


def test_a_target_that_is_no_class_is_refused(manifest: DataManifest) -> None:
    with pytest.raises(UserError, match=r"'pear' is not among the 2 classes of toy: apple, banana"):
        read_templates(None, manifest, target="pear")


def test_templates_that_are_not_needed_are_not_asked_for(manifest: DataManifest) -> None:
    assert read_templates(None, manifest, target="banana", needed=False) == ()
    assert read_templates(None, None, target="banana", needed=False) == ()
    with pytest.raises(UserError, match="not among the 2 classes of toy"):
        read_templates(None, manifest, target="pear", needed=False)
