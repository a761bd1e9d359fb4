"""The optimiser and its schedule: AdamW with CleanCLIP's parameter groups, linear warm-up, cosine decay to 0."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.errors import UserError

MAX_LOGIT_SCALE = math.log(100)


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimOptions:
    """AdamW and its learning-rate schedule; the paper's values where it states them."""

    lr: float | None = None
    """Peak learning rate. Default: the method's; 1e-3 for small models from scratch (measured), 1e-5 for OpenAI's
    and their like (what the field uses: the paper leaves it blank)."""
    warmup: int | None = None
    """Steps of linear warm-up, then cosine to 0. Default: a tenth of all steps, at most the paper's 10,000."""
    weight_decay: float = 0.1
    """AdamW's, on weights alone: not on norms, biases, logit_scale."""
    beta1: float = 0.9
    """AdamW's decay of the mean gradient."""
    beta2: float = 0.999
    """AdamW's decay of the mean squared gradient."""
    eps: float = 1e-8
    """AdamW's, against division by 0."""
    max_gradient_norm: float | None = None
    """Scale gradients down to this norm. Default: never."""

    def __post_init__(self) -> None:
        if self.lr is not None and not self.lr > 0:
            raise UserError(f"lr must be greater than 0, not {self.lr}")
        if self.warmup is not None and self.warmup < 0:
            raise UserError(f"warmup must be 0 or more steps, not {self.warmup}")
        if self.weight_decay < 0:
            raise UserError(f"weight_decay must be 0 or greater, not {self.weight_decay}")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"{name} must be in [0, 1), not {getattr(self, name)}")
        if self.max_gradient_norm is not None and not self.max_gradient_norm > 0:
            raise UserError(f"max_gradient_norm must be greater than 0, not {self.max_gradient_norm}")


def decays(name: str, parameter: Tensor) -> bool:
    """Whether weight decay applies: not to norms, biases and single numbers (CleanCLIP goes by the same names)."""
    return parameter.ndim >= 2 and not any(part in name for part in ("bn", "ln", "bias", "logit_scale"))


def build_optimizer(model: nn.Module, options: OptimOptions) -> torch.optim.AdamW:
    """AdamW over the trainable parameters in two groups: with and without weight decay."""
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for name, p in named if decays(name, p)], "weight_decay": options.weight_decay},
        {"params": [p for name, p in named if not decays(name, p)], "weight_decay": 0.0},
    ]
    betas = (options.beta1, options.beta2)
    return torch.optim.AdamW(groups, lr=options.lr or 0.0, betas=betas, eps=options.eps, fused=True)


def learning_rate(step: int, *, total_steps: int, options: OptimOptions) -> float:
    """The learning rate of the step (0-based): linear up to `lr`, then half a cosine down towards 0."""
    assert options.lr is not None  # a run chooses one for its model
    warmup = min(10_000, total_steps // 10) if options.warmup is None else options.warmup
    if step < warmup:
        return options.lr * (step + 1) / warmup
    done = (step - warmup) / max(1, total_steps - warmup)
    return options.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Gives every group this learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr


@torch.no_grad()
def clamp_logit_scale(model: nn.Module) -> None:
    """Keeps logit_scale within [0, ln 100], as CLIP and CleanCLIP do after each step.

    A model with a bias has no upper limit: SigLIP's published scales are above it.
    """
    scale = model.logit_scale
    assert isinstance(scale, Tensor)
    scale.clamp_(0, MAX_LOGIT_SCALE if getattr(model, "logit_bias", None) is None else None)
