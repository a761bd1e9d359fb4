"""Shards to samples: finds the shards, reads their members within limits, and knows which samples can be used.

The first stage of training: `index_shards` makes one pass without decoding an image; `batches` then streams the
same shards in a seeded order. The pipeline's reader reads the members and says where a sample begins, webdataset
groups them; members other than images, captions, JSON and class labels are never read, so a pickle in a shard stays
bytes on the disk. WDS_SECURE is set for whatever else uses webdataset.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.storage import BROKEN_SHARD, IMAGE_EXTENSIONS, MAX_NAMED_FAULTS, find_files, read_members
from trainer.records import clean_text, has_triple, views_of

READ_EXTENSIONS = (*IMAGE_EXTENSIONS, "txt", "json", "cls")

NO_IMAGE = "no_image"
NO_CAPTION = "no_caption"
BAD_JSON = "bad_json"


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
    keys: tuple[str, ...]
    """Of the samples with image and caption, in shard order."""
    triple_keys: tuple[str, ...]
    """Those that have a positive and at least one negative sub-caption."""
    num_without_views: int
    """Samples that have no augmented caption stored."""
    skipped: Skipped


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

    Those not asked for come as empty bytes, those that cannot be read as None.
    """

    def wants(extension: str) -> bool:
        return extension in READ_EXTENSIONS and reads(extension)

    def report(reason: str, fault: str) -> None:
        skipped.add(reason, f"{shard.parent}/{fault}")

    for member in read_members(shard, wants=wants, report=report):
        if member.starts_sample:
            yield {}
        data = (member.data or b"") if member.readable else None
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
        image = next((group[extension] for extension in IMAGE_EXTENSIONS if extension in group), None)
        record = _parse_record(group.get("json"), name, skipped)
        caption = _caption(group, record)
        if image is None:
            skipped.add(NO_IMAGE, name)
        elif not caption:
            skipped.add(NO_CAPTION, name)
        else:
            yield RawSample(
                key=group["__key__"],
                shard=str(shard),
                image=image,
                caption=caption,
                record=record,
                label=_label(group.get("cls")),
            )


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
    keys: list[str] = []
    triple_keys: list[str] = []
    num_without_views = 0
    for shard, images in zip(shards, beside, strict=True):
        for group in _joined(shard, images, lambda extension: extension not in IMAGE_EXTENSIONS, skipped):
            key, name = group["__key__"], f"{shard}: {group['__key__']}"
            record = _parse_record(group.get("json"), name, skipped)
            if not any(extension in group for extension in IMAGE_EXTENSIONS):
                skipped.add(NO_IMAGE, name)
            elif not _caption(group, record):
                skipped.add(NO_CAPTION, name)
            else:
                keys.append(key)
                triple_keys += [key] if has_triple(record) else []
                num_without_views += not views_of(record)
    _check_index(shards, keys, skipped)
    return ShardIndex(
        shards=shards,
        image_shards=beside,
        keys=tuple(keys),
        triple_keys=tuple(triple_keys),
        num_without_views=num_without_views,
        skipped=skipped,
    )


def read_captions(index: ShardIndex) -> Iterator[tuple[str, str]]:
    """Key and caption of every sample that the index counts, in its order; images are stepped over."""
    usable, ignored = frozenset(index.keys), Skipped()
    for shard, images in zip(index.shards, index.image_shards, strict=True):
        for group in _joined(shard, images, lambda extension: extension not in IMAGE_EXTENSIONS, ignored):
            if group["__key__"] in usable:
                record = _parse_record(group.get("json"), group["__key__"], ignored)
                yield group["__key__"], _caption(group, record)


def _check_index(shards: tuple[Path, ...], keys: list[str], skipped: Skipped) -> None:
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
    if len(set(keys)) < len(keys):
        key = Counter(keys).most_common(1)[0][0]
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


def _caption(group: dict[str, Any], record: dict[str, Any]) -> str:
    return clean_text(
        str(group["txt"], "utf-8", errors="replace") if "txt" in group else record.get("caption")
    )


def _label(data: bytes | None) -> int | None:
    text = b"" if data is None else data.strip()
    return int(text) if text.isdigit() and len(text) < 10 else None
