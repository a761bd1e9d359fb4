"""The one training loop, flat, for `trainer defend` and `trainer attack` alike.

A run is a folder: `options.json`, `metrics.jsonl`, `checkpoints/epoch_N.safetensors` (with the state to continue
from beside the newest), at the end `model/` for open_clip's `local-dir:` and `summary.json`. Continued at any step,
a run ends with the same weights as one that was never stopped (on the CPU, with the same number of threads).
"""

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from pipeline.errors import UserError
from trainer import checkpoint as checkpoints
from trainer.batches import BatchStream
from trainer.log import MetricsFile, ProgressReport, say
from trainer.losses import total_loss
from trainer.methods import Batch, Features, Method, encode
from trainer.model import ClipModel, hash_weights, open_clip_config
from trainer.optim import (
    OptimOptions,
    build_optimizer,
    clamp_logit_scale,
    learning_rate,
    set_learning_rate,
)

BatchNorm = Literal["train", "frozen"]
Precision = Literal["auto", "fp32", "bf16", "amp"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """How long and on what a run trains, and what it leaves behind."""

    epochs: int = 10
    device: str = "auto"
    """auto, cpu, cuda, or cuda:N."""
    precision: Precision = "auto"
    """fp32; bf16 (autocast); amp (fp16 with a gradient scaler); auto: fp32 on the CPU, bf16 on a GPU."""
    batch_norm: BatchNorm = "train"
    """frozen: a ResNet's running statistics are used and kept; its norms' weights are still trained."""
    storage: checkpoints.Storage = "fp32"
    """Of the checkpoints' weights."""
    save_every: int | None = None
    """Steps between saved states, beside the one at each epoch's end; None: epochs alone."""
    log_every: int = 10
    """Steps between lines in metrics.jsonl."""

    def __post_init__(self) -> None:
        for name in ("epochs", "save_every", "log_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name} must be at least 1, not {value}")
        for name, allowed in (
            ("precision", Precision),
            ("batch_norm", BatchNorm),
            ("storage", checkpoints.Storage),
        ):
            if getattr(self, name) not in get_args(allowed):
                raise UserError(
                    f"{name} must be one of {', '.join(get_args(allowed))}, not {getattr(self, name)!r}"
                )


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


def train(
    clip: ClipModel,
    stream: BatchStream,
    method: Method,
    *,
    optim: OptimOptions,
    options: TrainOptions,
    out: Path,
    record: Mapping[str, Any],
    resume: bool = False,
) -> dict[str, Any]:
    """Trains `clip.model` in place and returns the summary that it also writes to `out/summary.json`.

    `record` is what the run was started with: it goes to options.json, and continuing with another is refused.
    UserError for a loss that is no number. On KeyboardInterrupt the state is saved and the exception goes on.
    """
    device = find_device(options.device)
    precision = find_precision(options.precision, device)
    model = clip.model.to(device)
    optimizer = build_optimizer(model, optim)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "amp")
    folder = out / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    digest = write_options(out, record, resume=resume)
    run = load_run(folder, model, optimizer, scaler, digest=digest) if resume else Run()
    metadata = {"options_sha256": digest, "shards_sha256": str(record.get("shards_sha256", ""))}
    total_steps = stream.steps_per_epoch * options.epochs
    metrics = MetricsFile(out / "metrics.jsonl", continue_from=run.step)

    def save(at: Run) -> None:
        save_run(folder, clip, optimizer, scaler, run=at, metadata=metadata, storage=options.storage)

    with ProgressReport(total_steps, done=run.step) as progress:
        try:
            while run.epoch < options.epochs:
                set_mode(model, options.batch_norm)
                started = time.perf_counter()
                for batch in stream.epoch(run.epoch, skip=run.step_in_epoch):
                    lr = learning_rate(run.step, total_steps=total_steps, options=optim)
                    set_learning_rate(optimizer, lr)
                    with torch.autocast(device.type, dtype=_dtype(precision), enabled=precision != "fp32"):
                        features = encode(model, batch.to(device), normalise=clip.normalise)
                    terms = method.terms(features)
                    loss = total_loss(terms, method.weights)
                    value = float(loss.detach())
                    if not math.isfinite(value):
                        raise UserError(_diverged(value, terms, run.step, lr))
                    optimizer.zero_grad(set_to_none=True)
                    scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
                    scaler.unscale_(optimizer)
                    if optim.max_gradient_norm is not None:
                        nn.utils.clip_grad_norm_(model.parameters(), optim.max_gradient_norm)
                    scaler.step(optimizer)
                    scaler.update()
                    clamp_logit_scale(model)
                    run, started = _after_step(run, started), time.perf_counter()
                    if run.step % options.log_every == 0 or run.step == total_steps:
                        metrics.write(_metrics(run, value, terms, features, lr, batch))
                    progress.advance(f"loss {value:.3f}, {run.step / max(run.seconds, 1e-9):.2f} steps/s")
                    if options.save_every and run.step % options.save_every == 0:
                        save(run)
                run = _after_epoch(run)
                save(run)
        except KeyboardInterrupt:
            save(run)
            say(f"stopped at step {run.step}; the state is saved: the same command with --resume goes on")
            raise
        finally:
            metrics.close()
    return finish(clip, stream, out, run=run, metadata=metadata, storage=options.storage)


def find_device(name: str) -> torch.device:
    """The device of that name; auto: the first GPU where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"no device is called {name!r}: auto, cpu, cuda, or cuda:N") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "no CUDA device is found: --device cpu, or a torch build with CUDA on a machine with a GPU"
        )
    return device


def find_precision(precision: Precision, device: torch.device) -> Precision:
    """The precision meant by `auto`; UserError for one the device lacks."""
    if precision == "auto":
        return "fp32" if device.type == "cpu" else "bf16"
    if precision == "amp" and device.type == "cpu":
        raise UserError("precision amp (fp16) needs a GPU; on the CPU choose fp32 or bf16")
    return precision


def set_mode(model: nn.Module, batch_norm: BatchNorm) -> None:
    """Training mode, with batch normalisation in evaluation mode where it is frozen."""
    model.train()
    if batch_norm == "frozen":
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


def write_options(out: Path, record: Mapping[str, Any], *, resume: bool) -> str:
    """Writes options.json and gives its sha256; where `resume`, the run must have been started with the same."""
    path = out / "options.json"
    text = json.dumps(record, sort_keys=True, default=str)
    if not resume:
        if any((out / "checkpoints").glob("epoch_*")):
            raise UserError(
                f"{out} already holds a run: --resume continues it, another --out starts a new one"
            )
        checkpoints.write_json(path, json.loads(text))
    elif not path.is_file():
        raise UserError(f"{out} holds no run to resume: start it without --resume")
    else:
        before, now = json.loads(path.read_text(encoding="utf-8")), json.loads(text)
        changed = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
        if changed:
            raise UserError(
                f"{out} was started with other options ({', '.join(changed)}); give the same to resume it"
            )
    return hashlib.sha256(text.encode()).hexdigest()


def save_run(
    folder: Path,
    clip: ClipModel,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    *,
    run: Run,
    metadata: Mapping[str, str],
    storage: checkpoints.Storage,
) -> None:
    """Saves the state to continue from, and at an epoch's end the weights as `epoch_N.safetensors`."""
    if run.step_in_epoch == 0 and run.epoch:
        told = weights_metadata(clip, run, metadata)
        path = folder / f"epoch_{run.epoch}.safetensors"
        checkpoints.save_weights(path, clip.model.state_dict(), metadata=told, storage=storage)
        checkpoints.write_json(folder / checkpoints.FINAL_CONFIG, open_clip_config(clip))
    state = {
        "model": clip.model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scaler": scaler.state_dict(),
        "options_sha256": metadata["options_sha256"],
        "step": run.step,
        "epoch": run.epoch,
        "step_in_epoch": run.step_in_epoch,
        "seconds": run.seconds,
        "torch_rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    checkpoints.save_state(folder / "last.state.pt", state)


def load_run(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    *,
    digest: str,
) -> Run:
    """Puts model, optimiser and generators back to where the newest saved state was."""
    path = folder / "last.state.pt"
    if not path.is_file():
        say(f"no state is saved in {folder} yet: starting at step 0")
        return Run()
    state = checkpoints.load_plain(path)
    try:
        if state["options_sha256"] != digest:
            raise UserError(f"{path} belongs to a run with other options")
        model.load_state_dict(state["model"], strict=True)
        optimizer.load_state_dict(state["optimizer"])
        scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["torch_rng"])
        if state["cuda_rng"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["cuda_rng"])
        return Run(**{name: state[name] for name in Run.__slots__})
    except (KeyError, TypeError, RuntimeError) as error:
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
    storage: checkpoints.Storage,
) -> dict[str, Any]:
    """Writes `model/` and `summary.json`."""
    final = out / checkpoints.FINAL_FOLDER
    final.mkdir(exist_ok=True)
    weights = final / checkpoints.FINAL_WEIGHTS
    last = out / "checkpoints" / f"epoch_{run.epoch}.safetensors"
    weights.unlink(missing_ok=True)
    try:
        os.link(last, weights)
    except OSError:
        shutil.copyfile(last, weights)
    checkpoints.write_json(final / checkpoints.FINAL_CONFIG, open_clip_config(clip))
    clip.model.to("cpu").eval()
    summary = {
        "checkpoint": str(weights),
        "weights_sha256": hash_weights(checkpoints.read_weights(weights).state_dict),
        "steps": run.step,
        "epochs": run.epoch,
        "seconds": round(run.seconds, 3),
        "seconds_per_step": round(run.seconds / max(1, run.step), 4),
        "samples": len(stream.index.keys),
        "triples_per_epoch": stream.num_triples,
        "skipped": stream.index.skipped.as_dict() | stream.skipped.as_dict(),
        **metadata,
    }
    checkpoints.write_json(out / "summary.json", summary)
    return summary


def _after_step(run: Run, started: float) -> Run:
    seconds = run.seconds + time.perf_counter() - started
    return Run(step=run.step + 1, epoch=run.epoch, step_in_epoch=run.step_in_epoch + 1, seconds=seconds)


def _after_epoch(run: Run) -> Run:
    return Run(step=run.step, epoch=run.epoch + 1, step_in_epoch=0, seconds=run.seconds)


def _dtype(precision: Precision) -> torch.dtype:
    return torch.float16 if precision == "amp" else torch.bfloat16


def _diverged(value: float, terms: Mapping[str, Tensor], step: int, lr: float) -> str:
    parts = ", ".join(f"{name} {float(term):.4g}" for name, term in terms.items())
    return (
        f"the loss became {value} at step {step + 1} ({parts}; learning rate {lr:.3g}): "
        f"lower --lr, lengthen --warmup, or use --precision fp32; the last epoch's checkpoint is kept"
    )


def _metrics(
    run: Run, value: float, terms: Mapping[str, Tensor], features: Features, lr: float, batch: Batch
) -> dict[str, object]:
    return {
        "step": run.step,
        "epoch": run.epoch + 1,
        "loss": value,
        **{name: float(term.detach()) for name, term in terms.items()},
        "triples": 0 if batch.triple_rows_T is None else len(batch.triple_rows_T),
        "lr": lr,
        "logit_scale": float(features.scale.detach()),
        "steps_per_second": round(run.step / max(run.seconds, 1e-9), 3),
    }
