"""Labelled images as people have them, without a manifest: recognised, read, and told where they cannot be."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import UserError
from tests.evaluation_inputs import noise, png, run_trainer
from trainer.evals import load_labelled, read_classnames

CLASSES_PY = """{
    "classes": ["a cat's tail", 'dog'],
    "templates": [lambda c: f"a photo of a {c}.", lambda c: f'the {c}'],
}
"""


def images(folder: Path, *names: str) -> None:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png(noise(number)))


def found(source: Path, **options: Any) -> list[tuple[str, int]]:
    return [(key, label) for key, _, label in load_labelled(str(source), **options).decoded()]


def test_class_folders(tmp_path: Path) -> None:
    images(
        tmp_path,
        "val/golden_retriever/b.JPEG",
        "val/cat/x/a.png",
        "val/cat/c.png",
        "train/cat/d.png",
        "train/dog/e.png",
    )
    (tmp_path / "val/cat/notes.txt").write_text("no image")
    data = load_labelled(str(tmp_path))
    assert data.classnames == ("cat", "golden retriever")
    assert found(tmp_path) == [("cat/c.png", 0), ("cat/x/a.png", 0), ("golden_retriever/b.JPEG", 1)]
    assert found(tmp_path, split="train") == [("cat/d.png", 0), ("dog/e.png", 1)]
    assert data.told == f"class folders of {tmp_path / 'val'}"


def test_class_folders_are_called_as_wordnet_says(tmp_path: Path) -> None:
    images(tmp_path, "n01443537/a.png", "n01440764/a.png")
    assert load_labelled(str(tmp_path)).classnames == ("tench", "goldfish")
    assert load_labelled(str(tmp_path), classnames=["x", "y"]).classnames == ("x", "y")
    with pytest.raises(UserError, match=r"3 class names, and .* has 2 classes"):
        load_labelled(str(tmp_path), classnames=["x", "y", "z"])


def test_class_folders_that_are_numbers_go_by_number(tmp_path: Path) -> None:
    images(tmp_path, *(f"{number}/a.png" for number in range(12)))
    names = [f"thing {number}" for number in range(12)]
    assert found(tmp_path, classnames=names) == [(f"{number}/a.png", number) for number in range(12)]


def test_cleanclips_imagenet(tmp_path: Path) -> None:
    images(tmp_path, "images/1.png", "images/2.png")
    (tmp_path / "labels.csv").write_text(
        "image,label\nimages/1.png,1\nimages/2.png,0\nimages/3.png,0\nimages/2.png,\n"
    )
    (tmp_path / "classes.py").write_text(CLASSES_PY)
    data = load_labelled(str(tmp_path))
    assert data.classnames == ("a cat's tail", "dog")
    assert data.templates == ("a photo of a {}.", "the {}")
    assert found(tmp_path) == [("images/1.png", 1), ("images/2.png", 0)]
    data.scan()
    assert [fault.partition(":")[0] for fault in data.faults] == ["images/3.png", "images/2.png"]
    assert found(tmp_path / "labels.csv") == found(tmp_path)


def test_tables_of_names(tmp_path: Path) -> None:
    images(tmp_path, "1.png", "2.png")
    (tmp_path / "a.tsv").write_text("filepath\tcategory\n1.png\tsea_lion\n2.png\tcat\n")
    data = load_labelled(str(tmp_path / "a.tsv"))
    assert data.classnames == ("cat", "sea lion")
    assert found(tmp_path / "a.tsv") == [("1.png", 1), ("2.png", 0)]


def test_hugging_faces_parquet(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    info = {"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}
    cells = [{"bytes": png(noise(n)), "path": None} for n in range(2)]
    table = pa.table({"image": cells, "label": [1, 0]}).replace_schema_metadata(
        {"huggingface": json.dumps(info)}
    )
    for split in ("train", "test"):
        pq.write_table(table, tmp_path / f"data/{split}-00000-of-00001.parquet")
    data = load_labelled(str(tmp_path))
    assert data.classnames == ("cat", "dog")
    assert [label for _, label in found(tmp_path)] == [1, 0]
    assert data.shards == (tmp_path / "data/test-00000-of-00001.parquet",)
    assert load_labelled(str(tmp_path), split="train").shards != data.shards


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("image,label\n1.png,0\n1.png,1\n", "what are the classes called"),
        ("photo,label\n1.png,0\n", "no column of images"),
        ("image,about\n1.png,0\n", "no column of labels"),
    ],
)
def test_a_table_that_lacks_something_is_told(tmp_path: Path, text: str, said: str) -> None:
    images(tmp_path, "1.png")
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(UserError, match=said):
        load_labelled(str(tmp_path / "a.csv"))


@pytest.mark.parametrize(
    "text", ["__import__('os').abort()", "{'classes': open('x')}", "[", "{'classes': 3}"]
)
def test_classes_py_is_never_run(tmp_path: Path, text: str) -> None:
    (tmp_path / "classes.py").write_text(text)
    with pytest.raises(UserError, match="is neither a JSON list nor lines of text nor CleanCLIP's"):
        read_classnames(tmp_path / "classes.py")


def test_a_folder_does_not_hide_a_shipped_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images(tmp_path, "cifar10/cat/a.png", "cifar10/dog/b.png")
    monkeypatch.chdir(tmp_path)
    assert load_labelled("./cifar10").classnames == ("cat", "dog")
    with pytest.raises(UserError, match="cifar10"):
        load_labelled("cifar10")  # its files are not here


def test_evaluate_and_probe_say_what_they_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images(
        tmp_path, *(f"{s}/{c}/{n}.png" for s in ("train", "test") for c in ("cat", "dog") for n in range(3))
    )
    trainer = run_trainer(monkeypatch, capsys)
    weights = tmp_path / "tiny.safetensors"
    from trainer.checkpoint import save_weights
    from trainer.model import load_model

    clip = load_model("cleanerclip-tiny-32")
    save_weights(weights, clip.model.state_dict(), metadata={"model": clip.name, "quick_gelu": "false"})
    code, _, told = trainer("evaluate", "--data", tmp_path, "--checkpoint", weights)
    assert (code, "2 classes (cat, dog)" in told) == (0, True)
    code, out, _ = trainer("probe", "--data", tmp_path, "--checkpoint", weights)
    assert (code, "trained on 6 images of 2 classes" in out) == (0, True)
