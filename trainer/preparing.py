"""Samples to parts of batches: decoded images, views, tokens; in the process that trains or in workers beside it.

What becomes of a sample is a pure function of (seed, epoch, key). `batches` says which samples make a step.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from trainer import images
from trainer.batch import Batch, Prepared, collate
from trainer.data import RawSample, SampleReader, ShardIndex
from trainer.kept_tokens import KeptTokens
from trainer.model import ClipModel
from trainer.records import negatives_of, positive_of, views_of

VIEWS: Final = 4
"""Views of a caption whose tokens are kept, as many as `pipeline augment-captions` makes."""

Poison = Callable[[str, Tensor, str], tuple[Tensor, str]]
"""(key, uint8 pixels (3, H, W), caption) -> the same pair, or a poisoned one: for a key always the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What a step wants of a sample."""

    position: int
    """Of the sample among the index's keys."""
    triple: bool = False
    views: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Some rows of a step: what one worker prepares at a time."""

    epoch: int
    step: int
    """In the epoch, from 0."""
    rows: tuple[Row, ...]
    beside: bool = False
    """Whether they are triples that stand beside the step's pairs."""
    last: bool = False
    """Whether it is its step's last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedPart:
    """What became of a part."""

    batch: Batch | None
    """None where no image can be decoded."""
    faults: tuple[str, ...]
    """The samples whose image cannot be decoded."""


class Preparer(Dataset[PreparedPart]):
    """Parts of steps as tensors; a worker process has one."""

    def __init__(
        self,
        index: ShardIndex,
        clip: ClipModel,
        *,
        seed: int,
        resize: images.ResizeMode | None,
        poison: Poison | None,
        exact: bool,
        views: bool,
    ) -> None:
        """`exact`: images are resized as the evaluations do it, to the bit; else by torch, which is faster."""
        self.reader, self.seed, self.poison = SampleReader(index), seed, poison
        self.tokenizer, self.image_size = clip.tokenizer, clip.image_size
        self.kept = KeptTokens(clip.tokenizer, len(index.keys) * (1 + VIEWS if views else 1))
        self.square = partial(
            _exact_pixels if exact else images.square_pixels,
            mode=resize or clip.resize_mode,
            interpolation=clip.interpolation,
        )
        self._beside: dict[int, Prepared | None] = {}
        self._beside_of = -1

    def __getitem__(self, part: Part) -> PreparedPart:
        """The part's rows, without those whose image cannot be decoded."""
        found = [self._row(row, part) for row in part.rows]
        whole = [row for row in found if isinstance(row, Prepared)]
        return PreparedPart(
            batch=collate(whole) if whole else None,
            faults=tuple(row for row in found if isinstance(row, str)),
        )

    def _row(self, row: Row, part: Part) -> "Prepared | str | None":
        """The row's tensors, or the name of what is broken. Triples that come again and again are kept; then None."""
        if part.beside and part.epoch != self._beside_of:
            self._beside, self._beside_of = {}, part.epoch
        if part.beside and row.position in self._beside:
            return self._beside[row.position]
        sample = self.reader.read(row.position)
        found: Prepared | str
        try:
            found = self.prepare(row.position, sample, part.epoch, triple=row.triple, views=row.views)
        except images.BrokenImage as error:
            found = f"{sample.shard}: {sample.key}: {error}"
        if part.beside:
            self._beside[row.position] = found if isinstance(found, Prepared) else None
        return found

    def prepare(self, position: int, sample: RawSample, epoch: int, *, triple: bool, views: bool) -> Prepared:
        """The sample's tensors; BrokenImage where its image cannot be decoded."""
        rng = random.Random(f"{self.seed}:{epoch}:{sample.key}")
        pixels = self.square(images.decode(sample.image), self.image_size, rng=rng)
        caption = sample.caption
        if self.poison is not None:
            pixels, caption = self.poison(sample.key, pixels, caption)
        text_L = self.kept.tokens(position, caption)
        text_view_L = image_view = positive_L = negative_L = None
        if views:
            captions = views_of(sample.record) or [caption]
            turn = rng.randrange(len(captions))
            place = len(self.reader.index.keys) + position * VIEWS + turn
            text_view_L = self.kept.tokens(place if turn < VIEWS else None, captions[turn])
            image_view = images.to_tensor(images.augmented_view(images.to_image(pixels), rng))
        if triple:
            both = [positive_of(sample.record), rng.choice(negatives_of(sample.record))]
            positive_L, negative_L = self.tokenizer(both)
        return Prepared(
            key=sample.key,
            image_3HW=pixels,
            text_L=text_L,
            image_view_3HW=image_view,
            text_view_L=text_view_L,
            positive_L=positive_L,
            negative_L=negative_L,
        )


def _exact_pixels(image: Image.Image, size: int, **how: Any) -> Tensor:
    return images.to_tensor(images.resize(image, size, **how))
