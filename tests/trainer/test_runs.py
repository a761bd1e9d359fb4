"""What a run is put together from: the hash of its shards, the keys that it poisons."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pipeline.errors import UserError
from trainer.attacks.imported import make_imported
from trainer.data import find_shards, index_shards
from trainer.poisoning import PoisonOptions
from trainer.runs import hash_shards, plan_for

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


def test_an_imported_trigger_poisons_keys_that_it_has_images_of(write_shards: WriteShards) -> None:
    index = index_shards(find_shards(str(write_shards(8))))
    image_3SS = torch.zeros((3, 16, 16), dtype=torch.uint8)
    known = {*index.keys[::3], "elsewhere"}
    trigger = make_imported(dict.fromkeys(known, image_3SS), image_size=16)
    options = PoisonOptions(trigger="-", target="banana", templates=("a {}",), rate=0.25)
    planned = plan_for(index, options, trigger)
    assert len(planned) == 2
    assert planned.keys() < known
    wanting = PoisonOptions(trigger="-", target="banana", templates=("a {}",), rate=0.5)
    with pytest.raises(UserError, match=r"4 samples .* images for only 3 of these 8: lower --rate to 0.38"):
        plan_for(index, wanting, trigger)
