"""Samples to batches: a seeded order, fresh triples each epoch, over worker processes.

Stands between `preparing` and `train`. What a step holds is a pure function of (seed, epoch,
step), and what becomes of a sample of (seed, epoch, key): never of timing, of workers or of how many processes train
together. So a run can be repeated, continued at any step without decoding what came before, and split over processes.
"""

import multiprocessing
import random
import signal
import warnings
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, get_args

import torch
from torch.utils.data import DataLoader

from pipeline.errors import UserError, first_line
from trainer import images
from trainer.batch import Batch, Needs, join
from trainer.data import ShardIndex, Skipped
from trainer.model import ClipModel
from trainer.preparing import Part, Poison, PreparedPart, Preparer, Row
from trainer.ranks import ONE, Ranks

__all__ = ["Batch", "BatchOptions", "BatchStream", "Needs", "Poison"]

TriplesEnter = Literal["in-step", "every-step", "extra-steps"]
BROKEN_IMAGE = "broken_image"
PART = 64
"""Samples that a worker prepares at a time."""
PARTS_AHEAD = 4
"""Parts that each worker is ahead of the step that is trained on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOptions:
    """How samples are ordered and put together."""

    batch_size: int = 64
    """Samples in a step, of all processes together; what is left at an epoch's end is dropped."""
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
    """Processes that decode images, beside each one that trains; the weights are the same with any number."""

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


class BatchStream:
    """The batches of each epoch, and how many there are; of one process among several, its share of each."""

    def __init__(
        self,
        index: ShardIndex,
        clip: ClipModel,
        *,
        needs: Needs,
        options: BatchOptions,
        poison: Poison | None = None,
        exact: bool = False,
        ranks: Ranks = ONE,
    ) -> None:
        """`exact`: images are resized as the evaluations do it, to the bit; else by torch, which is faster."""
        self.index, self.needs, self.options, self.ranks = index, needs, options, ranks
        self.skipped = Skipped()
        """Broken images; the index counts the rest."""
        self.num_triples = (
            min(options.triples or len(index.triples), len(index.triples)) if needs.triples else 0
        )
        check_samples(index, needs, options)
        if options.batch_size < ranks.world:
            raise UserError(f"batch_size {options.batch_size} is less than the {ranks.world} processes")
        self.preparer = Preparer(
            index,
            clip,
            seed=options.seed,
            resize=options.resize,
            poison=poison,
            exact=exact,
            views=needs.views,
        )
        self._build = partial(
            BatchStream, index, clip, needs=needs, options=options, poison=poison, exact=exact
        )
        self._loader: DataLoader[PreparedPart] | None = None
        self._parts: Iterable[Part] = ()

    @property
    def steps_per_epoch(self) -> int:
        """Steps in an epoch, each of a whole batch but for broken images."""
        steps = len(self.index.keys) // self.options.batch_size
        if self.options.triples_enter == "extra-steps":
            steps += self.num_triples // self.options.batch_size
        return steps

    def epoch(self, epoch: int, *, skip: int = 0) -> Iterator[Batch]:
        """The batches of an epoch (0-based) in their order, without the first `skip`.

        UserError where none of a step's images can be decoded.
        """
        prepared: list[PreparedPart] = []
        beside: Batch | None = None
        parts = self._planned(epoch, skip=skip)
        for part, found in self._prepared(parts):
            for name in found.faults:
                self.skipped.add(BROKEN_IMAGE, name)
            if part.beside:
                beside = found.batch
            else:
                prepared.append(found)
            if part.last:
                pairs = [done.batch for done in prepared if done.batch is not None]
                if not pairs:
                    raise UserError(
                        f"no image of step {part.step + 1} of epoch {epoch + 1} can be decoded, the first: "
                        f"{prepared[0].faults[0]}; check the shards' images"
                    )
                joined = join(pairs, beside=beside)
                del pairs, found  # else the parts would stay in memory while the step computes
                prepared, beside = [], None
                yield joined

    def again(self) -> "BatchStream":
        """The same batches, whole, from another stream, which counts by itself what it leaves out: to look ahead."""
        return self._build()

    def rows(self, epoch: int, *, skip: int = 0) -> Iterator[tuple[list[Row], list[Row]]]:
        """What each step of an epoch wants: its pairs, and the triples beside them; of all processes together."""
        index, options, size = self.index, self.options, self.options.batch_size
        order = sample_order(index, seed=options.seed, epoch=epoch, buffer=options.shuffle_buffer)
        chosen = choose_triples(index.triples, self.num_triples, seed=options.seed, epoch=epoch)
        picked = [position for position in order if position in chosen] if chosen else []
        views, enter = self.needs.views, options.triples_enter if chosen else "in-step"
        plain = len(order) // size
        for step in range(skip, plain):
            pairs = order[step * size : (step + 1) * size]
            beside: list[Row] = []
            if enter == "every-step":
                count = min(options.triples_per_step or size, len(picked))
                turns = range(step * count, (step + 1) * count)
                beside = [Row(position=picked[turn % len(picked)], triple=True) for turn in turns]
            within = chosen if enter == "in-step" else frozenset[int]()
            yield [Row(position=p, triple=p in within, views=views) for p in pairs], beside
        for step in range(max(0, skip - plain), len(picked) // size if enter == "extra-steps" else 0):
            extra = picked[step * size : (step + 1) * size]
            yield [Row(position=p, triple=True, views=views) for p in extra], []

    def _planned(self, epoch: int, *, skip: int) -> Iterator[Part]:
        """This process's share of each step, in parts of at most PART rows."""
        for step, (pairs, beside) in enumerate(self.rows(epoch, skip=skip), start=skip):
            mine, mine_beside = self.ranks.share(pairs), self.ranks.share(beside)
            for start in range(0, len(mine), PART):
                last = start + PART >= len(mine) and not mine_beside
                yield Part(epoch=epoch, step=step, rows=tuple(mine[start : start + PART]), last=last)
            if mine_beside:
                yield Part(epoch=epoch, step=step, rows=tuple(mine_beside), beside=True, last=True)

    def _prepared(self, parts: Iterator[Part]) -> Iterator[tuple[Part, PreparedPart]]:
        """Each part with what became of it, in order: prepared right here, or ahead by worker processes."""
        if not self.options.workers:
            for part in parts:
                yield part, self.preparer[part]
            return
        asked: list[Part] = []

        def told() -> Iterator[Part]:
            for part in parts:
                asked.append(part)
                yield part

        self._parts = told()
        try:
            for found in self._from_workers():
                yield asked.pop(0), found
        except RuntimeError as error:
            if "worker" not in str(error):
                raise
            raise UserError(f"a worker process that decodes images ended: {first_line(error)}") from None

    def _from_workers(self) -> Iterator[PreparedPart]:
        """What the worker processes make of `_parts`; they are started once and kept."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that they are more than the processors
            if self._loader is None:
                self._loader = DataLoader(
                    self.preparer,
                    sampler=_Parts(self),
                    batch_size=None,
                    num_workers=self.options.workers,
                    worker_init_fn=_prepare_worker,
                    generator=torch.Generator(),
                    prefetch_factor=PARTS_AHEAD,
                    multiprocessing_context=multiprocessing.get_context("fork"),
                    persistent_workers=True,
                )
            return iter(self._loader)


def _prepare_worker(number: int) -> None:
    """Ctrl-C is for the process that trains, which ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class _Parts:
    """What the workers are to prepare, as the loader asks for it: the parts of the epoch that has begun."""

    def __init__(self, stream: BatchStream) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[Part]:
        return iter(self._stream._parts)


def check_samples(index: ShardIndex, needs: Needs, options: BatchOptions) -> None:
    """UserError where the shards lack what a method needs, or hold less than a batch."""
    if len(index.keys) < options.batch_size:
        raise UserError(
            f"the shards hold {len(index.keys)} usable samples, fewer than one batch: use a batch size of "
            f"{len(index.keys)} or less, or more shards"
        )
    if needs.triples and not index.triples:
        raise UserError(
            "no sample has a positive and a negative sub-caption, which cleanerclip needs: make the shards with "
            "`pipeline augment-captions`, or choose --method cleanclip or ft"
        )
    if needs.views and index.num_without_views == len(index.keys):
        raise UserError(
            "no sample has an augmented caption ('views'), which cleanclip and cleanerclip need: make the shards "
            "with `pipeline augment-captions`, or choose --method ft"
        )


def choose_triples(positions: Sequence[int], number: int, *, seed: int, epoch: int) -> frozenset[int]:
    """Of these positions the `number` whose samples bring their sub-captions into this epoch."""
    if number >= len(positions):
        return frozenset(positions)
    return frozenset(random.Random(f"{seed}:{epoch}:triples").sample(positions, number))


def sample_order(index: ShardIndex, *, seed: int, epoch: int, buffer: int) -> "array[int]":
    """The positions of all samples in the epoch's order: shards shuffled, then samples within a buffer."""
    rng = random.Random(f"{seed}:{epoch}:order")
    shards = list(range(len(index.shards)))
    rng.shuffle(shards)
    ends = (*index.starts[1:], len(index.keys))
    held: list[int] = []
    order = array("I")
    for shard in shards:
        for position in range(index.starts[shard], ends[shard]):
            held.append(position)
            if len(held) >= buffer:
                order.append(_take(held, rng))
    while held:
        order.append(_take(held, rng))
    return order


def _take(held: list[int], rng: random.Random) -> int:
    place = rng.randrange(len(held))
    held[place], held[-1] = held[-1], held[place]
    return held.pop()
