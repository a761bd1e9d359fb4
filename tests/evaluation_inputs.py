"""Small labelled and captioned data sets for the evaluations' tests, and a way to run `trainer` in this process."""

import io
import json
import sys
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from trainer import cli

NAMES = ("cat", "dog", "banana")
TEMPLATES = ("a photo of a {}.", "the {}", "a tiny {} , drawing")
TINY = "cleanerclip-tiny-32"
Sample = tuple[Image.Image | bytes | None, str | None]
Trainer = Callable[..., tuple[int, str, str]]


def noise(seed: int, size: int = 32) -> Image.Image:
    """An image of random pixels."""
    pixels = torch.randint(
        0, 256, (size * size * 3,), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )
    return Image.frombytes("RGB", (size, size), pixels.numpy().tobytes())


def png(image: Image.Image) -> bytes:
    """The image's PNG bytes."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def write_tar(path: Path, members: Sequence[tuple[str, bytes]]) -> None:
    """A tar of these names and bytes."""
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def write_labelled(
    folder: Path, samples: Sequence[Sample], *, shard: str = "00000.tar", **manifest: Any
) -> Path:
    """A shard of images with labels and its manifest; the manifest's path."""
    members: list[tuple[str, bytes]] = []
    for i, (image, label) in enumerate(samples):
        data = png(image) if isinstance(image, Image.Image) else image
        members += [(f"{i:04d}.png", data)] if data is not None else []
        members += [(f"{i:04d}.cls", label.encode())] if label is not None else []
    write_tar(folder / shard, members)
    splits = {"test": {"shards": shard, "num_samples": len(samples) or None}}
    content = {"name": "toy", "classnames": NAMES, "templates": TEMPLATES, "splits": splits} | manifest
    (folder / "manifest.json").write_text(json.dumps(content))
    return folder / "manifest.json"


def run_trainer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Trainer:
    """A function that runs a command in this process: exit code, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["trainer", *map(str, arguments)])
        with pytest.raises(SystemExit) as exited:
            cli.main()
        captured = capsys.readouterr()
        assert isinstance(exited.value.code, int)
        return exited.value.code, captured.out, captured.err

    return call
