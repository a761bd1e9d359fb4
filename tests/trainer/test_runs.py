"""What a run is put together from: the hash of its shards."""

from collections.abc import Callable
from pathlib import Path

from trainer.data import find_shards
from trainer.runs import hash_shards

WriteShards = Callable[..., Path]


def test_the_shards_hash_is_of_names_and_content(write_shards: WriteShards) -> None:
    folder = write_shards(4)
    first = hash_shards(find_shards(str(folder)))
    assert first == hash_shards(find_shards(f"{folder}/*.tar"))
    with (folder / "00000.tar").open("r+b") as file:
        file.seek(600)
        file.write(b"changed")
    assert first != hash_shards(find_shards(str(folder)))


def test_a_manifest_beside_the_shards_stands_for_their_content(write_shards: WriteShards) -> None:
    folder = write_shards(4)
    first = hash_shards(find_shards(str(folder)))
    (folder / "manifest.json").write_text("{}")
    second = hash_shards(find_shards(str(folder)))
    (folder / "manifest.json").write_text('{"seed": 1}')
    assert len({first, second, hash_shards(find_shards(str(folder)))}) == 3
