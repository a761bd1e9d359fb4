"""`trainer craft-trigger`: what is written is what the name stands for; a mistake is one line and leaves nothing."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from trainer import cli
from trainer.attacks import PRESETS, load_trigger
from trainer.commands.craft_trigger import KINDS as TOLD_KINDS

Trainer = Callable[..., tuple[int, str, str]]


@pytest.fixture
def craft(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Trainer:
    """Runs `craft-trigger` in this process: exit code, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["trainer", "craft-trigger", *map(str, arguments)])
        with pytest.raises(SystemExit) as exited:
            cli.main()
        captured = capsys.readouterr()
        assert isinstance(exited.value.code, int)
        return exited.value.code, captured.out, captured.err

    return call


@pytest.mark.parametrize("name", PRESETS)
def test_the_file_holds_the_named_trigger(craft: Trainer, tmp_path: Path, name: str) -> None:
    out = tmp_path / "folder/t.safetensors"
    code, told, _ = craft(name, "--out", out, "--image-size", 64, "--seed", 3)
    written, expected = load_trigger(str(out), image_size=64), load_trigger(name, image_size=64, seed=3)
    assert (code, written.sha256) == (0, expected.sha256)
    assert expected.sha256 in told
    assert json.loads(out.with_suffix(".json").read_text())["preset"] == name


def test_the_help_names_every_preset() -> None:
    assert {*TOLD_KINDS.strip(".").split(", ")} >= {*PRESETS}


@pytest.mark.parametrize(
    ("arguments", "settings"),
    [
        (("badnet", "--scale", 0.25, "--placement", "fixed"), {"side": 16, "placement": "fixed"}),
        (("blended", "--share", 0.1), {"share": 0.1}),
        (("blended-public", "--no-fresh-noise"), {"fresh_noise": False}),
        (("sig", "--periods", 4, "--strength", 0.1, "--cut"), {"periods": 4, "strength": 0.1, "rounding": "cut"}),
        (("wanet", "--grid", 8, "--strength", 2), {"grid": 8, "strength": 2}),
        (("triangles", "--count", 8), {"count": 8}),
        (("text", "--text", "hello", "--lines", 1), {"text": "hello", "lines": 1}),
    ],
)  # fmt: skip
def test_options_change_the_named(
    craft: Trainer, tmp_path: Path, arguments: tuple[object, ...], settings: dict[str, object]
) -> None:
    code, _, error = craft(*arguments, "--out", tmp_path / "t.safetensors", "--image-size", 64)
    assert (code, error) == (0, "")
    trigger = load_trigger(str(tmp_path / "t.safetensors"), image_size=64)
    assert settings.items() <= dict(trigger.settings).items()
    assert trigger.preset == f"{trigger.kind}-custom"


def test_the_preview_shows_what_changes(craft: Trainer, tmp_path: Path) -> None:
    arguments = ("--out", tmp_path / "t.safetensors", "--preview", tmp_path / "p/t.png")
    assert craft("yellow-corner", *arguments, "--image-size", 20)[0] == 0
    with Image.open(tmp_path / "p/t.png") as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(10**6) or []}
    assert {(255, 255, 0), (128, 128, 128)} <= colours


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("wanett",), "no trigger is called 'wanett': there are badnet, "),
        (("sig", "--text", "a"), "sig takes no --text: it takes --strength, --periods, --share, --cut"),
        (("filter", "--fresh-noise"), "filter takes no --fresh-noise: it takes --strength"),
        (("badnet", "--image-size", 3), "a trigger of 4x4 pixels does not fit into a 3x3 image"),
        (("text", "--image-size", 20), "do not fit into a 20x20 image"),
        (("text", "--text", "naïve"), "text must be of"),
        (("text", "--lines", 0), "lines must be between 1 and"),
        (("badnet", "--scale", 2), "scale must be above 0 and at most 1"),
        (("badnet", "--colour", "yellow"), "six hexadecimal digits"),
        (("badnet-public", "--colour", "ffff00"), "not both"),
        (("blended", "--share", "nan"), "share must be above 0"),
        (("sig", "--periods", 0), "periods must be above 0"),
        (("sig", "--strength", -1), "strength must be above 0"),
        (("wanet", "--grid", 65), "finer than an image of 64 pixels"),
        (("wanet", "--grid", 1), "grid must be at least 2"),
        (("wanet", "--strength", 0), "strength must be above 0"),
        (("stripes", "--count", 0), "count must be between 1 and"),
        (("sig", "--image-size", 0), "image size must be at least 1"),
        (("sig", "--image-size", 100_000), "image size must be at most"),
    ],
)
def test_a_mistake_is_one_line(
    craft: Trainer, tmp_path: Path, arguments: tuple[object, ...], said: str
) -> None:
    given = arguments if "--image-size" in arguments else (*arguments, "--image-size", 64)
    code, out, error = craft(*given, "--out", tmp_path / "t.safetensors")
    assert (code, out, len(error.splitlines())) == (1, "", 1)
    assert said in error
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    out = tmp_path / "t.safetensors"
    command = f"ulimit -f 20; exec {sys.executable} -m trainer.cli craft-trigger blended --out {out}"  # 10 KB a file
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert f"{out} cannot be written" in ended.stderr
    assert not out.exists()


def test_another_ending_is_refused(craft: Trainer, tmp_path: Path) -> None:
    code, _, error = craft("sig", "--out", tmp_path / "sig.json")
    assert (code, "must end in .safetensors" in error) == (1, True)


def test_a_broken_file_is_told_by_load(tmp_path: Path) -> None:
    (tmp_path / "t.safetensors").write_bytes(torch.zeros(8).numpy().tobytes())
    with pytest.raises(Exception, match="no trigger file, or a broken one"):
        load_trigger(str(tmp_path / "t.safetensors"), image_size=64)
