"""Labelled data: what is read, and what is told of data, manifests and class names that do not fit together."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from pipeline.errors import UserError
from tests.evaluation_inputs import NAMES, noise, write_labelled
from trainer.evals import load_labelled, read_classnames
from trainer.manifests import default_templates

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    return partial(write_labelled, tmp_path)


@pytest.mark.parametrize("label", ["3", "-1", "cat", "999999999999999999999", ""])
def test_a_label_without_a_class_is_told(write: Write, label: str) -> None:
    with pytest.raises(UserError, match="0 to 2"):
        load_labelled(str(write([(noise(0), "0"), (noise(1), label)])))


def test_class_names_and_templates_are_checked(write: Write, tmp_path: Path) -> None:
    manifest = str(write([(noise(0), "0")]))
    with pytest.raises(UserError, match="1 class names, and toy has 3"):
        load_labelled(manifest, classnames=["one"])
    with pytest.raises(UserError, match="exactly one"):
        load_labelled(manifest, templates=["a photo"])
    with pytest.raises(UserError, match="without class names"):
        load_labelled(str(tmp_path / "00000.tar"))
    shards = load_labelled(str(tmp_path / "00000.tar"), classnames=NAMES)
    assert shards.classnames == NAMES
    assert shards.templates == default_templates()
    with pytest.raises(UserError, match="at least 2"):
        load_labelled(str(tmp_path / "00000.tar"), classnames=["one"])


def test_a_class_too_few_is_found_before_any_image_is_decoded(write: Write, tmp_path: Path) -> None:
    names = tuple(f"thing {i}" for i in range(1_000))
    manifest = str(write([(b"no image", "0"), (b"no image", "999")], classnames=names))
    with pytest.raises(UserError, match="999 class names, and toy has 1000 classes"):
        load_labelled(manifest, classnames=names[:999])
    with pytest.raises(UserError, match="label '999', and the 999 class names"):
        load_labelled(str(tmp_path / "00000.tar"), classnames=names[:999])
    assert load_labelled(str(tmp_path / "00000.tar"), classnames=names).scan().num_per_class[999] == 1


def test_a_sample_too_few_is_told(write: Write) -> None:
    path = write([(noise(0), "0"), (noise(1), "1")])
    path.write_text(path.read_text().replace('"num_samples": 2', '"num_samples": 3'))
    with pytest.raises(UserError, match="has 3 samples in test, and there are 2"):
        load_labelled(str(path))


def test_a_changed_shard_is_noticed(write: Write) -> None:
    path = write([(noise(0), "0")])
    manifest = json.loads(path.read_text())
    manifest["splits"]["test"]["sha256"] = {"00000.tar": "0" * 64}
    path.write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="not the file"):
        load_labelled(str(path))


@pytest.mark.parametrize("text", ["[]", "{}", '{"splits": {"test": {}}}', '{"splits": []}', "{", "null"])
def test_what_is_no_manifest_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(UserError):
        load_labelled(str(tmp_path / "manifest.json"))


def test_a_missing_manifest_or_split_is_told(write: Write) -> None:
    path = write([(noise(0), "0")])
    with pytest.raises(UserError, match=r"'val'.*test"):
        load_labelled(str(path), split="val")
    with pytest.raises(UserError, match="no data manifest"):
        load_labelled("nowhere.json")


def test_class_names_come_as_lines_or_json(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("cat\ndog\n\nbanana\n")
    (tmp_path / "names.json").write_text('["cat", "dog", "banana"]')
    assert read_classnames(tmp_path / "names.txt") == read_classnames(tmp_path / "names.json") == NAMES
    (tmp_path / "names.json").write_text('{"cat": 1}')
    with pytest.raises(UserError, match="JSON list"):
        read_classnames(tmp_path / "names.json")
