"""The shipped data manifests: each keeps to the schema, and is true of the data that stands beside the project."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.demo.data import TEMPLATES, DemoOptions, write_demo_data
from pipeline.demo.drawings import NOUNS
from pipeline.errors import UserError
from tests.places import REAL_DATA, ROOT
from trainer.evals import load_labelled
from trainer.evals.data_check import check_data
from trainer.manifests import open_manifest, problems_of, read_manifest, require_manifest, shipped_names

FOLDER = ROOT / "data_manifests"
MANIFESTS = sorted(FOLDER.glob("*.json"))
PROBE_SETS = {"cifar100", "imagenet1k", "dtd", "stl10", "svhn", "food101", "oxford-iiit-pet", "rendered-sst2"}
CLASSES = {
    "imagenet1k": (1_000, "banana", 954), "cifar100": (100, "maple tree", 47), "dtd": (47, "polka-dotted", 30),
    "stl10": (10, "monkey", 7), "svhn": (10, "seven", 7), "food101": (101, "waffles", 100),
    "oxford-iiit-pet": (37, "Pug", 25), "rendered-sst2": (2, "positive", 1), "caltech101": (101, "face", 0),
    "tiny-imagenet": (200, "banana", None), "tiny-imagenet-full": (200, "banana", None), "cifar10": (10, "truck", 9),
    "cifar10-full": (10, "truck", 9), "demo-scenes": (30, "banana", 3),
}  # fmt: skip


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_keeps_to_the_schema(path: Path) -> None:
    content = _read(path)
    assert list(problems_of(content, complete=True)) == []
    assert content["name"] == path.stem
    assert not content.get("classnames") or content["templates"]
    manifest = read_manifest(path)
    expected = CLASSES.get(path.stem, (0, None, None))
    assert len(manifest.classnames) == expected[0]
    assert expected[1] is None or expected[1] in manifest.classnames
    assert expected[2] is None or manifest.classnames.index(str(expected[1])) == expected[2]


def test_every_set_that_is_needed_has_one() -> None:
    others = {"cifar10", "cc3m", "cc500k", "sbu", "coco-captions", "flickr8k", "caltech101", "tiny-imagenet"}
    assert others | PROBE_SETS | {"demo-scenes"} <= set(shipped_names()) == {path.stem for path in MANIFESTS}


def test_the_demo_scenes_are_those_that_are_drawn(tmp_path: Path) -> None:
    manifest = _read(FOLDER / "demo-scenes.json")
    assert (manifest["classnames"], manifest["templates"]) == (list(NOUNS), list(TEMPLATES))
    drawn = _read(write_demo_data(tmp_path, DemoOptions(seed=1, num_train=20, num_test_per_class=1)))
    assert list(problems_of(drawn)) == []
    assert drawn["name"] == manifest["name"]


@pytest.mark.data
@pytest.mark.parametrize(
    "path",
    [path for path in MANIFESTS if any(split["sha256"] for split in _read(path)["splits"].values())],
    ids=lambda path: path.stem,
)
def test_is_true_of_the_data(path: Path) -> None:
    manifest = read_manifest(path, root=REAL_DATA)
    missing = [n for s in manifest.splits.values() for n in s.sha256 if not (REAL_DATA / n).is_file()]
    if missing:
        pytest.skip(f"the real data is not here: {REAL_DATA / missing[0]}")
    for found in check_data(manifest):
        assert found.problems == []
        assert found.num_samples == manifest.splits[found.name].num_samples


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "split", "num", "classes"),
    [
        ("caltech101", "test", 1_695, 101),
        ("tiny-imagenet", "test", 10_000, 200),
        ("cifar10", "test", 10_000, 10),
    ],
)
def test_labels_are_read_from_shards_and_from_parquet(name: str, split: str, num: int, classes: int) -> None:
    if not REAL_DATA.is_dir():
        pytest.skip(f"the real data is not here: {REAL_DATA}")
    data = load_labelled(str(FOLDER / f"{name}.json"), root=REAL_DATA, split=split)
    scan = data.scan()
    assert (scan.num_samples, sum(scan.num_per_class)) == (num, num)
    assert sum(count > 0 for count in scan.num_per_class) == classes
    assert data.faults == []
    key, image, label = next(data.decoded())
    assert key
    assert min(image.size) >= 32
    assert 0 <= label < classes


@pytest.mark.data
def test_names_and_templates_are_those_of_the_field() -> None:
    folder = REAL_DATA / "classnames"
    if not folder.is_dir():
        pytest.skip(f"the real data is not here: {folder}")
    field = _read(folder / "imagenet1k_cifar10.json")["imagenet1k"]
    ours = _read(FOLDER / "imagenet1k.json")
    assert (ours["classnames"], ours["templates"]) == (field["classes"], field["templates"])
    wnids = sorted(path.name.split("_")[0] for path in (REAL_DATA / "imagenet1k_samples").glob("*.jpg"))
    assert ours["class_ids"] == wnids


@pytest.mark.parametrize("name", ["flickr8k", "cc3m", "coco-captions"])
def test_what_cannot_be_classified_is_told(name: str) -> None:
    with pytest.raises(UserError, match=r"no class names|pack them as WebDataset"):
        load_labelled(name, split="train")


def test_a_name_finds_the_shipped_manifest_and_a_path_its_own(tmp_path: Path) -> None:
    shipped = require_manifest("cifar100")
    assert shipped.path.read_bytes() == (FOLDER / "cifar100.json").read_bytes()
    assert shipped.root == Path()
    assert require_manifest("cifar100", root=tmp_path).root == tmp_path
    copy = tmp_path / "a.json"
    copy.write_bytes(shipped.path.read_bytes())
    assert require_manifest(str(copy)) == replace(shipped, path=copy, root=tmp_path)
    assert open_manifest(str(tmp_path)) is None
    assert open_manifest("no-such-set") is None
    for source in (str(tmp_path / "b.json"), "no-such-set"):
        with pytest.raises(UserError, match=r"there is no data manifest .*; shipped ones: caltech101"):
            require_manifest(source)


def _set(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content.update(changes)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_set(name=""), "name must be a text"),
        (_set(licence=None), "the field licence is missing"),
        (_set(format="zip"), "format must be one of"),
        (_set(licens="x"), "the field licens is unknown"),
        (_set(classnames=["a", 3]), "classnames must be a list of texts"),
        (_set(templates=["a {}", "b"]), "templates must have exactly one {} each"),
        (_set(templates=["a {}", "a {}"]), "templates holds 'a {}' more than once"),
        (_set(class_ids=["x"]), "classnames and class_ids differ in number: 2 and 1"),
        (_set(columns={"picture": "jpg"}), "columns knows image, class, class_name, file, not 'picture'"),
        (_set(format="parquet"), "columns must name the column `image`"),
        (_set(splits={}), "splits must be an object with at least one split"),
        (_set(splits={"a": {}}), "splits a: must say its shards"),
        (_set(splits={"a": {"shards": "/a.tar"}}), "splits a: shards must stand below the root"),
        (_set(splits={"a": {"shards": "x.tar::../a.tar"}}), "splits a: shards must stand below the root"),
        (_set(splits={"a": {"shards": "a", "num_samples": 0}}), "splits a: num_samples must be a number above 0"),
        (_set(splits={"a": {"shards": "a", "num_samples": True}}), "splits a: num_samples must be a number above 0"),
        (_set(splits={"a": {"shards": "a", "sha256": {"a": "00"}}}), "sha256 of a must be 64 hexadecimal digits"),
        (_set(splits={"a": {"shards": "a", "sha256": {"../a": "0" * 64}}}), "which is not below the root"),
    ],
)  # fmt: skip
def test_the_schema_finds_each_mistake(change: Callable[[dict[str, Any]], None], said: str) -> None:
    texts = dict.fromkeys(("name", "description", "source", "licence", "how_to_get"), "x")
    content: dict[str, Any] = texts | {
        "format": "webdataset",
        "classnames": ["a", "b"],
        "templates": ["a {}"],
    }
    content["splits"] = {"test": {"shards": "a.tar"}}
    assert list(problems_of(content, complete=True)) == []
    change(content)
    (problem,) = problems_of(content, complete=True)
    assert said in problem
