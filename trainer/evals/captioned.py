"""Captioned images for retrieval: a split of a data manifest, or shards; each image with all its captions.

WebDataset samples `key.jpg` with `key.json` (`captions`: a list), else `key.txt`, else `caption` in the JSON. Streamed
as the model takes them; what cannot be used is named. Used by `retrieval`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from pipeline.errors import UserError
from trainer.data import find_shards
from trainer.evals.samples import RawCaptioned, read_captioned_tar
from trainer.images import BrokenImage, decode
from trainer.manifests import WEBDATASET, check_hashes, open_manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionedBatch:
    """Some images with their captions."""

    keys: tuple[str, ...]
    image_N3HW: Tensor
    """uint8, at the model's size."""
    captions: tuple[tuple[str, ...], ...]
    """At least one for each image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionedImages:
    """Where captioned images are."""

    name: str
    shards: tuple[Path, ...]
    faults: list[str] = field(default_factory=list, compare=False)
    """What the last reading left out, named."""

    def batches(
        self, resize: Callable[[Image.Image], Tensor], *, batch_size: int
    ) -> Iterator[CaptionedBatch]:
        """Every usable image once, in the shards' order, `batch_size` at a time; what is not goes to `faults`."""
        self.faults.clear()
        raws: list[RawCaptioned] = []
        images: list[Tensor] = []
        for raw in self._raw(images=True):
            if raw.image is None or not raw.captions:
                continue  # named by the reader
            try:
                images.append(resize(decode(raw.image)))
            except BrokenImage as error:
                self.faults.append(f"{raw.name}: {error}")
                continue
            raws.append(raw)
            if len(raws) == batch_size:
                yield _to_batch(raws, images)
                raws, images = [], []
        if raws:
            yield _to_batch(raws, images)

    def count(self) -> int:
        """The number of samples, unusable ones included, from the texts alone; faults as in `batches`."""
        self.faults.clear()
        return sum(1 for _ in self._raw(images=False))

    def _raw(self, *, images: bool) -> Iterator[RawCaptioned]:
        for shard in self.shards:
            yield from read_captioned_tar(shard, images=images, faults=self.faults)


def load_captioned(source: str, *, split: str = "test", root: Path | None = None) -> CaptionedImages:
    """The captioned images of a manifest (a `*.json` or a shipped one's name) or of shards.

    Paths are relative to `root`, by default to the manifest's own folder (a shipped one's: to this folder). Hashes
    and counts that the manifest states are checked. UserError for what is missing or not as described.
    """
    manifest = open_manifest(source, root=root)
    if manifest is None:
        return CaptionedImages(name=source, shards=find_shards(source))
    expected = manifest.split(split).num_samples
    if manifest.format != WEBDATASET:
        raise UserError(
            f"{manifest.path} describes {manifest.format} files: pack images and captions as WebDataset"
        )
    data = CaptionedImages(name=manifest.name, shards=manifest.files(split))
    changed = next(check_hashes(manifest, split), None)
    if changed is not None:
        raise UserError(changed)
    if expected is not None and (found := data.count()) != expected:
        raise UserError(
            f"{manifest.name} has {expected:,} samples in {split}, and there are {found:,} below "
            f"{manifest.root}: `trainer data check` says what is missing"
        )
    return data


def _to_batch(raws: list[RawCaptioned], images: list[Tensor]) -> CaptionedBatch:
    return CaptionedBatch(
        keys=tuple(raw.key for raw in raws),
        image_N3HW=torch.stack(images),
        captions=tuple(raw.captions for raw in raws),
    )
