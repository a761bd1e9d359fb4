"""What a run keeps on disk: its options, the weights of each epoch, the state to continue from, the final model.

`train` calls these functions; `checkpoint` does the writing. Everything appears whole or not at all.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any

import torch

from pipeline.errors import UserError
from pipeline.storage import write_json
from trainer import checkpoint as checkpoints
from trainer.batches import BatchStream
from trainer.data import Skipped
from trainer.defences.defence import Defence
from trainer.guard import Guard
from trainer.learner import Learner
from trainer.log import say
from trainer.model import ClipModel, open_clip_config
from trainer.ranks import Ranks

FREE_OPTIONS = ("workers", "log_every", "log_to", "save_every")
"""A resumed run may have others: they change no weight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Where a run stands: what a state file holds, in plain types."""

    step: int = 0
    """Steps done."""
    epoch: int = 0
    """Epochs done."""
    step_in_epoch: int = 0
    """Steps done in the epoch that has begun."""
    seconds: float = 0.0
    """Spent in steps, earlier sittings included."""


def check_folder(out: Path, *, resume: bool) -> None:
    """UserError where `out` holds a run that is not to be resumed, or none that could be."""
    if resume and not (out / "options.json").is_file():
        raise UserError(f"{out} holds no run to resume: start it without --resume")
    if not resume and any((out / "checkpoints").glob("*")):
        raise UserError(f"{out} already holds a run: --resume continues it, another --out starts a new one")


def check_options(
    out: Path, record: Mapping[str, Any], *, defaults: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """What the run in `out` was started with; UserError where `record` differs in what changes a weight.

    An option that is younger than the run, so that its file does not know it, had its value in `defaults` there.
    """
    started = _read_options(out / "options.json")
    before, now = _that_matter(started), _that_matter(json.loads(_dump(record)))
    known = json.loads(_dump(defaults or {}))
    changed = sorted(
        key for key in {*before, *now} if not _same(before.get(key), now.get(key), known.get(key, {}))
    )
    if changed:
        raise UserError(
            f"{out} was started with other options ({', '.join(changed)}); give the same to resume it"
        )
    return started


def _same(before: Any, now: Any, defaults: Mapping[str, Any]) -> bool:
    if not isinstance(before, dict) or not isinstance(now, dict):
        return bool(before == now)
    return all(before.get(name, defaults.get(name)) == now.get(name) for name in {*before, *now})


def begin(
    out: Path, record: Mapping[str, Any], *, resume: bool, ranks: Ranks, guard: Guard | None = None
) -> str:
    """`write_options`, by the first of the processes; all get the sha256. The guard looks at the model as it came."""
    digest = ""
    if ranks.is_first:
        (out / "checkpoints").mkdir(parents=True, exist_ok=True)
        digest = write_options(out, record, resume=resume)
        if guard:
            guard.begin()
    return str(ranks.collect(digest)[0])


def write_options(out: Path, record: Mapping[str, Any], *, resume: bool) -> str:
    """Writes options.json and gives its sha256; where `resume`, it stays as it was and must agree with `record`."""
    check_folder(out, resume=resume)
    path = out / "options.json"
    if resume:
        text = _dump(check_options(out, record))
    else:
        text = _dump(record)
        write_json(path, json.loads(text))
    return hashlib.sha256(text.encode()).hexdigest()


def _dump(record: Mapping[str, Any]) -> str:
    return json.dumps(record, sort_keys=True, default=str)


def _that_matter(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        group: {name: value for name, value in options.items() if name not in FREE_OPTIONS}
        if isinstance(options, dict)
        else options
        for group, options in record.items()
    }


def _read_options(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is broken, so the run cannot be resumed: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is broken, so the run cannot be resumed: it holds no JSON object")
    return content


def save_run(
    folder: Path,
    learner: Learner,
    defence: Defence,
    *,
    run: Run,
    metadata: Mapping[str, str],
    storage: checkpoints.Storage,
) -> None:
    """Saves the state to continue from, and at an epoch's end the weights as `epoch_N.safetensors`.

    Of several processes the first does it: all have the same.
    """
    if not learner.ranks.is_first:
        return
    clip = learner.clip
    if run.step_in_epoch == 0 and run.epoch:
        told = weights_metadata(clip, run, metadata)
        path = folder / f"epoch_{run.epoch}.safetensors"
        checkpoints.save_weights(path, clip.model.state_dict(), metadata=told, storage=storage)
        write_json(folder / checkpoints.FINAL_CONFIG, open_clip_config(clip))
    state = {
        "model": clip.model.state_dict(),
        "optimizer": learner.optimizer.state_dict(),
        "scaler": learner.scaler.state_dict(),
        "defence": defence.state(),
        "options_sha256": metadata["options_sha256"],
        "step": run.step,
        "epoch": run.epoch,
        "step_in_epoch": run.step_in_epoch,
        "seconds": run.seconds,
        "torch_rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    checkpoints.save_state(folder / "last.state.pt", state)


def load_run(folder: Path, learner: Learner, defence: Defence, *, digest: str) -> Run:
    """Puts model, optimiser, generators and what the defence keeps back to where the newest saved state was."""
    path = folder / "last.state.pt"
    if not path.is_file():
        say(f"no state is saved in {folder} yet: starting at step 0")
        return Run()
    state = checkpoints.load_plain(path)
    try:
        if state["options_sha256"] != digest:
            raise UserError(f"{path} belongs to a run with other options")
        learner.clip.model.load_state_dict(state["model"], strict=True)
        learner.optimizer.load_state_dict(state["optimizer"])
        learner.scaler.load_state_dict(state["scaler"])
        defence.load_state(state.get("defence", {}))
        torch.set_rng_state(state["torch_rng"])
        if state["cuda_rng"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["cuda_rng"])
        told = {name: state[name] for name in Run.__slots__}
        if not all(isinstance(value, int | float) for value in told.values()):
            raise TypeError("its counts are no numbers")
        return Run(**told)
    except UserError:
        raise
    except (KeyError, TypeError, RuntimeError, ValueError, AttributeError, IndexError) as error:
        raise UserError(f"{path} is no state of this run: {type(error).__name__}: {error}") from None


def weights_metadata(clip: ClipModel, run: Run, metadata: Mapping[str, str]) -> dict[str, str]:
    """What a weights file says of itself."""
    return {
        "format": "pt",
        "model": clip.name,
        "quick_gelu": "true" if clip.config.get("quick_gelu") else "false",
        "epoch": str(run.epoch),
        "step": str(run.step),
        **metadata,
    }


def finish(
    clip: ClipModel,
    stream: BatchStream,
    out: Path,
    *,
    run: Run,
    metadata: Mapping[str, str],
    guard: Guard | None = None,
) -> dict[str, Any]:
    """Writes `model/`, the last epoch's or the one that the guard keeps, and `summary.json`; the summary."""
    ranks = stream.ranks
    faults = reduce(or_, ranks.collect(stream.skipped), Skipped())
    kept = guard.best(run.epoch) if guard else run.epoch
    summary = {}
    if ranks.is_first:
        summary = _write_final(clip, stream, out, faults, run=run, kept=kept, metadata=metadata)
        if guard:
            summary |= {"guard": guard.summary(kept)}
            say(f"guard: keeps {guard.why(kept)}")
        write_json(out / "summary.json", summary)
    return dict(ranks.collect(summary)[0])


def _write_final(
    clip: ClipModel,
    stream: BatchStream,
    out: Path,
    faults: Skipped,
    *,
    run: Run,
    kept: int,
    metadata: Mapping[str, str],
) -> dict[str, Any]:
    final = out / checkpoints.FINAL_FOLDER
    final.mkdir(exist_ok=True)
    weights = final / checkpoints.FINAL_WEIGHTS
    last = out / "checkpoints" / f"epoch_{kept}.safetensors"
    weights.unlink(missing_ok=True)
    try:
        os.link(last, weights)
    except OSError:
        shutil.copyfile(last, weights)
    write_json(final / checkpoints.FINAL_CONFIG, open_clip_config(clip))
    clip.model.to("cpu").eval()
    skipped = stream.index.skipped | faults
    return {
        "checkpoint": str(weights),
        "weights_sha256": checkpoints.hash_file(weights),
        "steps": run.step,
        "epochs": run.epoch,
        "seconds": round(run.seconds, 3),
        "seconds_per_step": round(run.seconds / max(1, run.step), 4),
        "samples": len(stream.index.keys),
        "triples_per_epoch": stream.num_triples,
        "skipped": dict(sorted(skipped.counts.items())),
        "skipped_first": dict(sorted(skipped.names.items())),
        **metadata,
    }
