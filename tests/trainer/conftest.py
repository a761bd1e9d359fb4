"""Shards that the trainer's tests write: coloured squares with captions, sub-captions and views."""

import io
import json
import random
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (40, 60, 220), "yellow": (230, 220, 40)}
Members = dict[str, bytes]
WriteShards = Callable[..., Path]

torch.set_num_threads(1)


def square(colour: str, *, size: int = 36, background: int = 90) -> bytes:
    """A JPEG of a coloured square."""
    image = Image.new("RGB", (size, size), (background, background, background))
    image.paste(COLOURS[colour], (6, 6, 26, 26))
    file = io.BytesIO()
    image.save(file, "JPEG")
    return file.getvalue()


def make_members(number: int) -> Members:
    """The members of sample `number`, as `pipeline write-shards` writes them."""
    rng = random.Random(number)
    colour, other = rng.sample(sorted(COLOURS), 2)
    record: dict[str, Any] = {"caption": f"a {colour} square", "positive": f"{colour} square", "url": "kept"}
    record["negatives"] = [
        {"text": f"{other} square", "kind": "attribute", "edits": []},
        {"text": f"{colour} banana", "kind": "object", "edits": []},
    ]
    record["views"] = [f"square a {colour}", f"a square {colour}"]
    return {
        "jpg": square(colour, background=rng.randrange(256)),
        "json": json.dumps(record).encode(),
        "txt": f"a {colour} square".encode(),
    }


def write_tar(path: Path, samples: dict[str, Members]) -> None:
    """A shard of these samples: key -> extension -> bytes."""
    with tarfile.open(path, "w") as tar:
        for key, members in samples.items():
            for extension, data in members.items():
                member = tarfile.TarInfo(f"{key}.{extension}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


@pytest.fixture
def write_shards(tmp_path: Path) -> WriteShards:
    """Writes shards into a new folder: `change(number, members)` may alter a sample, or drop it by returning None."""

    def write(
        num: int = 24,
        *,
        shards: int = 2,
        name: str = "shards",
        change: Callable[[int, Members], Members | None] = lambda _, members: members,
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for shard in range(shards):
            changed = {f"{n:06d}": change(n, make_members(n)) for n in range(shard, num, shards)}
            kept = {key: members for key, members in changed.items() if members is not None}
            write_tar(folder / f"{shard:05d}.tar", kept)
        return folder

    return write
