"""Shards that the trainer's tests write: coloured squares with captions, sub-captions and views."""

import io
import json
import random
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (40, 60, 220), "yellow": (230, 220, 40)}
Members = dict[str, bytes]
WriteShards = Callable[..., Path]


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
