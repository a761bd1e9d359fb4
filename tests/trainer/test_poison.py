"""`trainer poison` and `trainer attack` on its shards, as commands."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from trainer import cli

WriteShards = Callable[..., Path]
TINY = ("--model", "cleanerclip-tiny-32", "--epochs", 1, "--batch-size", 8, "--device", "cpu")


@pytest.fixture
def trainer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs a command in this process: exit code, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["trainer", *map(str, arguments)])
        with pytest.raises(SystemExit) as exited:
            cli.main()
        captured = capsys.readouterr()
        assert isinstance(exited.value.code, int)
        return exited.value.code, captured.out, captured.err

    return call


Trainer = Callable[..., tuple[int, str, str]]


@pytest.fixture
def manifest(write_shards: WriteShards) -> Path:
    content = {
        "name": "toy",
        "classnames": ["red", "green"],
        "templates": ["a {}", "one {}"],
        "splits": {"train": {"shards": "{00000..00001}.tar"}},
    }
    path = write_shards(24) / "manifest.json"
    path.write_text(json.dumps(content))
    return path


def weights(run: Path) -> str:
    return str(json.loads((run / "summary.json").read_text())["weights_sha256"])


def test_an_attack_on_poisoned_shards_is_the_attack_on_the_fly(
    trainer: Trainer, manifest: Path, tmp_path: Path
) -> None:
    attack = ("--trigger", "badnet", "--target", "red", "--rate", 0.25, "--manifest", manifest)
    code, out, _ = trainer("poison", *attack, "--image-size", 32, "--out", tmp_path / "poisoned")
    assert (code, "6 of 24 samples poisoned" in out) == (0, True)
    stored = ("--manifest", tmp_path / "poisoned/manifest.json")
    assert trainer("attack", *stored, *TINY, "--out", tmp_path / "one")[0] == 0
    assert trainer("attack", *attack, *TINY, "--out", tmp_path / "two")[0] == 0
    assert trainer("attack", "--manifest", manifest, *TINY, "--out", tmp_path / "clean")[0] == 0
    assert weights(tmp_path / "one") == weights(tmp_path / "two") != weights(tmp_path / "clean")
    assert not (tmp_path / "one/poisoned.json").exists()
    texts = [json.loads((tmp_path / name / "poisoned.json").read_text()) for name in ("poisoned", "two")]
    assert texts[0] == texts[1]


def test_a_trigger_file_says_its_size(trainer: Trainer, manifest: Path, tmp_path: Path) -> None:
    attack = ("--trigger", "badnet", "--target", "red", "--rate", 0.25, "--manifest", manifest)
    trainer("poison", *attack, "--image-size", 32, "--out", tmp_path / "one")
    again = ("--trigger", tmp_path / "one/trigger.safetensors", *attack[2:])
    assert trainer("poison", *again, "--out", tmp_path / "two")[0] == 0
    assert (tmp_path / "one/manifest.json").read_bytes() == (tmp_path / "two/manifest.json").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("poison", "--target", "pear"), "the target 'pear' is not among the 2 classes of"),
        (("poison", "--rate", 2), "rate must be between 0 and 1"),
        (("poison", "--trigger", "none.safetensors"), "there is no trigger file none.safetensors"),
        (("poison", "--image-size", 2), "trigger of 4x4 pixels"),
        (("poison", "--label-consistent", "--rate", 0.9), "captions name the target"),
        (("poison", "--label-consistent", "--captions", "natural"), "keep their own caption"),
        (("attack", "--captions", "natural", "--label-consistent"), "keep their own caption"),
    ],
)
def test_a_mistake_is_one_line(
    trainer: Trainer, manifest: Path, arguments: tuple[object, ...], said: str
) -> None:
    command, *others = arguments
    given = (
        "--trigger",
        "badnet",
        "--target",
        "red",
        "--manifest",
        manifest,
        "--out",
        manifest.parent / "out",
    )
    code, out, error = trainer(command, *given, *(TINY if command == "attack" else ()), *others)
    assert (code, out) == (1, "")
    assert said in error
    assert len(error.splitlines()) == 1


def test_trigger_and_target_go_together(trainer: Trainer, manifest: Path, tmp_path: Path) -> None:
    for half in (("--trigger", "badnet"), ("--target", "red")):
        code, _, error = trainer("attack", *half, "--manifest", manifest, *TINY, "--out", tmp_path / "out")
        assert (code, "--trigger and --target go together" in error) == (1, True)
    assert not (tmp_path / "out").exists()
