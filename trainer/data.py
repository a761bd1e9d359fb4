"""Shards to samples: finds the shards, reads their members within limits, and knows which samples can be used.

The first stage of training: `index_shards` makes one pass without decoding an image and remembers where each sample
stands; `batches` then reads any of them, in a seeded order, from any process (`SampleReader`). The pipeline's reader
reads the members and says where a sample begins, webdataset groups them; members other than images, captions, JSON
and class labels are never read, so a pickle in a shard stays bytes on the disk. WDS_SECURE is set for whatever else
uses webdataset.
"""

import json
import os
from array import array
from bisect import bisect_left, bisect_right
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

from pipeline.errors import UserError
from pipeline.storage import (
    BROKEN_SHARD,
    IMAGE_EXTENSIONS,
    MAX_NAMED_FAULTS,
    REFUSED_MEMBER,
    TarMember,
    find_files,
    read_members,
)
from trainer.keys import Keys
from trainer.records import clean_text, has_triple, views_of

READ_EXTENSIONS = (*IMAGE_EXTENSIONS, "txt", "json", "cls")

NO_IMAGE = "no_image"
NO_CAPTION = "no_caption"
BAD_JSON = "bad_json"

NOWHERE: Final = 0
"""The place of a member that a sample does not have, or that stands in a compressed or remote tar."""
_BLOCK: Final = 512
"""Members of a tar begin at multiples of it, and places are counted in it: 32 bits reach 2 TB far."""
_PLACES: Final = 6
"""Numbers of 32 bits for each sample: block and size of its image, its text, its JSON."""
MOST_LEFT_OUT: Final = 9
"""For each sample that can be used; where more cannot, nobody meant these data."""
_OPEN_SHARDS: Final = 64
_WHOLE_SHARDS: Final = 3
"""As many as a buffer of shuffled samples usually reaches into."""


class Skipped:
    """Counts what was left out, by reason, and remembers the first names of each."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.names: dict[str, list[str]] = {}

    def add(self, reason: str, name: str) -> None:
        """One more left out for `reason`."""
        self.counts[reason] += 1
        names = self.names.setdefault(reason, [])
        if len(names) < MAX_NAMED_FAULTS:
            names.append(name)

    def __or__(self, other: "Skipped") -> "Skipped":
        """Both together."""
        both = Skipped()
        both.counts = self.counts + other.counts
        for reason in both.counts:
            both.names[reason] = (self.names.get(reason, []) + other.names.get(reason, []))[:MAX_NAMED_FAULTS]
        return both


@dataclass(frozen=True, slots=True, kw_only=True)
class RawSample:
    """One sample as its shard holds it, nothing decoded but the texts."""

    key: str
    shard: str
    image: bytes
    caption: str
    record: dict[str, Any]
    """The `.json` member; {} where there is none."""
    label: int | None
    """The `.cls` member."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardIndex:
    """What one pass over the shards found."""

    shards: tuple[Path, ...]
    image_shards: tuple[Path | None, ...]
    """Beside each shard the one that holds its images; None where its own samples do."""
    keys: Keys
    """Of the samples with image and caption, in shard order."""
    triples: "array[int]"
    """Which of them have a positive and at least one negative sub-caption."""
    num_without_views: int
    """Samples that have no augmented caption stored."""
    skipped: Skipped
    starts: tuple[int, ...]
    """Of each shard, which of `keys` is its first."""
    places: "array[int]"
    """Where the samples stand in their files: six numbers for each."""

    def shard_of(self, position: int) -> int:
        """The number of the shard that holds the sample of that position in `keys`."""
        return bisect_right(self.starts, position) - 1

    def take(self, positions: Sequence[int]) -> "ShardIndex":
        """The index of the samples at these positions in `keys` alone, which rise."""
        places, triples, with_triple = array("I"), array("I"), frozenset(self.triples)
        for number, position in enumerate(positions):
            places.extend(self.places[position * _PLACES : (position + 1) * _PLACES])
            if position in with_triple:
                triples.append(number)
        return replace(
            self,
            keys=Keys(self.keys[position] for position in positions),
            triples=triples,
            num_without_views=min(self.num_without_views, len(positions)),
            starts=tuple(bisect_left(positions, start) for start in self.starts),
            places=places,
        )


def find_shards(pattern: str) -> tuple[Path, ...]:
    """The shards that a pattern means, in its order: files, folders, globs, `{000..123}`, joined by `::`.

    UserError where a part finds nothing, and where a file is named twice.
    """
    found = find_files(pattern, noun="shard", in_folder=_shards_in, gaps=False)
    double = [path for path, count in Counter(found).items() if count > 1]
    if double:
        raise UserError(f"the shard {double[0]} is named twice by {pattern!r}")
    return tuple(found)


def _shards_in(folder: Path) -> list[Path]:
    for place in (folder, folder / "shards"):
        if shards := sorted(place.glob("*.tar")):
            return shards
    raise UserError(f"the folder {folder} holds no .tar shard")


def _members(shard: Path, reads: Callable[[str], bool], skipped: Skipped) -> Iterator[dict[str, Any]]:
    """The shard's members as webdataset's grouping takes them, {} between two samples.

    Those that cannot be read come as None, those not asked for without their bytes.
    """

    def wants(extension: str) -> bool:
        return extension in READ_EXTENSIONS and reads(extension)

    def report(reason: str, fault: str) -> None:
        skipped.add(reason, f"{shard.parent}/{fault}")

    for member in read_members(shard, wants=wants, report=report):
        if member.starts_sample:
            yield {}
        data = member if member.readable else None
        yield {"fname": f"{member.key}.{member.extension}", "data": data, "__url__": str(shard)}


def _groups(shard: Path, reads: Callable[[str], bool], skipped: Skipped) -> Iterator[dict[str, Any]]:
    """The shard's samples: the key, and what can be read of the known members."""
    os.environ.setdefault("WDS_SECURE", "1")
    from webdataset.tariterators import (
        group_by_keys,  # here: it imports torch, which lists of data sets need not
    )

    for group in group_by_keys(_members(shard, reads, skipped), suffixes=set(READ_EXTENSIONS)):
        yield {name: value for name, value in group.items() if value is not None}


def _joined(
    shard: Path, images: Path | None, reads: Callable[[str], bool], skipped: Skipped
) -> Iterator[dict[str, Any]]:
    """The shard's groups, each with the image that the shard beside holds under the same key."""
    if images is None:
        yield from _groups(shard, reads, skipped)
        return
    beside = _groups(images, lambda extension: extension in IMAGE_EXTENSIONS and reads(extension), skipped)
    for group, other in zip_longest(_groups(shard, reads, skipped), beside):
        keys = [None if found is None else found["__key__"] for found in (group, other)]
        if group is None or other is None or keys[0] != keys[1]:
            raise UserError(f"{shard} and {images} do not go together: key {keys[0]!r} beside {keys[1]!r}")
        yield {extension: other[extension] for extension in IMAGE_EXTENSIONS if extension in other} | group


def read_shard(shard: Path, *, skipped: Skipped, images: Path | None = None) -> Iterator[RawSample]:
    """The shard's samples that have an image and a caption, in order; what is left out is counted in `skipped`.

    `images` is the shard that holds the images of a text-only one: the same keys in the same order.
    """
    for group in _joined(shard, images, lambda _: True, skipped):
        name = f"{shard}: {group['__key__']}"
        image = _image_of(group)
        record = _parse_record(_bytes_of(group, "json"), name, skipped)
        caption = _caption(_bytes_of(group, "txt"), record)
        if image is None:
            skipped.add(NO_IMAGE, name)
        elif not caption:
            skipped.add(NO_CAPTION, name)
        else:
            yield RawSample(
                key=group["__key__"],
                shard=str(shard),
                image=image.data or b"",
                caption=caption,
                record=record,
                label=_label(_bytes_of(group, "cls")),
            )


def _image_of(group: dict[str, Any]) -> TarMember | None:
    return next((group[extension] for extension in IMAGE_EXTENSIONS if extension in group), None)


def _bytes_of(group: dict[str, Any], extension: str) -> bytes | None:
    member: TarMember | None = group.get(extension)
    return None if member is None else member.data


def index_shards(shards: tuple[Path, ...], *, image_shards: tuple[Path, ...] = ()) -> ShardIndex:
    """One pass over the shards that reads the texts and steps over the images.

    `image_shards` stand beside text-only shards, one for each. UserError where they do not, and where no sample can
    be used: text-only shards alone, no captions, nothing but broken files.
    """
    if image_shards and len(image_shards) != len(shards):
        raise UserError(
            f"{len(shards)} text shards and {len(image_shards)} image shards: one is needed for each"
        )
    beside = image_shards or (None,) * len(shards)
    skipped = Skipped()
    keys, triples, places = Keys(), array("I"), array("I")
    num_without_views = 0
    starts: list[int] = []
    for shard, images in zip(shards, beside, strict=True):
        starts.append(len(keys))
        for group in _joined(shard, images, lambda extension: extension not in IMAGE_EXTENSIONS, skipped):
            key, name = group["__key__"], f"{shard}: {group['__key__']}"
            record = _parse_record(_bytes_of(group, "json"), name, skipped)
            image = _image_of(group)
            if image is None:
                skipped.add(NO_IMAGE, name)
            elif not _caption(_bytes_of(group, "txt"), record):
                skipped.add(NO_CAPTION, name)
            else:
                if has_triple(record):
                    triples.append(len(keys))
                keys.append(key)
                for member in (image, group.get("txt"), group.get("json")):
                    places.extend(_place(member, shard))
                num_without_views += not views_of(record)
    _check_index(shards, keys, starts, skipped)
    return ShardIndex(
        shards=shards,
        image_shards=beside,
        keys=keys,
        triples=triples,
        num_without_views=num_without_views,
        skipped=skipped,
        starts=tuple(starts),
        places=places,
    )


def _place(member: TarMember | None, shard: Path) -> tuple[int, int]:
    if member is None:
        return NOWHERE, 0
    block, rest = divmod(member.offset or NOWHERE, _BLOCK)
    assert not rest, member.name
    if block >= 2**32:
        raise UserError(f"{shard} is larger than 2 TB: split it")
    return block, member.size


class SampleReader:
    """Reads any sample of an index, in any order, from where the index found it.

    A shard without places (compressed, remote) is read as a whole, and kept while the last few are asked for.
    """

    def __init__(self, index: ShardIndex) -> None:
        self.index = index
        self._files: OrderedDict[Path, int] = OrderedDict()
        self._whole: OrderedDict[int, dict[str, RawSample]] = OrderedDict()

    def read(self, position: int) -> RawSample:
        """The sample of that position in `index.keys`, without its label."""
        index = self.index
        number = index.shard_of(position)
        shard = index.shards[number]
        image_shard = index.image_shards[number] or shard
        places = index.places[position * _PLACES : (position + 1) * _PLACES]
        pairs = tuple(zip(places[::2], places[1::2], strict=True))
        if any(block == NOWHERE and size for block, size in pairs):
            return self._from_whole(number, index.keys[position])
        image = self._bytes(image_shard, *pairs[0]) or b""
        text, data = (self._bytes(shard, *pair) for pair in pairs[1:])
        record = _parse_record(data, index.keys[position], Skipped())  # the index has counted what is wrong
        return RawSample(
            key=index.keys[position],
            shard=str(shard),
            image=image,
            caption=_caption(text, record),
            record=record,
            label=None,
        )

    def _bytes(self, shard: Path, block: int, size: int) -> bytes | None:
        if block == NOWHERE:
            return None
        if shard not in self._files:
            if len(self._files) == _OPEN_SHARDS:
                os.close(self._files.popitem(last=False)[1])
            try:
                self._files[shard] = os.open(shard, os.O_RDONLY)
            except OSError as error:
                raise UserError(f"{shard} cannot be read: {error.strerror or error}") from None
        self._files.move_to_end(shard)
        return os.pread(
            self._files[shard], size, block * _BLOCK
        )  # workers share the file, but not a place in it

    def __del__(self) -> None:
        while self._files:
            os.close(self._files.popitem()[1])

    def _from_whole(self, number: int, key: str) -> RawSample:
        if number not in self._whole:
            if len(self._whole) == _WHOLE_SHARDS:
                self._whole.popitem(last=False)
            images = self.index.image_shards[number]
            found = read_shard(self.index.shards[number], skipped=Skipped(), images=images)
            self._whole[number] = {sample.key: sample for sample in found}
        self._whole.move_to_end(number)
        return self._whole[number][key]


def read_captions(index: ShardIndex) -> Iterator[tuple[str, str]]:
    """Key and caption of every sample that the index counts, in its order; images are stepped over."""
    usable, ignored = frozenset(index.keys), Skipped()
    for shard, images in zip(index.shards, index.image_shards, strict=True):
        for group in _joined(shard, images, lambda extension: extension not in IMAGE_EXTENSIONS, ignored):
            if group["__key__"] in usable:
                record = _parse_record(_bytes_of(group, "json"), group["__key__"], ignored)
                yield group["__key__"], _caption(_bytes_of(group, "txt"), record)


def _check_index(shards: tuple[Path, ...], keys: Keys, starts: list[int], skipped: Skipped) -> None:
    if not keys:
        counts = skipped.counts
        if counts[NO_IMAGE]:
            hint = "text-only shards? give the shards of their images, too (--image-shards)"
        elif counts[BROKEN_SHARD]:
            hint = skipped.names[BROKEN_SHARD][0]
        else:
            hint = f"left out: {dict(counts)}" if counts else "they are empty"
        raise UserError(
            f"no sample with image and caption in {len(shards)} shards ({shards[0]}, ...): {hint}"
        )
    left_out = sum(skipped.counts.values()) - skipped.counts[REFUSED_MEMBER]
    num_empty = sum(start == end for start, end in zip(starts, [*starts[1:], len(keys)], strict=True))
    if left_out > MOST_LEFT_OUT * len(keys) or 2 * num_empty > len(shards):
        told = ", ".join(f"{count:,} {reason}" for reason, count in skipped.counts.most_common())
        raise UserError(
            f"only {len(keys):,} samples can be used, of {num_empty} of {len(shards)} shards none ({told}): mend these "
            f"shards or name only those that are whole"
        )
    if (key := keys.repeated()) is not None:
        raise UserError(f"the key {key!r} stands in several samples; keys must be unique over all shards")


def _parse_record(data: bytes | None, name: str, skipped: Skipped) -> dict[str, Any]:
    if data is None:
        return {}
    try:
        record = json.loads(data)
    except (ValueError, RecursionError):
        record = None
    if isinstance(record, dict):
        return record
    skipped.add(BAD_JSON, name)
    return {}


def _caption(text: bytes | None, record: dict[str, Any]) -> str:
    return clean_text(record.get("caption") if text is None else str(text, "utf-8", errors="replace"))


def _label(data: bytes | None) -> int | None:
    text = b"" if data is None else data.strip()
    return int(text) if text.isdigit() and len(text) < 10 else None
