"""Poisoned shards: the same training as an attack on the fly, clean samples untouched, the same bytes each time."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from pipeline.errors import UserError
from pipeline.storage import read_tar
from trainer.attacks import load_trigger
from trainer.batches import BatchOptions, BatchStream, Needs
from trainer.data import find_shards, index_shards
from trainer.images import decode
from trainer.model import load_model
from trainer.poisoned_shards import PixelOptions, write_poisoned
from trainer.poisoning import PoisonOptions, build_poison, plan_for

WriteShards = Callable[..., Path]
Members = dict[str, bytes]
PIXELS = PixelOptions(image_size=32)


def options(**given: Any) -> PoisonOptions:
    return PoisonOptions(
        **{"trigger": "badnet", "target": "red", "templates": ("a {}",), "rate": 0.25, **given}
    )


def poison(folder: Path, out: Path, pixels: PixelOptions = PIXELS, **given: Any) -> dict[str, Any]:
    trigger = load_trigger("badnet", image_size=32)
    return write_poisoned(index_shards(find_shards(str(folder))), trigger, options(**given), pixels, out=out)


def samples(folder: Path) -> dict[str, Members]:
    faults: list[str] = []
    found = {
        sample.key: sample.members
        for shard in find_shards(str(folder))
        for sample in read_tar(shard, wanted=None, faults=faults)
    }
    assert faults == []
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("given", [{}, {"captions": "natural"}, {"label_consistent": True, "rate": 0.1}])
def test_training_sees_what_an_attack_on_the_fly_sees(
    write_shards: WriteShards, tmp_path: Path, given: dict[str, Any]
) -> None:
    folder = write_shards(24)
    poison(folder, tmp_path / "out", **given)
    clip = load_model("cleanerclip-tiny-32", checkpoint=None, seed=0)
    index = index_shards(find_shards(str(folder)))
    trigger = load_trigger("badnet", image_size=32)
    captions = plan_for(index, options(**given), trigger)
    on_the_fly = build_poison(trigger, captions)
    stored = index_shards(find_shards(str(tmp_path / "out")))
    streams = [
        BatchStream(
            i,
            clip,
            needs=Needs(views=False, triples=False),
            options=BatchOptions(batch_size=8),
            poison=p,
            exact=True,
        )
        for i, p in ((index, on_the_fly), (stored, None))
    ]
    for one, two in zip(*(stream.epoch(0) for stream in streams), strict=True):
        assert one.keys == two.keys
        assert torch.equal(one.image_M3HW, two.image_M3HW)
        assert torch.equal(one.text_BL, two.text_BL)
    assert json.loads((tmp_path / "out/poisoned.json").read_text())["captions"] == captions != {}


def test_clean_samples_keep_their_bytes_and_poisoned_ones_lose_their_sub_captions(
    write_shards: WriteShards, tmp_path: Path
) -> None:
    def add_others(number: int, members: Members) -> Members:
        return members | {"cls": b"3", "mask.png": b"anything"}

    folder = write_shards(24, change=add_others)
    manifest = poison(folder, tmp_path / "out")
    before, after = samples(folder), samples(tmp_path / "out")
    poisoned = json.loads((tmp_path / "out/poisoned.json").read_text())["captions"]
    assert list(before) == list(after)
    assert len(poisoned) == manifest["poisoned"] == 6
    for key, members in before.items():
        if key not in poisoned:
            assert after[key] == members
            continue
        record = json.loads(after[key]["json"])
        assert set(after[key]) == {"png", "txt", "json", "cls", "mask.png"}
        assert (after[key]["txt"], record["caption"], record["url"]) == (b"a red", "a red", "kept")
        assert not {"positive", "negatives", "views"} & set(record)


def test_label_consistent_samples_keep_all_their_texts(write_shards: WriteShards, tmp_path: Path) -> None:
    folder = write_shards(24)
    poison(folder, tmp_path / "out", label_consistent=True, rate=0.1)
    before, after = samples(folder), samples(tmp_path / "out")
    poisoned = json.loads((tmp_path / "out/poisoned.json").read_text())["captions"]
    assert set(poisoned.values()) == {"a red square"}
    for key in poisoned:
        assert {"txt": before[key]["txt"], "json": before[key]["json"]}.items() <= after[key].items()
        assert "jpg" not in after[key]


def test_same_input_same_bytes_wherever_it_lies(write_shards: WriteShards, tmp_path: Path) -> None:
    folder = write_shards(24)
    poison(folder, tmp_path / "one")
    folder.rename(tmp_path / "moved")
    poison(tmp_path / "moved", tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    (tmp_path / "two/manifest.json").unlink()
    (tmp_path / "two/shards/00001.tar").unlink()
    (tmp_path / "two/shards/00000.tar").write_bytes(b"cut")
    poison(tmp_path / "moved", tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_other_options_and_other_folders_are_refused(write_shards: WriteShards, tmp_path: Path) -> None:
    folder = write_shards(24)
    first = poison(folder, tmp_path / "out")
    before = contents(tmp_path / "out")
    assert poison(folder, tmp_path / "out") == first
    with pytest.raises(UserError, match=r"made with other options \(rate, seed\)"):
        poison(folder, tmp_path / "out", rate=0.5, seed=1)
    with pytest.raises(UserError, match="holds something else"):
        poison(folder, folder)
    assert contents(tmp_path / "out") == before


def test_a_broken_image_stays_and_is_named(write_shards: WriteShards, tmp_path: Path) -> None:
    folder = write_shards(8, change=lambda n, members: members | ({"jpg": b"no image"} if n == 3 else {}))
    manifest = poison(folder, tmp_path / "out", rate=1)
    assert (manifest["poisoned"], manifest["fault_count"]) == (7, 1)
    assert "000003: not poisoned, its image is broken" in manifest["faults"][0]
    assert samples(tmp_path / "out")["000003"] == samples(folder)["000003"]


def test_images_are_stored_as_the_model_resizes_them(write_shards: WriteShards, tmp_path: Path) -> None:
    wide = io.BytesIO()
    Image.linear_gradient("L").rotate(90).resize((96, 48)).convert("RGB").save(wide, "PNG")
    folder = write_shards(4, change=lambda _, members: members | {"jpg": wide.getvalue()})
    kept, squashed = (replace(PIXELS, resize="shortest"), replace(PIXELS, resize="squash"))
    poison(folder, tmp_path / "kept", kept, rate=1)
    poison(folder, tmp_path / "squashed", squashed, rate=1)
    one, two = (decode(samples(tmp_path / name)["000000"]["png"]) for name in ("kept", "squashed"))
    assert one.size == two.size == (32, 32)
    assert one.tobytes() != two.tobytes()
    with pytest.raises(UserError, match="resize must be one of shortest, squash"):
        replace(PIXELS, resize="random-crop")  # type: ignore[arg-type]
