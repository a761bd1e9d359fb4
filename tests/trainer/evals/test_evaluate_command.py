"""`trainer evaluate` as users run it: the clean model beside the suspect, pictures, and one line for bad input."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.evaluation_inputs import NAMES, TINY, Trainer, noise, run_trainer, write_labelled
from trainer.checkpoint import save_weights
from trainer.model import load_model


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Trainer:
    return run_trainer(monkeypatch, capsys)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name, seed in (("suspect", 1), ("clean", 2)):
        clip = load_model(TINY, seed=seed)
        save_weights(folder / f"{name}.safetensors", clip.model.state_dict(), metadata={"model": TINY})
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return write_labelled(tmp_path / "data", [(noise(i), str(i % 3)) for i in range(12)])


@pytest.fixture
def suspect(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint, seen from an empty folder that the command is run in."""
    monkeypatch.chdir(tmp_path)
    return models / "suspect.safetensors"


ATTACK = ("--trigger", "badnet", "--target", "banana", "--device", "cpu")


def test_the_clean_model_and_pictures_stand_beside_the_suspect(
    trainer: Trainer, models: Path, data: Path, tmp_path: Path
) -> None:
    suspect, clean = models / "suspect.safetensors", models / "clean.safetensors"
    beside = ("--clean-checkpoint", clean, "--pictures", tmp_path / "p.png", "--json", tmp_path / "e.json")
    code, out, error = trainer("evaluate", "--checkpoint", suspect, "--data", data, *ATTACK, *beside)
    assert code == 0
    assert "clean model" in out + error
    told = json.loads((tmp_path / "e.json").read_text())
    assert (
        trainer("evaluate", "--checkpoint", clean, "--data", data, *ATTACK, "--json", tmp_path / "c.json")[0]
        == 0
    )
    alone = json.loads((tmp_path / "c.json").read_text())
    assert len(alone.pop("places")["clean_to_target"]) == len(told["places"]["clean_to_target"])
    assert told["clean_model"] == alone
    assert told["weights_sha256"] != told["clean_model"]["weights_sha256"]
    assert [row["name"] for row in told["classes"]] == list(NAMES)
    with Image.open(tmp_path / "p.png") as sheet:
        assert sheet.width > 900


def test_broken_images_are_named_and_left_out(trainer: Trainer, models: Path, tmp_path: Path) -> None:
    data = write_labelled(tmp_path, [(noise(0), "0"), (b"no image", "1"), (noise(1), "2")])
    code, out, error = trainer("evaluate", "--checkpoint", models / "suspect.safetensors", "--data", data)
    assert code == 0
    assert "n = 2" in out
    assert error.splitlines() == ["left out: 00000.tar: 0001: no image format that is known"]


def _break(folder: Path, what: str) -> None:
    changes: dict[str, tuple[list[Any], dict[str, Any]]] = {
        "empty": ([], {}),
        "broken": ([(b"x", "0"), (b"y", "1")], {}),
        "label": ([(noise(0), "0"), (noise(1), "999")], {"classnames": [f"c{i}" for i in range(999)]}),
        "target only": ([(noise(0), "2")], {}),
        "one class": ([(noise(0), "0")], {"classnames": ["cat"]}),
        "twice": ([(noise(0), "0")], {"classnames": ["cat", "banana", "cat"]}),
        "template": ([(noise(0), "0")], {"templates": ["a photo"]}),
        "no names": ([(noise(0), "0")], {"classnames": None}),
        "hash": (
            [(noise(0), "0")],
            {"splits": {"test": {"shards": "00000.tar", "sha256": {"00000.tar": "0" * 64}}}},
        ),
        "absent": ([(noise(0), "0")], {"splits": {"test": {"shards": "none.tar"}}}),
        "outside": ([(noise(0), "0")], {"splits": {"test": {"shards": "../none.tar"}}}),
    }
    samples, manifest = changes.get(what, ([(noise(0), "0"), (noise(1), "1")], {}))
    write_labelled(folder, samples, **manifest)


@pytest.mark.parametrize(
    ("what", "arguments", "said"),
    [
        ("empty", (), "toy has no labelled image"),
        ("broken", (), "toy has no labelled image"),
        ("label", (), "00000.tar: 0001 has the label '999', and the 999 class names of toy stand for 0 to 998"),
        ("target only", ATTACK, "every image of toy is of the target class 'banana'"),
        ("one class", (), "at least 2 classes, not 1"),
        ("twice", ("--target", "cat"), "'cat' is the name of several classes"),
        ("template", (), "exactly one {}"),
        ("no names", (), "has no class names"),
        ("hash", (), "is not the file that manifest.json describes"),
        ("absent", (), "no shard at"),
        ("outside", (), "below the root"),
        ("whole", ("--split", "val"), "has no split 'val'; it has: test"),
        ("whole", ("--trigger", "badnet", "--target", "bananas"), "'bananas' is not among the 3 classes of toy"),
        ("whole", ("--trigger", "badnet"), "give --target with a trigger"),
        ("whole", ("--trigger", "nothing", "--target", "cat"), "no trigger is called 'nothing'"),
        ("whole", ("--target", "cat", "--pictures", "p.png"), "--pictures shows what a trigger does"),
        ("whole", ("--clean-checkpoint", "x"), "--clean-checkpoint shows what a trigger does"),
        ("whole", (*ATTACK, "--clean-checkpoint", "nothing.pt"), "there is no checkpoint at nothing.pt"),
        ("whole", ("--batch-size", "0"), "batch_size must be at least 1"),
        ("whole", ("--classnames", "names.txt"), "there are 2 class names, and toy has 3 classes"),
        ("whole", ("--classnames", "none.txt"), "none.txt cannot be read"),
        ("whole", ("--classnames", "empty.txt"), "there are 0 class names"),
        ("whole", ("--templates", "empty.txt"), "exactly one {} for the class, not none at all"),
        ("whole", ("--templates", "names.txt"), "exactly one {} for the class, not ['one']"),
        ("whole", ("--templates", "none.txt"), "none.txt cannot be read"),
        ("whole", ("--device", "abacus"), "abacus"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(trainer: Trainer, suspect: Path, what: str, arguments: Any, said: str) -> None:
    _break(Path(), what)
    Path("names.txt").write_text("one\ntwo\n")
    Path("empty.txt").write_text("\n")
    code, out, error = trainer("evaluate", "--checkpoint", suspect, "--data", "manifest.json", *arguments)
    assert (code, out) == (1, "")
    assert said in error
    assert len(error.splitlines()) == 1


def test_the_same_weights_are_no_clean_model(trainer: Trainer, models: Path, data: Path) -> None:
    same = (
        "--checkpoint",
        models / "suspect.safetensors",
        "--clean-checkpoint",
        models / "suspect.safetensors",
    )
    code, _, error = trainer("evaluate", *same, "--data", data, *ATTACK)
    assert (code, "the very weights that are evaluated" in error) == (1, True)


def test_shards_need_class_names_enough_for_their_labels(trainer: Trainer, models: Path, data: Path) -> None:
    names = data.parent / "names.txt"
    evaluation = ("--checkpoint", models / "suspect.safetensors", "--data", data.parent / "00000.tar")
    assert "without class names" in trainer("evaluate", *evaluation)[2]
    names.write_text("cat\ndog\n")
    code, _, error = trainer("evaluate", *evaluation, "--classnames", names)
    assert (code, "has the label '2', and the 2 class names" in error) == (1, True)
    names.write_text("cat\ndog\nbanana\n")
    assert trainer("evaluate", *evaluation, "--classnames", names)[0] == 0
