"""`trainer data check`: what is missing from a local copy, a line each, and exit code 1 where anything is."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.evaluation_inputs import NAMES, Trainer, noise, png, run_trainer, write_labelled, write_tar
from trainer.evals import load_labelled
from trainer.evals.data_check import MAX_LINES, SAMPLED


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Trainer:
    return run_trainer(monkeypatch, capsys)


def _splits(
    folder: Path, num: int | None, *, sha256: bool = True, shards: str = "00000.tar"
) -> dict[str, Any]:
    digest = hashlib.sha256((folder / "00000.tar").read_bytes()).hexdigest()
    return {"test": {"shards": shards, "num_samples": num, "sha256": {"00000.tar": digest} if sha256 else {}}}


def _change(path: Path, **changes: Any) -> Path:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return path


def _parquet(folder: Path, rows: list[dict[str, Any]], **changes: Any) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), folder / "a.parquet", row_group_size=2)
    content: dict[str, Any] = {"name": "toy", "format": "parquet", "classnames": NAMES, "templates": ["a {}"]}
    content["columns"] = {"image": "jpg", "class": "label", "file": "name"}
    content["splits"] = {"test": {"shards": "a.parquet", "num_samples": len(rows)}}
    (folder / "manifest.json").write_text(json.dumps(content | changes))
    return folder / "manifest.json"


def test_a_whole_copy_is_as_described(trainer: Trainer, tmp_path: Path) -> None:
    path = write_labelled(tmp_path, [(noise(i), str(i % 3)) for i in range(6)])
    _change(path, splits=_splits(tmp_path, 6))
    code, out, error = trainer("data", "check", path)
    assert (code, out) == (0, "")
    assert error == "test: 1 file, 6 samples, 3 classes, 6 images decoded: as described\n"


def test_what_is_missing_gets_a_line_each(trainer: Trainer, tmp_path: Path) -> None:
    samples: list[tuple[Image.Image | bytes | None, str | None]] = [
        (noise(0), "0"),
        (b"x", "1"),
        (None, "1"),
        (noise(1), None),
    ]
    path = write_labelled(tmp_path, samples)
    splits = _splits(tmp_path, 5, sha256=False) | {
        "train": {"shards": "train/*.tar", "sha256": {"b.tar": "0" * 64}}
    }
    splits["test"]["sha256"] = {"00000.tar": "0" * 64}
    code, out, error = trainer("data", "check", _change(path, splits=splits))
    lines = out.splitlines()
    assert code == 1
    assert "00000.tar is not the file that manifest.json describes" in lines[0]
    assert lines[1] == "test: 4 samples instead of 5 in 00000.tar"
    assert lines[2:6] == [
        "test: 00000.tar: 0002: no image",
        "test: 00000.tar: 0003: no .cls label",
        "test: 1 of 3 classes have no image: banana",
        "test: 00000.tar: 0001: no image format that is known",
    ]
    assert lines[6].endswith("b.tar is missing")
    assert len(lines) == 7
    assert error.splitlines()[0].endswith("6 problems")
    assert trainer("data", "check", path, "--split", "train")[1].count("\n") == 1


def test_other_places_are_looked_in_with_root(trainer: Trainer, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    path = write_labelled(tmp_path / "here", [(noise(i), str(i % 3)) for i in range(3)])
    moved = tmp_path / "manifest.json"
    moved.write_bytes(path.read_bytes())
    code, out, _ = trainer("data", "check", moved)
    assert (code, len(out.splitlines())) == (1, 1)
    assert "test: no shard at" in out
    assert trainer("data", "check", moved, "--root", tmp_path / "here")[0] == 0


def test_a_label_out_of_range_is_a_line(trainer: Trainer, tmp_path: Path) -> None:
    path = write_labelled(tmp_path, [(noise(0), "0"), (noise(1), "3")])
    code, out, _ = trainer("data", "check", path)
    assert (code, len(out.splitlines())) == (1, 1)
    assert "00000.tar: 0001 has the label '3', and the 3 class names of toy stand for 0 to 2" in out


def test_all_images_are_decoded_only_where_asked_for(trainer: Trainer, tmp_path: Path) -> None:
    good = png(noise(0, 4))
    num = SAMPLED + MAX_LINES + 5
    members = [(f"{i:04d}.{ext}", data) for i in range(num) for ext, data in (
        ("png", good if i < SAMPLED else b"broken"), ("cls", str(i % 3).encode())
    )]  # fmt: skip
    path = write_labelled(tmp_path, [])
    write_tar(tmp_path / "00000.tar", members)
    _change(path, splits=_splits(tmp_path, num))
    assert trainer("data", "check", path)[:2] == (0, "")
    code, out, _ = trainer("data", "check", path, "--full")
    assert (code, len(out.splitlines())) == (1, MAX_LINES + 1)
    assert out.splitlines()[-1] == "test: and 5 more like these"


def test_captioned_shards_need_no_labels(trainer: Trainer, tmp_path: Path) -> None:
    path = write_labelled(tmp_path, [])
    write_tar(
        tmp_path / "00000.tar", [("a.png", png(noise(0))), ("a.txt", b"a dog"), ("b.png", png(noise(1)))]
    )
    _change(path, splits=_splits(tmp_path, 2))
    assert trainer("data", "check", path)[1].splitlines() == ["test: 00000.tar: b: no caption"]


def test_lists_of_captions_are_counted(trainer: Trainer, tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("a dog\thttp://x\na cat\thttp://y\nno tab\n")
    (tmp_path / "b.json").write_text(json.dumps({"annotations": [{}, {}]}))
    (tmp_path / "c.json").write_text("{}")
    manifest = tmp_path / "manifest.json"
    for name, kind, num, said in (
        ("a.tsv", "cc3m-tsv", 3, ["t: a.tsv: line 3 is not caption, tab, URL"]),
        ("a.tsv", "image-url-list", 3, []),
        ("a.tsv", "image-url-list", 4, ["t: 3 samples instead of 4 in a.tsv"]),
        ("b.json", "coco-json", 2, []),
        ("c.json", "coco-json", 2, [f"t: {tmp_path / 'c.json'} holds no COCO annotations"]),
    ):
        splits = {"t": {"shards": name, "num_samples": num}}
        manifest.write_text(json.dumps({"name": "toy", "format": kind, "splits": splits}))
        code, out, _ = trainer("data", "check", manifest)
        assert (code, out.splitlines()) == (1 if said else 0, said)


def test_parquet_rows_have_labels_by_name_number_or_id(trainer: Trainer, tmp_path: Path) -> None:
    image = png(noise(0))
    rows = [{"jpg": image, "label": name, "name": f"f{i}"} for i, name in enumerate(("dog", "banana", "cat"))]
    path = _parquet(tmp_path, rows)
    assert trainer("data", "check", path)[:2] == (0, "")
    data = load_labelled(str(path))
    assert [(key, label) for key, _, label in data.decoded()] == [("f0", 1), ("f1", 2), ("f2", 0)]
    renamed = load_labelled(str(path), classnames=["a cat", "a dog", "a banana"])
    assert [label for _, _, label in renamed.decoded()] == [1, 2, 0]
    ids = [row | {"label": f"n0{i}"} for i, row in enumerate(rows)]
    path = _parquet(
        tmp_path, ids, class_ids=["n02", "n00", "n01"], columns={"image": "jpg", "class": "label"}
    )
    found = [(key, label) for key, _, label in load_labelled(str(path)).decoded()]
    assert found == [("a-0000000", 1), ("a-0000001", 2), ("a-0000002", 0)]
    nested = [{"jpg": {"bytes": image, "path": None}, "label": 2, "name": "x"}]
    assert [label for _, _, label in load_labelled(str(_parquet(tmp_path, nested))).decoded()] == [2]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"jpg": b"x", "label": "horse", "name": "f"}], "a.parquet: f has the label 'horse'"),
        ([{"jpg": b"x", "klass": "cat", "name": "f"}], "has no column 'label'; it has: jpg, klass, name"),
        ([{"jpg": b"x", "label": "cat", "name": "f"}], "test: a.parquet: f: no image format that is known"),
    ],
)
def test_what_is_wrong_with_parquet_is_told(trainer: Trainer, tmp_path: Path, rows: Any, said: str) -> None:
    code, out, _ = trainer("data", "check", _parquet(tmp_path, rows))
    assert code == 1
    assert said in out


def test_what_is_no_parquet_is_told(trainer: Trainer, tmp_path: Path) -> None:
    path = _parquet(tmp_path, [{"jpg": b"x", "label": "cat", "name": "f"}])
    (tmp_path / "a.parquet").write_bytes(b"PAR1 is how it begins")
    code, out, _ = trainer("data", "check", path)
    assert (code, len(out.splitlines())) == (1, 1)
    assert "cannot be read as Parquet" in out


def test_a_mistake_is_one_line(trainer: Trainer, tmp_path: Path) -> None:
    path = write_labelled(tmp_path, [(noise(0), "0")])
    (tmp_path / "broken.json").write_text("{")
    for arguments, said in (
        (("nothing.json",), "there is no data manifest nothing.json"),
        (("no-such-set",), "there is no data manifest no-such-set"),
        ((tmp_path / "broken.json",), "is no JSON file"),
        ((path, "--split", "x"), "has no split 'x'; it has: test"),
    ):
        code, out, error = trainer("data", "check", *arguments)
        assert (code, out, len(error.splitlines())) == (1, "", 1)
        assert said in error


def test_the_shipped_sets_are_listed(trainer: Trainer) -> None:
    code, out, _ = trainer("data", "list")
    assert code == 0
    assert {"imagenet1k", "demo-scenes"} <= {line.split()[0] for line in out.splitlines()}
