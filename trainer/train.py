"""The one training loop, flat, for `trainer defend` and `trainer attack` alike.

A run is a folder: `options.json`, `metrics.jsonl`, `checkpoints/epoch_N.safetensors` (with the state to continue
from beside the newest), at the end `model/` for open_clip's `local-dir:` and `summary.json`. Continued at any step,
a run ends with the same weights as one that was never stopped (on the CPU, with the same number of threads).
"""

import math
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.storage import write_json
from trainer.batch import Batch, on_device
from trainer.batches import BatchStream
from trainer.checkpoint import Storage
from trainer.defences.defence import Defence
from trainer.devices import Precision
from trainer.embedding import Embeddings, gather
from trainer.guard import Guard
from trainer.interrupt import StopRequest
from trainer.learner import Learner, build_learner, update
from trainer.log import MetricsFile, ProgressReport, Stopwatch, say
from trainer.log_places import LogPlaces, place_names
from trainer.losses import total_loss
from trainer.model import ClipModel
from trainer.optim import OptimOptions, learning_rate
from trainer.ranks import ONE, Ranks, is_of_a_lost_process
from trainer.run_folder import Run, begin, finish, load_run, save_run
from trainer.watching import Watch

FAILED_BATCH = "failed_batch.json"
BatchNorm = Literal["train", "frozen", "sync"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """How long and on what a run trains, and what it leaves behind."""

    epochs: int = 10
    """Passes over the shards."""
    device: str = "auto"
    """auto, cpu, cuda, or cuda:N."""
    precision: Precision = "auto"
    """fp32; bf16 (autocast); amp (fp16 with a gradient scaler); auto: fp32 on the CPU, bf16 on a GPU."""
    lock_text: bool = False
    """The text tower keeps its weights: only images move."""
    batch_norm: BatchNorm = "train"
    """Of a ResNet: train, each batch's own statistics, with several processes each one's part of it; sync, the whole
    batch's (GPUs); frozen, the running ones, which are kept."""
    parts: int = 1
    """Parts in which a batch is embedded, twice, where memory is short; the losses stay those of the whole batch."""
    grad_checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them: less memory, a third more time."""
    compile: bool = False
    """Have torch compile the image tower: minutes at the start, faster steps on a GPU."""
    storage: Storage = "fp32"
    """How checkpoints' weights are stored; fp16 halves the file."""
    save_every: int | None = None
    """Steps between saved states to continue from. Default: epochs' ends alone."""
    log_every: int = 10
    """Steps between lines in metrics.jsonl."""
    log_to: str | None = None
    """Where these lines go, too: tensorboard, wandb, or both joined by a comma. wandb goes by WANDB_MODE."""

    def __post_init__(self) -> None:
        for name in ("epochs", "save_every", "log_every", "parts"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name} must be at least 1, not {value}")
        place_names(self.log_to)
        for name, allowed in (
            ("precision", Precision),
            ("batch_norm", BatchNorm),
            ("storage", Storage),
        ):
            if getattr(self, name) not in get_args(allowed):
                raise UserError(
                    f"{name} must be one of {', '.join(get_args(allowed))}, not {getattr(self, name)!r}"
                )


def prepare(
    clip: ClipModel, defence: Defence, *, optim: OptimOptions, options: TrainOptions, ranks: Ranks = ONE
) -> Learner:
    """The model on its device, with all that trains it."""
    return build_learner(
        clip,
        optim=optim,
        device=options.device,
        precision=options.precision,
        lock_text=options.lock_text,
        texts=defence.needs.texts,
        sync_batch_norm=options.batch_norm == "sync",
        parts=options.parts,
        grad_checkpointing=options.grad_checkpointing,
        compiled=options.compile,
        ranks=ranks,
    )


def train(
    learner: Learner,
    stream: BatchStream,
    defence: Defence,
    *,
    optim: OptimOptions,
    options: TrainOptions,
    out: Path,
    record: Mapping[str, Any],
    resume: bool = False,
    guard: Guard | None = None,
    watch: Watch | None = None,
    watch_every: int | None = None,
) -> dict[str, Any]:
    """Trains `learner.clip.model` in place and returns the summary that it also writes to `out/summary.json`.

    `record` is what the run was started with: it goes to options.json, and continuing with another is refused.
    UserError for a loss that is no number. Asked to stop (Ctrl-C), it ends its step, saves, raises KeyboardInterrupt.
    Of several processes the first writes; all give the same summary. A guard may end it early, and says which epoch
    is kept. `watch` is asked every `watch_every` steps.
    """
    clip, ranks = learner.clip, learner.ranks
    folder = out / "checkpoints"
    digest = begin(out, record, resume=resume, ranks=ranks, guard=guard)
    run = load_run(folder, learner, defence, digest=digest) if resume else Run()
    if run.step == 0:
        with learner.autocast():
            defence.prepare(batch.to(learner.device) for batch in stream.again().epoch(0))
    metadata = {"options_sha256": digest, "shards_sha256": str(record.get("shards_sha256", ""))}
    total_steps = stream.steps_per_epoch * options.epochs
    save = partial(save_run, folder, learner, defence, metadata=metadata, storage=options.storage)
    metrics = open_metrics(out, record, options, continue_from=run.step, ranks=ranks)
    clock, pace = Stopwatch(), dict[str, float]()
    progress = ProgressReport(total_steps, done=run.step, shown=ranks.is_first)
    with StopRequest() as stop, progress, closing(metrics), other_processes(folder, ranks):
        while run.epoch < options.epochs and (guard is None or guard.look(run.epoch)):
            set_mode(clip.model, options.batch_norm)
            started = time.perf_counter()
            for batch in on_device(stream.epoch(run.epoch, skip=run.step_in_epoch), learner.device):
                clock.arrived()
                lr = learning_rate(run.step, total_steps=total_steps, options=optim)
                loss, terms, found = compute_loss(learner, defence, batch, step=run.step)
                check_finite(loss, terms, step=run.step, lr=lr, batch=batch, out=out, ranks=ranks)
                update(learner, loss, lr=lr, max_gradient_norm=optim.max_gradient_norm)
                run, started = _after_step(run, started), time.perf_counter()
                clock.done(len(found.image_BD))
                if run.step % options.log_every == 0 or run.step == total_steps:
                    pace = clock.read() | {"memory_gb": memory_gb(learner.device)}
                    metrics.write(_metrics(run, loss, terms, found=found, lr=lr, batch=batch) | pace)
                progress.advance(
                    f"loss {float(loss.detach()):.3f}, {run.step / run.seconds:.2f} steps/s{in_words(pace)}"
                )
                if watch is not None and watch_every and run.step % watch_every == 0:
                    metrics.write({"step": run.step, **watch()})
                    clock.restart()
                asked = ranks.any(stop.asked, device=learner.device)
                if asked or (options.save_every and run.step % options.save_every == 0):
                    save(run=run)
                if asked:
                    say(
                        f"stopped after step {run.step}; the same command with --resume goes on from there",
                        shown=ranks.is_first,
                    )
                    raise KeyboardInterrupt
            run = _after_epoch(run)
            save(run=run)
    return finish(clip, stream, out, run=run, metadata=metadata, guard=guard)


def open_metrics(
    out: Path, record: Mapping[str, Any], options: TrainOptions, *, continue_from: int, ranks: Ranks
) -> MetricsFile:
    """The run's metrics.jsonl, and the logs beside it; of a process that does not write, nothing."""
    if not ranks.is_first:
        return MetricsFile(None)
    beside = LogPlaces(place_names(options.log_to), out, record)
    return MetricsFile(out / "metrics.jsonl", continue_from=continue_from, beside=beside)


@contextmanager
def other_processes(folder: Path, ranks: Ranks) -> Iterator[None]:
    """UserError that says how to go on, where another process of the run has ended."""
    try:
        yield
    except RuntimeError as error:
        if ranks.world == 1 or not is_of_a_lost_process(error):
            raise
        state = folder / "last.state.pt"
        saved = (
            "the last saved state" if state.is_file() else "the start: no state was saved yet (--save-every)"
        )
        raise UserError(
            f"process {ranks.rank} of {ranks.world} lost another one, which has ended; the same command with --resume "
            f"goes on from {saved}, with any number of processes"
        ) from None


def compute_loss(
    learner: Learner, defence: Defence, batch: Batch, *, step: int
) -> tuple[Tensor, dict[str, Tensor], Embeddings]:
    """The loss of a step, its terms, and the embeddings it is of: those of all processes."""
    with learner.autocast():
        pixels = defence.pixels(batch, step=step)
        found = learner.embed(batch, pixels_N3HW=pixels, texts=defence.needs.texts)
    found = gather(found, learner.ranks)
    terms = defence.terms(found)
    return total_loss(terms, defence.weights), terms, found


def check_finite(
    loss: Tensor, terms: Mapping[str, Tensor], *, step: int, lr: float, batch: Batch, out: Path, ranks: Ranks
) -> None:
    """UserError where the loss is NaN or infinite: no later step would mend it. The batch's keys are written down."""
    value = float(loss.detach())
    if not math.isfinite(value):
        found = {name: f"{float(term.detach()):.4g}" for name, term in terms.items()}
        keys = [key for part in ranks.collect(batch.keys) for key in part]
        if ranks.is_first:
            write_json(out / FAILED_BATCH, {"step": step + 1, "terms": found, "lr": lr, "keys": keys})
        parts = ", ".join(f"{name} {term}" for name, term in found.items())
        raise UserError(
            f"the loss became {value} at step {step + 1} ({parts}; learning rate {lr:.3g}): "
            f"lower --lr, lengthen --warmup, or use --precision fp32; the last epoch's checkpoint is kept, "
            f"the batch's keys are in {out / FAILED_BATCH}"
        )


def memory_gb(device: torch.device) -> float:
    """The most memory that was in use, in GB: the GPU's, or this process's."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 1e9, 3)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(most * (1 if sys.platform == "darwin" else 1024) / 1e9, 3)


def in_words(pace: Mapping[str, float]) -> str:
    """How fast it goes, for people; nothing before it is known."""
    if not pace:
        return ""
    waits = f"waits {100 * pace['data_wait']:.0f} % for data"
    return f", {pace['samples_per_second']:.0f} samples/s, {waits}, {pace['memory_gb']:.1f} GB"


def set_mode(model: nn.Module, batch_norm: BatchNorm) -> None:
    """Training mode, with batch normalisation in evaluation mode where it is frozen."""
    model.train()
    if batch_norm == "frozen":
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


def _after_step(run: Run, started: float) -> Run:
    seconds = run.seconds + time.perf_counter() - started
    return Run(step=run.step + 1, epoch=run.epoch, step_in_epoch=run.step_in_epoch + 1, seconds=seconds)


def _after_epoch(run: Run) -> Run:
    return Run(step=run.step, epoch=run.epoch + 1, step_in_epoch=0, seconds=run.seconds)


def _metrics(
    run: Run, loss: Tensor, terms: Mapping[str, Tensor], *, found: Embeddings, lr: float, batch: Batch
) -> dict[str, object]:
    return {
        "step": run.step,
        "epoch": run.epoch + 1,
        "loss": float(loss.detach()),
        **{name: float(term.detach()) for name, term in terms.items()},
        "triples": 0 if batch.triple_rows_T is None else len(batch.triple_rows_T),
        "lr": lr,
        "logit_scale": float(found.scale.detach()),
        "steps_per_second": round(run.step / run.seconds, 3),
    }
