"""The fixture that the trainer's tests take their shards from; torch on one thread."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.square_shards import Members, WriteShards, make_members, write_tar

torch.set_num_threads(1)


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
