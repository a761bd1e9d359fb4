"""Batches: the same for the same seed, whatever the workers; fresh triples; ways that triples enter."""

import gzip
import json
import os
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from pipeline.errors import UserError
from trainer import batches, images
from trainer.batch import join as join_parts
from trainer.batch import on_device
from trainer.batches import Batch, BatchOptions, BatchStream, Needs, choose_triples, sample_order
from trainer.data import SampleReader, ShardIndex, find_shards, index_shards
from trainer.kept_tokens import KeptTokens
from trainer.model import ClipModel, load_model
from trainer.ranks import Ranks

WriteShards = Callable[..., Path]
ALL = Needs(views=True, triples=True)


@pytest.fixture(scope="module")
def clip() -> ClipModel:
    return load_model("cleanerclip-tiny-32")


@pytest.fixture
def index(write_shards: WriteShards) -> ShardIndex:
    return index_shards(find_shards(str(write_shards(26, shards=3))))


def stream(index: ShardIndex, clip: ClipModel, needs: Needs = ALL, **options: object) -> BatchStream:
    given = {"batch_size": 8, "triples": 5, **options}
    return BatchStream(index, clip, needs=needs, options=BatchOptions(**given))  # type: ignore[arg-type]


def equal(one: Batch, other: Batch) -> bool:
    pairs = [(getattr(one, name), getattr(other, name)) for name in Batch.__slots__]
    return all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs)


@pytest.mark.parametrize("mode", ["in-step", "every-step", "extra-steps"])
def test_batches_depend_on_seed_and_epoch_not_on_workers(
    index: ShardIndex, clip: ClipModel, mode: str
) -> None:
    first = list(stream(index, clip, triples_enter=mode).epoch(1))
    for workers in (0, 3):
        again = list(stream(index, clip, triples_enter=mode, workers=workers).epoch(1))
        assert len(again) == len(first)
        assert all(map(equal, first, again))
    assert not equal(first[0], next(stream(index, clip, triples_enter=mode).epoch(0)))
    assert not equal(first[0], next(stream(index, clip, triples_enter=mode, seed=1).epoch(1)))


@pytest.mark.parametrize("mode", ["in-step", "every-step", "extra-steps"])
def test_skipping_gives_the_rest_of_the_epoch(index: ShardIndex, clip: ClipModel, mode: str) -> None:
    options: dict[str, Any] = {"triples_enter": mode, "triples": 9}
    whole = list(stream(index, clip, **options).epoch(2))
    for skip in range(len(whole) + 1):
        rest = list(stream(index, clip, **options).epoch(2, skip=skip))
        assert len(rest) == len(whole) - skip
        assert all(map(equal, whole[skip:], rest))


@pytest.mark.parametrize("buffer", [1, 7, 1000])
def test_an_epoch_holds_every_sample_once(index: ShardIndex, buffer: int) -> None:
    orders = [[index.keys[p] for p in sample_order(index, seed=3, epoch=e, buffer=buffer)] for e in (0, 1)]
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(index.keys)
    assert orders[0] != orders[1]


def test_triples_are_drawn_afresh_each_epoch_and_exactly_as_many(index: ShardIndex) -> None:
    drawn = [choose_triples(index.triples, 5, seed=0, epoch=epoch) for epoch in range(20)]
    assert {len(positions) for positions in drawn} == {5}
    assert len(set(drawn)) > 15
    assert len(frozenset().union(*drawn)) > 20
    assert choose_triples(index.triples, 99, seed=0, epoch=0) == frozenset(range(len(index.keys)))


def test_in_step_triples_stand_where_their_samples_fall(index: ShardIndex, clip: ClipModel) -> None:
    whole = next(stream(index, clip, batch_size=26).epoch(0))
    positions = choose_triples(index.triples, 5, seed=0, epoch=0)
    chosen = {index.keys[position] for position in positions}
    assert whole.triple_rows_T is not None
    assert {whole.keys[row] for row in whole.triple_rows_T} == chosen
    assert whole.positive_TL is not None
    tokens = {key: clip.tokenizer([_record(index, key)["positive"]])[0] for key in chosen}
    for row, positive in zip(whole.triple_rows_T, whole.positive_TL, strict=True):
        assert torch.equal(positive, tokens[whole.keys[row]])


def test_a_sample_takes_different_stored_negatives_over_the_epochs(
    index: ShardIndex, clip: ClipModel
) -> None:
    sample = SampleReader(index).read(0)
    built = stream(index, clip).preparer
    rows = set()
    for epoch in range(20):
        negative_L = built.prepare(0, sample, epoch, triple=True, views=True).negative_L
        assert negative_L is not None
        rows.add(tuple(negative_L.tolist()))
    stored = {tuple(clip.tokenizer([n["text"]])[0].tolist()) for n in sample.record["negatives"]}
    assert rows == stored


def test_every_step_has_triples_beside_its_pairs(index: ShardIndex, clip: ClipModel) -> None:
    built = list(stream(index, clip, triples_enter="every-step", triples_per_step=4).epoch(0))
    assert [len(batch.image_M3HW) for batch in built] == [12, 12, 12]
    assert all(batch.triple_rows_T.tolist() == [8, 9, 10, 11] for batch in built)  # type: ignore[union-attr]
    assert all(len(batch.image_view_B3HW) == len(batch.text_BL) == 8 for batch in built)  # type: ignore[arg-type]


def test_extra_steps_follow_the_epoch(index: ShardIndex, clip: ClipModel) -> None:
    built = stream(index, clip, triples_enter="extra-steps", triples=17)
    told = [0 if b.triple_rows_T is None else len(b.triple_rows_T) for b in built.epoch(0)]
    assert told == [0, 0, 0, 8, 8]
    assert built.steps_per_epoch == 5


def test_only_what_the_method_needs_is_made(index: ShardIndex, clip: ClipModel) -> None:
    built = next(stream(index, clip, Needs(views=False, triples=False)).epoch(0))
    assert (built.image_view_B3HW, built.text_view_BL, built.triple_rows_T) == (None, None, None)


def test_broken_images_are_named_and_the_rest_goes_on(write_shards: WriteShards, clip: ClipModel) -> None:
    def change(number: int, members: dict[str, bytes]) -> dict[str, bytes]:
        return members | ({"jpg": members["jpg"][:200]} if number in (3, 4) else {})

    index = index_shards(find_shards(str(write_shards(18, change=change))))
    built = stream(index, clip, batch_size=9)
    keys = {key for batch in built.epoch(0) for key in batch.keys}
    assert len(keys) == 16
    assert built.skipped.counts == {batches.BROKEN_IMAGE: 2}
    assert all(":" in name and "00000" in name for name in built.skipped.names[batches.BROKEN_IMAGE])


def test_every_step_with_nothing_but_broken_triples_ends(write_shards: WriteShards, clip: ClipModel) -> None:
    def change(number: int, members: dict[str, bytes]) -> dict[str, bytes]:
        if number < 2:
            return members | {"jpg": b"broken"}
        return {extension: members[extension] for extension in ("jpg", "txt")}

    index = index_shards(find_shards(str(write_shards(20, change=change))))
    made = stream(index, clip, Needs(views=False, triples=True), triples_enter="every-step")
    built = list(made.epoch(0))
    assert [batch.triple_rows_T for batch in built] == [None, None]
    assert sum(batch.num_pairs for batch in built) + made.skipped.counts[batches.BROKEN_IMAGE] >= 16


def test_a_step_without_any_image_stops_the_run(write_shards: WriteShards, clip: ClipModel) -> None:
    index = index_shards(find_shards(str(write_shards(8, change=lambda n, m: m | {"jpg": b"broken"}))))
    with pytest.raises(UserError, match=r"no image of step 1 of epoch 1 can be decoded, the first: .*00000"):
        list(stream(index, clip).epoch(0))


@pytest.mark.parametrize("mode", ["in-step", "every-step", "extra-steps"])
@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_every_batch_exactly(index: ShardIndex, clip: ClipModel, mode: str, world: int) -> None:
    options: dict[str, Any] = {"triples_enter": mode, "triples": 9}
    whole = stream(index, clip, **options).epoch(1)
    shares = [
        BatchStream(
            index,
            clip,
            needs=ALL,
            options=BatchOptions(batch_size=8, **options),
            ranks=Ranks(rank=rank, world=world),
        ).epoch(1)
        for rank in range(world)
    ]
    num = 0
    for batch, *parts in zip(whole, *shares, strict=True):
        num += 1
        assert tuple(key for part in parts for key in part.keys) == batch.keys
        assert {part.num_pairs for part in parts} <= {8 // world, -(-8 // world)}
        for name in ("text_BL", "image_view_B3HW", "positive_TL", "negative_TL"):
            rows = [getattr(part, name) for part in parts if getattr(part, name) is not None]
            assert torch.equal(torch.cat(rows), getattr(batch, name)) if rows else True
        pictures = [part.image_M3HW[: part.num_pairs] for part in parts]
        assert torch.equal(torch.cat(pictures), batch.image_M3HW[:8])
        triples = [p.image_M3HW[p.triple_rows_T] for p in parts if p.triple_rows_T is not None]
        if batch.triple_rows_T is not None:
            assert torch.equal(torch.cat(triples), batch.image_M3HW[batch.triple_rows_T])
    assert num == stream(index, clip, **options).steps_per_epoch


def test_skipping_decodes_nothing(
    index: ShardIndex, clip: ClipModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = []
    original = images.decode

    def decode(data: bytes) -> Image.Image:
        decoded.append(data)
        return original(data)

    monkeypatch.setattr(images, "decode", decode)
    next(stream(index, clip).epoch(0, skip=2))
    assert len(decoded) == 8


def test_a_compressed_shard_gives_the_same_batches(
    index: ShardIndex, clip: ClipModel, tmp_path: Path
) -> None:
    for shard in index.shards:
        (tmp_path / shard.name).write_bytes(gzip.compress(shard.read_bytes()))
    packed = index_shards(find_shards(str(tmp_path / "*.tar")))
    pairs = zip(stream(index, clip).epoch(0), stream(packed, clip).epoch(0), strict=True)
    assert all(equal(one, other) for one, other in pairs)


def test_poison_sees_every_sample_after_the_resize(index: ShardIndex, clip: ClipModel) -> None:
    seen = []

    def poison(key: str, image: torch.Tensor, caption: str) -> tuple[torch.Tensor, str]:
        seen.append((key, tuple(image.shape), image.dtype))
        return torch.zeros_like(image), "nothing"

    options = BatchOptions(batch_size=26)
    built = BatchStream(index, clip, needs=Needs(views=False, triples=False), options=options, poison=poison)
    (batch,) = built.epoch(0)
    assert len(seen) == 26
    assert {entry[1:] for entry in seen} == {((3, 32, 32), torch.uint8)}
    assert batch.image_M3HW.sum() == 0
    assert torch.equal(batch.text_BL[0], clip.tokenizer(["nothing"])[0])


@pytest.mark.parametrize(
    ("needs", "drop", "said"),
    [
        (ALL, "negatives", "no sample has a positive and a negative sub-caption"),
        (Needs(views=True, triples=False), "views", "no sample has an augmented caption"),
    ],
)
def test_shards_without_what_a_method_needs_are_refused(
    write_shards: WriteShards, clip: ClipModel, needs: Needs, drop: str, said: str
) -> None:
    def change(_: int, members: dict[str, bytes]) -> dict[str, bytes]:
        record = json.loads(members["json"])
        del record[drop]
        return members | {"json": json.dumps(record).encode()}

    index = index_shards(find_shards(str(write_shards(8, change=change))))
    with pytest.raises(UserError, match=said):
        stream(index, clip, needs)


def test_fewer_samples_than_a_batch_are_refused(index: ShardIndex, clip: ClipModel) -> None:
    with pytest.raises(UserError, match="26 usable samples, fewer than one batch"):
        stream(index, clip, batch_size=27)


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 0},
        {"triples": 0},
        {"workers": -1},
        {"triples_enter": "never"},
        {"resize": "x"},
        {"shuffle_buffer": 0},
    ],
)
def test_wrong_options_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        BatchOptions(**wrong)  # type: ignore[arg-type]


def _record(index: ShardIndex, key: str) -> dict[str, str]:
    return SampleReader(index).read(index.keys.index(key)).record


@pytest.mark.parametrize("workers", [0, 2])
def test_captions_and_views_become_tokens_once(
    index: ShardIndex, clip: ClipModel, tmp_path: Path, workers: int
) -> None:
    log, original = tmp_path / "tokenised", clip.tokenizer

    def tokenizer(texts: list[str]) -> torch.Tensor:
        with log.open("a") as file:
            file.writelines(f"{text}\n" for text in texts)
        return original(texts)

    plain = [list(stream(index, clip, Needs(views=True)).epoch(epoch)) for epoch in range(8)]
    kept = stream(index, replace(clip, tokenizer=tokenizer), Needs(views=True), workers=workers)
    for epoch in range(8):
        if epoch == 6:
            log.write_text("")
        assert all(map(equal, plain[epoch], kept.epoch(epoch)))
    counts = len(log.read_text().splitlines())
    assert counts < 24  # of the last two epochs' 96 texts: a view or two that was never drawn before


def test_tokens_that_do_not_fit_a_row_are_made_again(clip: ClipModel) -> None:
    made: list[str] = []

    def tokenizer(texts: list[str]) -> torch.Tensor:
        made.extend(texts)
        row = torch.ones((1, 64), dtype=torch.int64)
        for place, word in enumerate(texts[0].split()):
            row[0, place] = int(word)
        return row

    kept = KeptTokens(tokenizer, 5)
    short, long = "7 8 65535 0", " ".join(["9"] * 33)
    for place, text, times in ((0, short, 1), (1, long, 3), (2, "65536 1", 3), (None, short, 3), (4, "", 1)):
        made.clear()
        rows = [kept.tokens(place, text) for _ in range(3)]
        assert all(torch.equal(row, tokenizer([text])[0]) for row in rows)
        assert made.count(text) == times + 3


def test_without_room_for_a_file_tokens_are_made_each_time(
    clip: ClipModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    kept = KeptTokens(clip.tokenizer, 3)
    assert all(torch.equal(kept.tokens(0, "a cat"), clip.tokenizer(["a cat"])[0]) for _ in range(2))


def test_batches_come_onto_the_device_in_order(index: ShardIndex, clip: ClipModel) -> None:
    plain = list(stream(index, clip).epoch(0))
    assert all(map(equal, plain, on_device(stream(index, clip).epoch(0), torch.device("cpu"))))


def test_workers_stack_in_memory_that_the_trainer_has_too(
    index: ShardIndex, clip: ClipModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = next(stream(index, clip).epoch(0))
    monkeypatch.setattr("torch.utils.data._utils.worker._worker_info", object())
    there = next(stream(index, clip).epoch(0))
    assert equal(here, there)
    for name in ("image_M3HW", "image_view_B3HW"):
        assert [getattr(batch, name).is_shared() for batch in (here, there)] == [False, True]


def test_a_batch_of_parts_is_in_memory_once(
    index: ShardIndex, clip: ClipModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts: list[weakref.ref[torch.Tensor]] = []

    def join(pairs: list[batches.Batch], **beside: Any) -> batches.Batch:
        parts.extend(weakref.ref(part.image_M3HW) for part in pairs)
        return join_parts(pairs, **beside)

    monkeypatch.setattr(batches, "join", join)
    monkeypatch.setattr(batches, "PART", 3)
    epoch = stream(index, clip).epoch(0)
    assert next(epoch).num_pairs == 8
    assert [part() for part in parts] == [None] * 3
