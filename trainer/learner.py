"""What changes while training: module, optimiser, gradient scaler, on a device and in a precision.

`train` drives it; `run_folder` saves it and puts it back.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from pipeline.errors import UserError
from trainer.devices import Precision, find_device, find_precision
from trainer.embedding import Towers
from trainer.model import ClipModel
from trainer.optim import OptimOptions, build_optimizer, clamp_logit_scale, set_learning_rate
from trainer.ranks import ONE, Ranks
from trainer.recompute import Embedder, checkpoint_towers


@dataclass(frozen=True, slots=True, kw_only=True)
class Learner:
    """What changes while training: the module with its optimiser and gradient scaler, on their device."""

    clip: ClipModel
    embed: Embedder
    """Embeds a batch; DDP is around its towers where several processes train."""
    optimizer: torch.optim.AdamW
    scaler: torch.amp.GradScaler
    device: torch.device
    precision: Precision
    ranks: Ranks = ONE

    def autocast(self) -> torch.autocast:
        """The context of a forward pass in this precision."""
        return _autocast(self.device, self.precision)


def _autocast(device: torch.device, precision: Precision) -> torch.autocast:
    dtype = torch.float16 if precision == "amp" else torch.bfloat16
    return torch.autocast(device.type, dtype=dtype, enabled=precision != "fp32")


def build_learner(
    clip: ClipModel,
    *,
    optim: OptimOptions,
    device: str,
    precision: Precision,
    lock_text: bool = False,
    texts: bool = True,
    sync_batch_norm: bool = False,
    parts: int = 1,
    grad_checkpointing: bool = False,
    compiled: bool = False,
    ranks: Ranks = ONE,
) -> Learner:
    """Moves the model to its device and gives it an optimiser; UserError for a device that is not there.

    `lock_text` leaves the text tower out of training; the images' and the scale of the logits stay in. `texts` says
    whether captions are embedded at all, `sync_batch_norm` whether its statistics are over the batches of all `ranks`.
    `parts` and `grad_checkpointing` save memory (`recompute`); `compiled` has torch compile the image tower.
    """
    found = find_device(device)
    chosen = find_precision(precision, found)
    clip.model.to(found)
    scaler = torch.amp.GradScaler(found.type, enabled=chosen == "amp")
    if lock_text:
        for name, parameter in clip.model.named_parameters():
            parameter.requires_grad_(name.startswith("visual.") or name in ("logit_scale", "logit_bias"))
    optimizer = build_optimizer(clip.model, optim)
    if sync_batch_norm and ranks.world > 1:
        if found.type != "cuda":
            raise UserError("batch_norm sync needs GPUs: torch has no other; choose train or frozen")
        # in place: a CLIP itself is no batch norm
        nn.SyncBatchNorm.convert_sync_batchnorm(clip.model)  # type: ignore[no-untyped-call]
    if grad_checkpointing:
        checkpoint_towers(clip.model)
    if compiled:
        clip.model.visual.compile()
    towers = ranks.wrap(Towers(clip), some_unused=not (texts and clip.plain))
    return Learner(
        clip=clip,
        embed=Embedder(towers, parts=parts, autocast=partial(_autocast, found, chosen)),
        optimizer=optimizer,
        scaler=scaler,
        device=found,
        precision=chosen,
        ranks=ranks,
    )


def update(learner: Learner, loss: Tensor, *, lr: float, max_gradient_norm: float | None) -> None:
    """One step of the optimiser down the gradient of `loss`."""
    model, scaler = learner.clip.model, learner.scaler
    set_learning_rate(learner.optimizer, lr)
    learner.optimizer.zero_grad(set_to_none=True)
    learner.embed.backward(scaler.scale(loss))
    scaler.unscale_(learner.optimizer)
    if max_gradient_norm is not None:
        nn.utils.clip_grad_norm_(model.parameters(), max_gradient_norm)
    scaler.step(learner.optimizer)
    scaler.update()
    clamp_logit_scale(model)
