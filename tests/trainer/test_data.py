"""Shards: which are found, what of them is used, and what hostile ones can do (nothing)."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.storage import BROKEN_SHARD, MEMBER_TOO_LARGE, REFUSED_MEMBER, read_tar, tars
from tests.square_shards import Members
from trainer import data
from trainer.data import Skipped, find_shards, index_shards, read_shard
from trainer.model import load_model
from trainer.records import MAX_TEXT_CHARACTERS, negatives_of, positive_of, views_of

WriteShards = Callable[..., Path]


def names(pattern: str, root: Path) -> list[str]:
    return [str(path.relative_to(root)) for path in find_shards(pattern)]


def test_patterns_find_shards_in_order(write_shards: WriteShards, tmp_path: Path) -> None:
    folder = write_shards(shards=3)
    all_three = ["shards/00000.tar", "shards/00001.tar", "shards/00002.tar"]
    for pattern in (folder, f"{folder}/*.tar", f"{folder}/{{00000..00002}}.tar", tmp_path):
        assert names(str(pattern), tmp_path) == all_three
    joined = f"{folder}/00002.tar::{folder}/{{00000,00001}}.tar"
    assert names(joined, tmp_path) == [all_three[2], *all_three[:2]]


@pytest.mark.parametrize(
    "part", ["nowhere/{0..2}.tar", "nowhere/*.tar", "", "a.tar::", "{0..", "pipe:cat x", "ftp://b/x.tar"]
)
def test_patterns_that_find_nothing_are_refused(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"shard|brace pattern|nothing is read from ftp"):
        find_shards(part)


def test_an_empty_folder_and_a_repeated_shard_are_refused(write_shards: WriteShards, tmp_path: Path) -> None:
    folder = write_shards()
    with pytest.raises(UserError, match="named twice"):
        find_shards(f"{folder}::{folder}/00000.tar")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"holds no \.tar"):
        find_shards(str(tmp_path / "empty"))


def test_samples_come_whole(write_shards: WriteShards) -> None:
    folder = write_shards(4, shards=1)
    samples = list(read_shard(folder / "00000.tar", skipped=Skipped()))
    assert [sample.key for sample in samples] == [f"{n:06d}" for n in range(4)]
    sample = samples[0]
    assert sample.image.startswith(b"\xff\xd8")
    assert sample.caption == sample.record["caption"]
    assert (sample.record["url"], sample.label) == ("kept", None)
    assert positive_of(sample.record).endswith("square")
    assert (len(negatives_of(sample.record)), len(views_of(sample.record))) == (2, 2)


def test_index_agrees_with_reading(write_shards: WriteShards) -> None:
    def change(number: int, members: dict[str, bytes]) -> dict[str, bytes]:
        record = json.loads(members["json"])
        if number % 3 == 0:
            record["negatives"] = []
        return members | {"json": json.dumps(record).encode()}

    index = index_shards(find_shards(str(write_shards(12, change=change))))
    read = [sample for shard in index.shards for sample in read_shard(shard, skipped=Skipped())]
    assert list(index.keys) == [sample.key for sample in read]
    with_triple = [index.keys[position] for position in index.triples]
    assert with_triple == [sample.key for sample in read if int(sample.key) % 3]
    assert index.num_without_views == 0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"jpg": None}, data.NO_IMAGE),
        ({"txt": b" \n"}, data.NO_CAPTION),
        ({"json": b"{broken"}, data.BAD_JSON),
        ({"json": b"[1, 2]"}, data.BAD_JSON),
        ({"json": b"[" * 100_000}, data.BAD_JSON),
        ({"txt": None, "json": b'{"caption": 7}'}, data.NO_CAPTION),
    ],
)
def test_what_cannot_be_used_is_counted_and_named(write_shards: WriteShards, change, reason) -> None:  # type: ignore[no-untyped-def]
    def one(number: int, members: dict[str, bytes]) -> dict[str, bytes]:
        changed = members | change if number == 2 else members
        return {extension: content for extension, content in changed.items() if content is not None}

    index = index_shards(find_shards(str(write_shards(4, shards=1, change=one))))
    assert index.skipped.counts == {reason: 1}
    assert index.skipped.names[reason][0].endswith("00000.tar: 000002")
    assert len(index.keys) == (4 if reason == data.BAD_JSON else 3)


def test_a_caption_in_the_json_alone_is_used(write_shards: WriteShards) -> None:
    def change(_: int, members: dict[str, bytes]) -> dict[str, bytes]:
        return {extension: members[extension] for extension in ("jpg", "json")}

    index = index_shards(find_shards(str(write_shards(4, change=change))))
    assert len(index.keys) == 4


def test_a_pickle_in_a_shard_is_never_even_read(write_shards: WriteShards, tmp_path: Path) -> None:
    def change(_: int, members: dict[str, bytes]) -> dict[str, bytes]:
        return members | {"pyd": b"cos\nsystem\n(S'touch proof'\ntR.", "pt": b"x", "npy": b"y"}

    folder = write_shards(2, shards=1, change=change)
    (sample, _) = read_shard(folder / "00000.tar", skipped=Skipped())
    assert set(sample.record) == {"caption", "positive", "negatives", "views", "url"}
    assert not (tmp_path / "proof").exists()


def test_a_shard_cut_short_gives_what_it_has(write_shards: WriteShards) -> None:
    folder = write_shards(8)
    shard = folder / "00001.tar"
    shard.write_bytes(shard.read_bytes()[:6_000])
    index = index_shards(find_shards(str(folder)))
    assert 4 < len(index.keys) < 8
    assert index.skipped.counts[BROKEN_SHARD] == 1
    assert "00001.tar" in index.skipped.names[BROKEN_SHARD][0]


@pytest.mark.parametrize("content", [b"", b"no tar" * 500, b"\x1f\x8b" + bytes(2000)])
def test_shards_that_are_none_get_one_clear_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "00000.tar").write_bytes(content)
    with pytest.raises(UserError, match="no sample with image and caption"):
        index_shards(find_shards(str(tmp_path)))


def test_text_only_shards_get_a_hint(write_shards: WriteShards) -> None:
    def change(_: int, members: dict[str, bytes]) -> dict[str, bytes]:
        return {extension: members[extension] for extension in ("json", "txt")}

    with pytest.raises(UserError, match="text-only shards"):
        index_shards(find_shards(str(write_shards(4, change=change))))


def _only(*extensions: str) -> Callable[[int, dict[str, bytes]], dict[str, bytes]]:
    return lambda _, members: {extension: members[extension] for extension in extensions}


def test_text_only_shards_are_joined_with_the_shards_of_their_images(write_shards: WriteShards) -> None:
    whole = write_shards(10)
    texts, photos = (
        write_shards(10, name="texts", change=_only("json", "txt")),
        write_shards(10, name="photos"),
    )
    joined = index_shards(find_shards(str(texts)), image_shards=find_shards(str(photos)))
    assert joined.keys == index_shards(find_shards(str(whole))).keys
    for name in ("00000.tar", "00001.tar"):
        found = read_shard(texts / name, images=photos / name, skipped=Skipped())
        expected = read_shard(whole / name, skipped=Skipped())
        for one, other in zip(found, expected, strict=True):
            assert (one.key, one.image, one.record) == (other.key, other.image, other.record)


def test_shards_that_do_not_go_together_are_refused(write_shards: WriteShards) -> None:
    texts = find_shards(str(write_shards(6, name="texts", change=_only("json", "txt"))))
    lacking = write_shards(6, name="lacking", change=lambda n, members: None if n == 4 else members)
    with pytest.raises(UserError, match="key '000004' beside None"):
        index_shards(texts, image_shards=find_shards(str(lacking)))
    with pytest.raises(UserError, match="key '000000' beside '000001'"):
        index_shards(texts, image_shards=tuple(reversed(find_shards(str(lacking)))))
    with pytest.raises(UserError, match="2 text shards and 1 image shards"):
        index_shards(texts, image_shards=find_shards(f"{lacking}/00000.tar"))


def test_a_key_in_two_samples_is_refused(write_shards: WriteShards) -> None:
    shards = find_shards(f"{write_shards(2, name='a')}::{write_shards(2, name='b')}")
    with pytest.raises(UserError, match="'000000' stands in several samples"):
        index_shards(shards)


def test_a_huge_member_is_not_read(write_shards: WriteShards, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tars, "MAX_TEXT_BYTES", 5_000)
    folder = write_shards(3, shards=1, change=lambda n, m: m | ({"txt": b"x" * 6_000} if n == 1 else {}))
    index = index_shards(find_shards(str(folder)))
    assert index.skipped.counts[MEMBER_TOO_LARGE] == 1
    assert len(index.keys) == 3  # its caption stands in the JSON, too


def test_odd_members_are_no_samples(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, kind in (
            ("../up.jpg", tarfile.SYMTYPE),
            ("dev.jpg", tarfile.CHRTYPE),
            ("noextension", tarfile.REGTYPE),
        ):
            member = tarfile.TarInfo(name)
            member.type = kind
            tar.addfile(member)
    with pytest.raises(UserError, match=r"left out: \{'refused_member': 2\}"):
        index_shards(find_shards(str(tmp_path)))


def test_a_member_that_comes_twice_begins_another_sample(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, content in (("1.txt", b"a cat"), ("1.txt", b"a dog"), ("1.jpg", b"x")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    skipped = Skipped()
    (sample,) = read_shard(tmp_path / "a.tar", skipped=skipped)
    assert (sample.caption, skipped.counts) == ("a dog", {data.NO_IMAGE: 1})


NAMES = (
    "./a.jpg",
    "./a.txt",
    "a.json",
    "README.md",
    "d/b.TXT",
    "./d/b.jpg",
    "d/.hidden.jpg",
    "__meta__.json",
    "c.jpg",
    "c.seg.png",
    "../up.jpg",
    "c.txt",
    "c.jpg",
    "c.txt",
    "noextension",
    "e.x.jpg",
    "k\udce9y.jpg",
)


def _write_members(path: Path, names: tuple[str, ...]) -> Path:
    with tarfile.open(path, "w", errors="surrogateescape") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 1
            tar.addfile(member, io.BytesIO(b"x"))
    return path


def test_samples_are_those_of_the_pipeline(tmp_path: Path) -> None:
    path = _write_members(tmp_path / "a.tar", NAMES)
    ours = [
        (group["__key__"], sorted(name for name in group if not name.startswith("__")))
        for group in data._groups(path, lambda _: True, Skipped())
    ]
    expected = [
        (sample.key, sorted(name for name in sample.members if name in data.READ_EXTENSIONS))
        for sample in read_tar(path, wanted=None, faults=[])
    ]
    assert ours == expected
    assert [key for key, _ in ours] == ["a", "README", "d/b", "c", "c", "e", "k\ufffdy"]


def test_a_leading_dot_is_no_part_of_the_key(tmp_path: Path, write_shards: WriteShards) -> None:
    whole = write_shards(4, shards=1) / "00000.tar"
    dotted = tmp_path / "dotted.tar"
    with tarfile.open(whole) as old, tarfile.open(dotted, "w") as new:
        for member in old:
            content = old.extractfile(member)
            member.name = f"./{member.name}"
            new.addfile(member, content)
    texts = write_shards(4, shards=1, name="texts", change=_only("json", "txt"))
    for shard in (whole, dotted):
        joined = index_shards(find_shards(str(texts)), image_shards=(shard,))
        assert joined.keys == index_shards((shard,)).keys == index_shards((whole,)).keys


def test_behind_a_bad_header_training_goes_on(write_shards: WriteShards) -> None:
    shard = write_shards(96, shards=1) / "00000.tar"
    content = bytearray(shard.read_bytes())
    with tarfile.open(shard) as tar:
        offset = tar.getmember("000040.jpg").offset
    content[offset] ^= 1  # the header's checksum no longer holds
    shard.write_bytes(content)
    index = index_shards((shard,))
    read = [sample.key for sample in read_shard(shard, skipped=Skipped())]
    assert list(index.keys) == read == [f"{n:06d}" for n in range(96) if n != 40]
    assert index.skipped.counts == {BROKEN_SHARD: 1, data.NO_IMAGE: 1}
    assert "damaged tar headers" in index.skipped.names[BROKEN_SHARD][0]


def test_where_little_can_be_used_nothing_is_trained(write_shards: WriteShards) -> None:
    def without_images(number: int, members: Members) -> Members:
        return members if number % 12 == 0 else {"txt": b"a square"}

    few = find_shards(str(write_shards(48, shards=1, change=without_images)))
    with pytest.raises(UserError, match=r"only 4 samples can be used, .*44 no_image"):
        index_shards(few)
    whole = write_shards(30, shards=3, name="whole")
    for name in ("00000.tar", "00001.tar"):
        assert len(index_shards(find_shards(str(whole))).keys) in (30, 20)  # one that is broken costs itself
        (whole / name).write_bytes(b"no tar at all" * 100)
    with pytest.raises(
        UserError, match=r"only 10 samples can be used, of 2 of 3 shards none \(2 broken_shard\)"
    ):
        index_shards(find_shards(str(whole)))


@pytest.mark.parametrize("cut", [1_000, 3_000, 5_000, 6_000, 6_500])
def test_index_and_reading_agree_on_a_shard_cut_short(write_shards: WriteShards, cut: int) -> None:
    shard = write_shards(6, shards=1) / "00000.tar"
    shard.write_bytes(shard.read_bytes()[:-cut])
    index, skipped = index_shards((shard,)), Skipped()
    assert list(index.keys) == [sample.key for sample in read_shard(shard, skipped=skipped)]
    assert index.skipped.counts == skipped.counts


def test_members_that_lead_out_of_the_shard_are_counted(tmp_path: Path) -> None:
    path = _write_members(tmp_path / "a.tar", ("a.jpg", "a.txt", "../b.jpg", "/c.jpg", "d.pkl"))
    assert index_shards((path,)).skipped.counts == {REFUSED_MEMBER: 3}


def test_texts_and_keys_of_any_bytes_can_be_tokenised(tmp_path: Path) -> None:
    record = {"positive": "half \ud83d pair", "negatives": ["x\udfff" * 9_000], "views": ["a\n\tb", "\0"]}
    with tarfile.open(tmp_path / "a.tar", "w", errors="surrogateescape") as tar:
        for extension, content in (
            ("jpg", b"x"),
            ("txt", b"\xff\xfe caf\xe9"),
            ("json", json.dumps(record).encode()),
        ):
            member = tarfile.TarInfo(f"k\udce9y.{extension}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    (sample,) = read_shard(tmp_path / "a.tar", skipped=Skipped())
    texts = [
        sample.caption,
        positive_of(sample.record),
        *negatives_of(sample.record),
        *views_of(sample.record),
    ]
    for text in (sample.key, *texts):
        assert text.encode()
        assert len(text) <= MAX_TEXT_CHARACTERS
    assert load_model("cleanerclip-tiny-32").tokenizer(texts).shape == (5, 24)


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"negatives": None},
        {"negatives": [None, {}, {"text": 3}, ""]},
        {"negatives": "text", "positive": ["a"]},
    ],
)
def test_records_of_another_shape_have_no_sub_captions(record: dict[str, object]) -> None:
    assert (positive_of(record), negatives_of(record), views_of(record)) == ("", [], [])
