"""The learner: what makes a step fast is in place."""

import torch
from torch import nn

from trainer.learner import build_learner
from trainer.model import load_model
from trainer.optim import OptimOptions


def test_steps_are_fused_and_convolutions_have_their_channels_last() -> None:
    clip = load_model("cleanerclip-rn-64")
    learner = build_learner(clip, optim=OptimOptions(lr=1e-4), device="cpu", precision="fp32")
    assert all(group["fused"] for group in learner.optimizer.param_groups)
    kernels = [part.weight for part in clip.model.modules() if isinstance(part, nn.Conv2d)]
    wide = [kernel for kernel in kernels if kernel.shape[2] > 1]  # a kernel of one pixel has both orders
    assert wide
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in wide)
