"""Puts a run together from its options: shards, model, method, poison; between `cli` and `train`."""

import hashlib
import platform
import sys
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch

import trainer
from pipeline.errors import UserError
from pipeline.storage import hold, sha256_file
from trainer.attacks import load_trigger
from trainer.attacks.trigger import Trigger
from trainer.batches import BatchOptions, BatchStream, Poison, check_samples
from trainer.data import ShardIndex, find_shards, index_shards
from trainer.defences import build_defence, learning_rate_for, name_of
from trainer.defences.defence import Setting
from trainer.defences.ft import FtOptions
from trainer.devices import find_device
from trainer.guard import Guard, hold_out
from trainer.log import say
from trainer.model import ClipModel, ModelChoice
from trainer.optim import OptimOptions
from trainer.poisoning import (
    POISONED_FILE,
    TRIGGER_FILE,
    PoisonOptions,
    build_poison,
    plan_for,
    write_poisoned_list,
)
from trainer.preflight import look, rehearse
from trainer.ranks import ONE, Ranks, join_ranks, leave_ranks
from trainer.run_folder import check_folder, check_options
from trainer.train import TrainOptions, prepare, train
from trainer.watching import WatchOptions, build_watch


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The shards to train on."""

    shards: str
    """WebDataset shards: file, folder, glob or braces ('shards/{00000..00049}.tar'); several joined by '::'."""
    image_shards: str | None = None
    """Where the images are, for text-only shards: one shard beside each."""


def defend(
    model: ModelChoice,
    source: Source,
    defence: object,
    *,
    batches: BatchOptions,
    optim: OptimOptions,
    options: TrainOptions,
    out: Path,
    resume: bool = False,
    dry_run: bool = False,
    guard: bool = True,
    watch: WatchOptions | None = None,
) -> dict[str, Any]:
    """Fine-tunes the model so that a backdoor is forgotten, and returns the run's summary, as in `out/summary.json`.

    `defence` is the options of one of `trainer.defences.DEFENCES`. `dry_run` stops after a few steps that are thrown
    away, having said what the run will need; its summary is empty. `guard` holds a part of the samples out, and watches
    the run on them (`trainer.guard`). `watch` measures in the middle, and changes nothing.

    Raises:
        UserError: Weights, shards, options or a folder that cannot be used.
    """
    model.check()
    return _start(
        "defend",
        model,
        source,
        defence,
        batches=batches,
        optim=optim,
        options=options,
        out=out,
        resume=resume,
        dry_run=dry_run,
        guard=guard,
        watch=watch,
    )


def attack(
    model: ModelChoice,
    source: Source,
    poison: PoisonOptions | None,
    *,
    batches: BatchOptions,
    optim: OptimOptions,
    options: TrainOptions,
    out: Path,
    resume: bool = False,
) -> dict[str, Any]:
    """Trains a victim with CLIP's loss, poisoning a share of the samples, and returns the run's summary.

    Raises:
        UserError: Weights, shards, options or a folder that cannot be used.
    """
    return _start(
        "attack",
        model,
        source,
        FtOptions(),
        batches=batches,
        optim=optim,
        options=options,
        out=out,
        resume=resume,
        poison=poison,
    )


def _start(
    command: str,
    model: ModelChoice,
    source: Source,
    defence: Any,
    *,
    batches: BatchOptions,
    optim: OptimOptions,
    options: TrainOptions,
    out: Path,
    resume: bool,
    poison: PoisonOptions | None = None,
    dry_run: bool = False,
    guard: bool = False,
    watch: WatchOptions | None = None,
) -> dict[str, Any]:
    check_folder(out, resume=resume)
    ranks = join_ranks(cuda=find_device(options.device).type == "cuda")
    clip = model.load(seed=batches.seed)
    index, held = _index(source, seed=batches.seed, guard=guard)
    built = build_defence(
        defence,
        Setting(clip=clip, seed=batches.seed, images_vary=batches.resize == "random-crop", ranks=ranks),
    )
    check_samples(index, built.needs, batches)
    watch = watch or WatchOptions()
    watched = build_watch(watch, clip, seed=batches.seed) if ranks.is_first else None
    if optim.lr is None:
        optim = replace(optim, lr=_learning_rate(command, clip, defence, model))
    groups = {"method": defence, "batches": batches, "optim": optim, "train": options}
    record: dict[str, Any] = {
        "command": command,
        "version": trainer.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "model": clip.name,
        "checkpoint": None if model.checkpoint is None else str(model.checkpoint),
        "initial_weights_sha256": clip.sha256,
        "shards": source.shards,
        "shards_sha256": hash_shards(index.shards),
        "image_shards": source.image_shards,
        "image_shards_sha256": hash_shards(tuple(filter(None, index.image_shards)))
        if source.image_shards
        else None,
        "samples": len(index.keys),
        **{name: asdict(group) for name, group in groups.items()},
        "method": {"method": name_of(defence)} | asdict(defence),
    }
    if guard:
        record["guard"] = {"held_out": 0 if held is None else len(held.keys)}

    poison_function = None
    if poison is not None:
        trigger = load_trigger(poison.trigger, image_size=clip.image_size, seed=poison.seed)
        record["poison"] = asdict(poison) | {"trigger_sha256": trigger.sha256}
    if resume:
        record = check_options(
            out, record, defaults={name: asdict(type(group)()) for name, group in groups.items()}
        )
    with hold(out) if ranks.is_first else nullcontext():
        if poison is not None:
            poison_function = prepare_poison(poison, trigger, index=index, out=out, ranks=ranks)
        stream = BatchStream(
            index,
            clip,
            needs=built.needs,
            options=batches,
            poison=poison_function,
            exact=command == "attack",  # as `trainer poison` stores images
            ranks=ranks,
        )
        say(
            f"{command}: {clip.name}, {len(index.keys)} samples in {len(index.shards)} shards, "
            f"{stream.num_triples} triples an epoch, {options.epochs} epochs of {stream.steps_per_epoch} steps"
            + (f", {ranks.world} processes" if ranks.world > 1 else ""),
            shown=ranks.is_first,
        )
        try:
            learner = prepare(clip, built, optim=optim, options=options, ranks=ranks)
            told = look(stream, learner, options=options, out=out)
            if dry_run:
                told = chain(told, rehearse(stream, learner, built, options=options, out=out))
            for line in told:
                say(line, shown=ranks.is_first)
            summary = {}
            if not dry_run:
                summary = train(
                    learner,
                    stream,
                    built,
                    optim=optim,
                    options=options,
                    out=out,
                    record=record,
                    resume=resume,
                    guard=Guard(clip, held, out=out, seed=batches.seed, ranks=ranks) if held else None,
                    watch=watched,
                    watch_every=watch.evaluate_every,
                )
            leave_ranks()
            return summary
        except torch.OutOfMemoryError:
            raise UserError(
                f"the device has not enough memory for a batch of {batches.batch_size}: lower --batch-size, "
                f"or use --precision bf16; --resume goes on only with the same options"
            ) from None


def _index(source: Source, *, seed: int, guard: bool) -> tuple[ShardIndex, ShardIndex | None]:
    """What is trained on, and what is held out for the guard."""
    image_shards = () if source.image_shards is None else find_shards(source.image_shards)
    index = index_shards(find_shards(source.shards), image_shards=image_shards)
    return hold_out(index, seed=seed) if guard else (index, None)


def _learning_rate(command: str, clip: ClipModel, defence: Any, model: ModelChoice) -> float:
    if command == "attack":
        return 1e-3 if model.checkpoint is None else 1e-5
    return learning_rate_for(name_of(defence), sum(weights.numel() for weights in clip.model.parameters()))


def print_summary(summary: dict[str, Any]) -> None:
    """What a finished run leaves to say: what it left out, and its checkpoint; nothing of a dry run."""
    if not summary:
        return
    for reason, count in summary["skipped"].items():
        print(
            f"left out: {count} {reason}, the first: {summary['skipped_first'][reason][0]}", file=sys.stderr
        )
    print(
        f"{summary['checkpoint']}: {summary['epochs']} epochs, {summary['steps']} steps, "
        f"{summary['seconds_per_step']} s per step, sha256 {summary['weights_sha256'][:16]}"
    )


def prepare_poison(
    poison: PoisonOptions, trigger: Trigger, *, index: ShardIndex, out: Path, ranks: Ranks = ONE
) -> Poison | None:
    """The poison function, None at rate 0; writes poisoned.json and the trigger into `out`."""
    captions = plan_for(index, poison, trigger)
    if not ranks.is_first:
        return build_poison(trigger, captions) if captions else None
    write_poisoned_list(out, captions, target=poison.target)
    if not captions:
        return None
    trigger.save(out / TRIGGER_FILE)
    say(f"poisoned: {len(captions)} of {len(index.keys)} samples, listed in {out / POISONED_FILE}")
    return build_poison(trigger, captions)


def hash_shards(shards: tuple[Path, ...]) -> str:
    """sha256 over the shards' names and contents; of a folder with a manifest, over the manifest in their stead."""
    digest = hashlib.sha256()
    for folder in sorted({shard.parent for shard in shards}):
        mine = [shard for shard in shards if shard.parent == folder]
        manifest = next(
            (p for p in (folder / "manifest.json", folder.parent / "manifest.json") if p.is_file()), None
        )
        for shard in mine:
            digest.update(f"{shard.name} {shard.stat().st_size}\n".encode())
            if manifest is None:
                digest.update(bytes.fromhex(sha256_file(shard)))
        if manifest is not None:
            digest.update(manifest.read_bytes())
    return digest.hexdigest()
