"""Puts a run together from its options: shards, model, method, poison; between `cli` and `train`."""

import hashlib
import platform
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import trainer
from pipeline.errors import UserError
from pipeline.storage import hold
from trainer.attacks import load_trigger
from trainer.attacks.trigger import Trigger
from trainer.batches import BatchOptions, BatchStream, Poison, check_samples
from trainer.data import ShardIndex, find_shards, index_shards
from trainer.log import say
from trainer.methods import MethodOptions, build_method
from trainer.model import Activation, load_model, require_weights
from trainer.optim import OptimOptions
from trainer.poisoning import (
    POISONED_FILE,
    TRIGGER_FILE,
    PoisonOptions,
    build_poison,
    plan_for,
    write_poisoned_list,
)
from trainer.run_folder import check_folder, check_options
from trainer.train import TrainOptions, train


def start(
    *,
    command: str,
    shards: str,
    image_shards: str | None = None,
    model: str | None,
    checkpoint: Path | None,
    activation: Activation | None,
    out: Path,
    resume: bool,
    method: MethodOptions,
    batches: BatchOptions,
    optim: OptimOptions,
    options: TrainOptions,
    poison: PoisonOptions | None = None,
) -> dict[str, Any]:
    """Runs a training command and returns its summary."""
    if command == "defend":
        require_weights(model, checkpoint)
    check_folder(out, resume=resume)
    built = build_method(method)
    clip = load_model(model, checkpoint=checkpoint, seed=batches.seed, activation=activation)
    index = index_shards(
        find_shards(shards), image_shards=() if image_shards is None else find_shards(image_shards)
    )
    check_samples(index, built.needs, batches)
    record = {
        "command": command,
        "version": trainer.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "model": clip.name,
        "checkpoint": None if checkpoint is None else str(checkpoint),
        "initial_weights_sha256": clip.sha256,
        "shards": shards,
        "shards_sha256": hash_shards(index.shards),
        "image_shards": image_shards,
        "image_shards_sha256": hash_shards(tuple(filter(None, index.image_shards))) if image_shards else None,
        "samples": len(index.keys),
        "method": asdict(method),
        "batches": asdict(batches),
        "optim": asdict(optim),
        "train": asdict(options),
    }
    poison_function = None
    if poison is not None:
        trigger = load_trigger(poison.trigger, image_size=clip.image_size, seed=poison.seed)
        record["poison"] = asdict(poison) | {"trigger_sha256": trigger.sha256}
    if resume:
        check_options(out, record)
    with hold(out):
        if poison is not None:
            poison_function = prepare_poison(poison, trigger, index=index, out=out)
        stream = BatchStream(index, clip, needs=built.needs, options=batches, poison=poison_function)
        say(
            f"{command}: {clip.name}, {len(index.keys)} samples in {len(index.shards)} shards, "
            f"{stream.num_triples} triples an epoch, {options.epochs} epochs of {stream.steps_per_epoch} steps"
        )
        try:
            return train(
                clip, stream, built, optim=optim, options=options, out=out, record=record, resume=resume
            )
        except torch.OutOfMemoryError:
            raise UserError(
                f"the device has not enough memory for a batch of {batches.batch_size}: lower --batch-size, "
                f"or use --precision bf16; --resume goes on only with the same options"
            ) from None


def print_summary(summary: dict[str, Any]) -> None:
    """What a finished run leaves to say: what it left out, and its checkpoint."""
    for reason, count in summary["skipped"].items():
        print(
            f"left out: {count} {reason}, the first: {summary['skipped_first'][reason][0]}", file=sys.stderr
        )
    print(
        f"{summary['checkpoint']}: {summary['epochs']} epochs, {summary['steps']} steps, "
        f"{summary['seconds_per_step']} s per step, sha256 {summary['weights_sha256'][:16]}"
    )


def prepare_poison(poison: PoisonOptions, trigger: Trigger, *, index: ShardIndex, out: Path) -> Poison | None:
    """The poison function, None at rate 0; writes poisoned.json and the trigger into `out`."""
    captions = plan_for(index, poison, trigger)
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
                with shard.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
        if manifest is not None:
            digest.update(manifest.read_bytes())
    return digest.hexdigest()
