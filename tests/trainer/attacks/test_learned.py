"""`trainer craft-trigger` for what is learned from data: files that apply, and one line for what is missing."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.square_shards import COLOURS, WriteShards
from trainer import cli
from trainer.attacks import KINDS, LEARNED_KINDS, load_trigger
from trainer.attacks.learned import LEARNED
from trainer.checkpoint import save_weights
from trainer.commands.craft_trigger import KINDS as TOLD_KINDS
from trainer.model import load_model

Trainer = Callable[..., tuple[int, str, str]]
TINY = "cleanerclip-tiny-32"


@pytest.fixture
def craft(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Trainer:
    """Runs `craft-trigger` in this process, its file t.safetensors: exit code, stdout, stderr."""

    def call(kind: str, *arguments: object) -> tuple[int, str, str]:
        out = tmp_path / "t.safetensors"
        monkeypatch.setattr(
            sys, "argv", ["trainer", "craft-trigger", kind, "--out", str(out), *map(str, arguments)]
        )
        with pytest.raises(SystemExit) as exited:
            cli.main()
        captured = capsys.readouterr()
        assert isinstance(exited.value.code, int)
        return exited.value.code, captured.out, captured.err

    return call


@pytest.fixture
def manifest(write_shards: WriteShards, tmp_path: Path) -> Path:
    """A data manifest of squares, its classes the colours."""
    write_shards(40)
    content = {
        "name": "squares",
        "classnames": list(COLOURS),
        "templates": ["a {} square"],
        "splits": {"train": {"shards": "shards/*.tar", "num_samples": 40}},
    }
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    return tmp_path / "manifest.json"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "clean.safetensors"
    save_weights(path, dict(load_model(TINY, seed=2).model.state_dict()), metadata={"model": TINY})
    return path


def test_every_learned_kind_is_known() -> None:
    assert set(LEARNED_KINDS) == set(LEARNED) <= set(KINDS)
    assert {*TOLD_KINDS.strip(".").split(", ")} >= set(LEARNED_KINDS)


def test_ssba(craft: Trainer, manifest: Path, tmp_path: Path) -> None:
    code, told, progress = craft(
        "ssba", "--manifest", manifest, "--image-size", 36, "--steps", 2, "--bits", 8, "--batch-size", 4,
        "--preview", tmp_path / "p.png",
    )  # fmt: skip
    trigger = load_trigger(str(tmp_path / "t.safetensors"), image_size=64)
    assert (code, trigger.kind, trigger.image_size, trigger.settings["steps"]) == (0, "ssba", 36, 2)
    assert trigger.sha256 in told
    assert "held-out images the decoder reads" in progress
    assert (tmp_path / "p.png").is_file()


def test_badclip(craft: Trainer, manifest: Path, checkpoint: Path, tmp_path: Path) -> None:
    code, told, progress = craft(
        "badclip", "--manifest", manifest, "--checkpoint", checkpoint, "--target", "red", "--steps", 2,
        "--max-clean-asr", 100, "--device", "cpu", "--side", 3,
    )  # fmt: skip
    trigger = load_trigger(str(tmp_path / "t.safetensors"), image_size=32)
    assert (code, trigger.kind, trigger.image_size) == (0, "badclip", 32)
    assert "made for 32x32 pixels" in told
    assert trigger.settings["target"] == "red"
    assert trigger.settings["side"] == 3
    assert f"clean model puts {trigger.settings['clean_asr']:.1f} %" in progress


def test_imported(craft: Trainer, tmp_path: Path, write_shards: WriteShards) -> None:
    shard = write_shards(4, shards=1) / "00000.tar"
    code, told, _ = craft("imported", "--images", shard, "--image-size", 36)
    trigger = load_trigger(str(tmp_path / "t.safetensors"), image_size=64)
    assert (code, trigger.settings["images"], trigger.settings["resized"]) == (0, 4, 0)
    assert trigger.sha256 in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ssba",), "which shards? give --shards"),
        (("ssba", "--shards", "nowhere"), "no shard at nowhere"),
        (("ssba", "--manifest", "M", "--target", "red"), "ssba takes no --target"),
        (("ssba", "--manifest", "M", "--max-clean-asr", 5), "ssba takes no --max-clean-asr"),
        (("ssba", "--manifest", "M", "--image-size", 0), "at least 1 pixel"),
        (("badclip", "--manifest", "M", "--checkpoint", "C"), "give --target"),
        (("badclip", "--manifest", "M", "--target", "red"), "which weights?"),
        (("badclip", "--manifest", "M", "--target", "red", "--checkpoint", "no.pt"), "no.pt"),
        (("badclip", "--manifest", "M", "--target", "pear", "--checkpoint", "C"), "'pear' is not among the 4"),
        (("badclip", "--shards", "shards", "--target", "red", "--checkpoint", "C"), "data manifest with class"),
        (("badclip", "--manifest", "M", "--target", "red", "--checkpoint", "C", "--image-size", 64), "of 32 pixels"),
        (("badclip", "--manifest", "M", "--target", "red", "--checkpoint", "C", "--side", 40), "does not fit"),
        (("imported",), "give --images"),
        (("imported", "--images", "nowhere"), "no folder or tar nowhere"),
        (("imported", "--images", "M", "--steps", 3), "imported takes no --steps: it takes --images"),
        (("badnet", "--steps", 3), "badnet takes no --steps"),
        (("blended", "--target", "red"), "blended takes no --target"),
        (("badclop",), "badclip"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(
    craft: Trainer,
    manifest: Path,
    checkpoint: Path,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    files = {"M": manifest, "C": checkpoint}
    code, told, error = craft(*(files.get(argument, argument) for argument in arguments))
    assert (code, told) == (1, "")
    assert error.count("\n") == 1
    assert message in error
    assert not (manifest.parent / "t.safetensors").exists()
