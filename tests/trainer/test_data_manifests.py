"""The shipped data manifests: each is complete, and true of the data where that stands beside the project."""

import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UserError
from trainer.evals import load_labelled

FOLDER = Path(__file__).parents[2] / "data_manifests"
REAL_DATA = Path(__file__).parents[3] / "shared" / "data"
MANIFESTS = sorted(FOLDER.glob("*.json"))


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_says_where_from_under_which_licence_and_how_many(path: Path) -> None:
    manifest = _read(path)
    assert manifest["name"] == path.stem
    for field in ("description", "source", "licence", "how_to_get", "format"):
        assert isinstance(manifest[field], str)
        assert manifest[field]
    for split in manifest["splits"].values():
        assert split["num_samples"] > 0
        assert all(len(digest) == 64 for digest in split["sha256"].values())
        assert not any(Path(name).is_absolute() or ".." in Path(name).parts for name in split["sha256"])
    names = manifest.get("classnames", [])
    assert len(names) == len(set(names))
    assert all(template.count("{}") == 1 for template in manifest.get("templates", []))
    assert not names or manifest["templates"]


@pytest.mark.data
@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_is_true_of_the_data(path: Path) -> None:
    manifest = _read(path)
    files = {
        name: digest for split in manifest["splits"].values() for name, digest in split["sha256"].items()
    }
    missing = [name for name in files if not (REAL_DATA / name).is_file()]
    if missing:
        pytest.skip(f"the real data is not here: {REAL_DATA / missing[0]}")
    for name, digest in files.items():
        assert hashlib.sha256((REAL_DATA / name).read_bytes()).hexdigest() == digest
    for split in manifest["splits"].values() if manifest["format"] == "webdataset" else ():
        keys = set()
        for name in split["sha256"]:
            with tarfile.open(REAL_DATA / name) as tar:
                keys |= {member.split(".")[0] for member in tar.getnames()}
        assert len(keys) == split["num_samples"]


@pytest.mark.data
def test_a_manifest_finds_its_shards_under_another_root() -> None:
    if not (REAL_DATA / "caltech101_wds").is_dir():
        pytest.skip(f"the real data is not here: {REAL_DATA / 'caltech101_wds'}")
    data = load_labelled(str(FOLDER / "caltech101.json"), root=REAL_DATA)
    labels = [int(label) for batch in data.batches(_to_pixel, batch_size=500) for label in batch.label_N]
    assert len(labels) == 1_695
    assert set(labels) == set(range(101))
    assert data.faults == []


def _to_pixel(_: object) -> Any:
    import torch

    return torch.zeros((3, 1, 1), dtype=torch.uint8)


@pytest.mark.parametrize(("name", "message"), [("tiny-imagenet", "parquet"), ("flickr8k", "no class names")])
def test_what_cannot_be_classified_is_told(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_labelled(str(FOLDER / f"{name}.json"))
