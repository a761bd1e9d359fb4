"""Samples to batches: a seeded order, fresh triples each epoch, decoded images, tokens.

Stands between `data` and `train`. Everything random depends on (seed, epoch, key) or (seed, epoch) alone, never on
timing or on the number of workers, so a run can be repeated and continued at any step.
"""

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import cycle, islice
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from pipeline.errors import UserError
from trainer import images
from trainer.data import RawSample, ShardIndex, Skipped, read_shard
from trainer.model import ClipModel
from trainer.records import negatives_of, positive_of, views_of

TriplesEnter = Literal["in-step", "every-step", "extra-steps"]
BROKEN_IMAGE = "broken_image"

Poison = Callable[[str, Tensor, str], tuple[Tensor, str]]
"""(key, uint8 pixels (3, H, W), caption) -> the same pair, or a poisoned one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a defence wants of a sample beyond its image."""

    views: bool = False
    """The augmented image and the augmented caption."""
    triples: bool = False
    """A positive and a negative sub-caption for the selected samples."""
    texts: bool = True
    """The captions' embeddings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What `BatchStream` yields: B pairs, then the images of triples that stand beside them."""

    keys: tuple[str, ...]
    image_M3HW: Tensor
    """uint8; the first `num_pairs` belong to the captions, the rest to triples from a cycled stream."""
    text_BL: Tensor
    num_pairs: int
    image_view_B3HW: Tensor | None = None
    text_view_BL: Tensor | None = None
    triple_rows_T: Tensor | None = None
    """Which images the triples belong to: rows of `image_M3HW`; None where the step has no triple."""
    positive_TL: Tensor | None = None
    negative_TL: Tensor | None = None

    def to(self, device: torch.device) -> "Batch":
        """The same batch with its tensors on `device`."""
        tensors = {name: getattr(self, name) for name in self.__slots__}
        moved: dict[str, Any] = {
            name: value.to(device) for name, value in tensors.items() if isinstance(value, Tensor)
        }
        return replace(self, **moved)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOptions:
    """How samples are ordered and put together."""

    batch_size: int = 64
    """Samples in a step; what is left at an epoch's end is dropped."""
    seed: int = 0
    """Of order, views, choices, and of random weights."""
    triples: int | None = field(default=1_000, metadata={"none": "all"})
    """K, the samples drawn afresh each epoch that bring their sub-captions; or all that have some."""
    triples_enter: TriplesEnter = "in-step"
    """in-step: in the steps where their samples fall; every-step: a batch of them beside every step, cycled (the K
    images stay in memory); extra-steps: K / batch_size further steps at the end of each epoch."""
    triples_per_step: int | None = None
    """every-step: how many stand beside each step. Default: the batch size."""
    resize: images.ResizeMode | None = None
    """How training images become square. Default: as in the model's evaluation."""
    shuffle_buffer: int = 2_000
    """Samples held to shuffle within; the order of the shards is shuffled, too."""
    workers: int = 0
    """Threads that decode images; the weights are the same with any number."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "triples", "triples_per_step", "shuffle_buffer"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name} must be at least 1, not {value}")
        if self.workers < 0:
            raise UserError(f"workers must be 0 or more, not {self.workers}")
        if self.triples_enter not in get_args(TriplesEnter):
            raise UserError(
                f"triples_enter must be one of {', '.join(get_args(TriplesEnter))}, not {self.triples_enter!r}"
            )
        if self.resize not in (None, *images.RESIZE_MODES):
            raise UserError(f"resize must be one of {', '.join(images.RESIZE_MODES)}, not {self.resize!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """One sample as tensors."""

    key: str
    image_3HW: Tensor
    text_L: Tensor
    image_view_3HW: Tensor | None
    text_view_L: Tensor | None
    positive_L: Tensor | None
    negative_L: Tensor | None


class BatchStream:
    """The batches of each epoch, and how many there are."""

    def __init__(
        self,
        index: ShardIndex,
        clip: ClipModel,
        *,
        needs: Needs,
        options: BatchOptions,
        poison: Poison | None = None,
    ) -> None:
        self.index, self.clip, self.needs, self.options, self.poison = index, clip, needs, options, poison
        self.skipped = Skipped()
        """Broken images; the index counts the rest."""
        self.num_triples = (
            min(options.triples or len(index.triple_keys), len(index.triple_keys)) if needs.triples else 0
        )
        check_samples(index, needs, options)

    @property
    def steps_per_epoch(self) -> int:
        """Steps in an epoch of whole batches; broken images may end an epoch a step early."""
        steps = len(self.index.keys) // self.options.batch_size
        if self.options.triples_enter == "extra-steps":
            steps += self.num_triples // self.options.batch_size
        return steps

    def epoch(self, epoch: int, *, skip: int = 0) -> Iterator[Batch]:
        """The batches of an epoch (0-based) in their order, without the first `skip`."""
        chosen = choose_triples(self.index.triple_keys, self.num_triples, seed=self.options.seed, epoch=epoch)
        mode = self.options.triples_enter if chosen else "in-step"
        if mode == "in-step":
            yield from self._batches(self._ordered(epoch), chosen, epoch, skip=skip)
        elif mode == "every-step":
            yield from self._every_step(chosen, epoch, skip=skip)
        else:
            plain = len(self.index.keys) // self.options.batch_size
            yield from self._batches(self._ordered(epoch), frozenset(), epoch, skip=skip)
            picked = (sample for sample in self._ordered(epoch) if sample.key in chosen)
            yield from self._batches(picked, chosen, epoch, skip=max(0, skip - plain))

    def again(self) -> "BatchStream":
        """The same batches from another stream, which counts by itself what it leaves out: to look ahead."""
        return BatchStream(self.index, self.clip, needs=self.needs, options=self.options, poison=self.poison)

    def _ordered(self, epoch: int) -> Iterator[RawSample]:
        return ordered_samples(
            self.index, seed=self.options.seed, epoch=epoch, buffer=self.options.shuffle_buffer
        )

    def _batches(
        self, samples: Iterable[RawSample], chosen: frozenset[str], epoch: int, *, skip: int
    ) -> Iterator[Batch]:
        """Whole batches. Samples of skipped batches are decoded only to know which images are broken."""
        size = self.options.batch_size
        prepared = self._prepare_all(samples, chosen, epoch)
        for number, rows in enumerate(_chunks(prepared, size)):
            if number >= skip:
                yield collate(rows)

    def _every_step(self, chosen: frozenset[str], epoch: int, *, skip: int) -> Iterator[Batch]:
        size = self.options.triples_per_step or self.options.batch_size
        picked = (sample for sample in self._ordered(epoch) if sample.key in chosen)
        held = list(self._prepare_all(picked, chosen, epoch, views=False))
        if not held:  # every image of them is broken
            yield from self._batches(self._ordered(epoch), frozenset(), epoch, skip=skip)
            return
        beside = _chunks(cycle(held), min(size, len(held)))
        pairs = self._batches(self._ordered(epoch), frozenset(), epoch, skip=0)
        for number, (batch, triples) in enumerate(zip(pairs, beside, strict=False)):
            if number >= skip:
                yield add_triples(batch, triples)

    def _prepare_all(
        self, samples: Iterable[RawSample], chosen: frozenset[str], epoch: int, *, views: bool = True
    ) -> Iterator[Prepared]:
        def prepare(sample: RawSample) -> Prepared | images.BrokenImage:
            try:
                return self.prepare(
                    sample, epoch, triple=sample.key in chosen, views=views and self.needs.views
                )
            except images.BrokenImage as error:
                return error

        for sample, result in map_ordered(prepare, samples, workers=self.options.workers):
            if isinstance(result, Prepared):
                yield result
            else:
                self.skipped.add(BROKEN_IMAGE, f"{sample.shard}: {sample.key}: {result}")

    def prepare(self, sample: RawSample, epoch: int, *, triple: bool, views: bool) -> Prepared:
        """The sample's tensors; BrokenImage where its image cannot be decoded."""
        rng = random.Random(f"{self.options.seed}:{epoch}:{sample.key}")
        mode = self.options.resize or self.clip.resize_mode
        square = images.resize(
            images.decode(sample.image),
            self.clip.image_size,
            mode=mode,
            interpolation=self.clip.interpolation,
            rng=rng,
        )
        pixels, caption = images.to_tensor(square), sample.caption
        if self.poison is not None:
            pixels, caption = self.poison(sample.key, pixels, caption)
        texts, image_view = [caption], None
        if views:
            texts.append(rng.choice(views_of(sample.record) or [caption]))
            image_view = images.to_tensor(images.augmented_view(images.to_image(pixels), rng))
        if triple:
            texts += [positive_of(sample.record), rng.choice(negatives_of(sample.record))]
        tokens = list(self.clip.tokenizer(texts))
        return Prepared(
            key=sample.key,
            image_3HW=pixels,
            text_L=tokens[0],
            image_view_3HW=image_view,
            text_view_L=tokens[1] if views else None,
            positive_L=tokens[-2] if triple else None,
            negative_L=tokens[-1] if triple else None,
        )


def check_samples(index: ShardIndex, needs: Needs, options: BatchOptions) -> None:
    """UserError where the shards lack what a method needs, or hold less than a batch."""
    if len(index.keys) < options.batch_size:
        raise UserError(
            f"the shards hold {len(index.keys)} usable samples, fewer than one batch: use a batch size of "
            f"{len(index.keys)} or less, or more shards"
        )
    if needs.triples and not index.triple_keys:
        raise UserError(
            "no sample has a positive and a negative sub-caption, which cleanerclip needs: make the shards with "
            "`pipeline augment-captions`, or choose --method cleanclip or ft"
        )
    if needs.views and index.num_without_views == len(index.keys):
        raise UserError(
            "no sample has an augmented caption ('views'), which cleanclip and cleanerclip need: make the shards "
            "with `pipeline augment-captions`, or choose --method ft"
        )


def choose_triples(keys: tuple[str, ...], number: int, *, seed: int, epoch: int) -> frozenset[str]:
    """The keys of the `number` samples whose sub-captions enter this epoch."""
    if number >= len(keys):
        return frozenset(keys)
    return frozenset(random.Random(f"{seed}:{epoch}:triples").sample(keys, number))


def ordered_samples(index: ShardIndex, *, seed: int, epoch: int, buffer: int) -> Iterator[RawSample]:
    """All usable samples in the epoch's order: shards shuffled, then samples within a buffer."""
    rng = random.Random(f"{seed}:{epoch}:order")
    shards = list(zip(index.shards, index.image_shards, strict=True))
    rng.shuffle(shards)
    ignored = Skipped()  # the index has counted them
    held: list[RawSample] = []
    for shard, beside in shards:
        for sample in read_shard(shard, skipped=ignored, images=beside):
            held.append(sample)
            if len(held) >= buffer:
                yield _take(held, rng)
    while held:
        yield _take(held, rng)


def _take(held: list[RawSample], rng: random.Random) -> RawSample:
    place = rng.randrange(len(held))
    held[place], held[-1] = held[-1], held[place]
    return held.pop()


def map_ordered(
    function: Callable[[RawSample], Prepared | images.BrokenImage],
    samples: Iterable[RawSample],
    *,
    workers: int,
) -> Iterator[tuple[RawSample, Prepared | images.BrokenImage]]:
    """Each sample with its result, in the samples' order, computed by `workers` threads (0: right here)."""
    if not workers:
        for sample in samples:
            yield sample, function(sample)
        return
    pending: deque[tuple[RawSample, Future[Prepared | images.BrokenImage]]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        try:
            for sample in samples:
                pending.append((sample, pool.submit(function, sample)))
                if len(pending) > 32 * workers:
                    first, future = pending.popleft()
                    yield first, future.result()
            while pending:
                first, future = pending.popleft()
                yield first, future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _chunks(rows: Iterator[Prepared], size: int) -> Iterator[list[Prepared]]:
    while len(chunk := list(islice(rows, size))) == size:
        yield chunk


def collate(rows: list[Prepared]) -> Batch:
    """The rows as one batch; those that bring sub-captions become its triples."""
    triples = [(number, row) for number, row in enumerate(rows) if row.positive_L is not None]
    return Batch(
        keys=tuple(row.key for row in rows),
        image_M3HW=torch.stack([row.image_3HW for row in rows]),
        text_BL=torch.stack([row.text_L for row in rows]),
        num_pairs=len(rows),
        image_view_B3HW=_stack([row.image_view_3HW for row in rows]),
        text_view_BL=_stack([row.text_view_L for row in rows]),
        triple_rows_T=torch.tensor([number for number, _ in triples]) if triples else None,
        positive_TL=_stack([row.positive_L for _, row in triples]),
        negative_TL=_stack([row.negative_L for _, row in triples]),
    )


def add_triples(batch: Batch, triples: list[Prepared]) -> Batch:
    """The batch with these triples and their images beside its pairs."""
    beside = torch.stack([row.image_3HW for row in triples])
    return Batch(
        keys=batch.keys,
        image_M3HW=torch.cat([batch.image_M3HW, beside]),
        text_BL=batch.text_BL,
        num_pairs=batch.num_pairs,
        image_view_B3HW=batch.image_view_B3HW,
        text_view_BL=batch.text_view_BL,
        triple_rows_T=torch.arange(len(triples)) + batch.num_pairs,
        positive_TL=_stack([row.positive_L for row in triples]),
        negative_TL=_stack([row.negative_L for row in triples]),
    )


def _stack(tensors: list[Tensor | None]) -> Tensor | None:
    present = [tensor for tensor in tensors if tensor is not None]
    return torch.stack(present) if present else None
