"""Linear probe: a linear layer on frozen image features, trained on clean images; its BA, and its ASR under a trigger.

A backdoor that sits in the image encoder shows here, too, though no caption is read. The features are the image
embeddings before they are normalised, each dimension shifted and scaled by its mean and deviation over the training
images. The layer minimises the cross-entropy summed over the images times C, plus half the squared weights (the bias
is free): scikit-learn's LogisticRegression, which a test holds it to. By L-BFGS (exact), or by SGD for large sets.
"""

import itertools
import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.errors import UserError
from trainer.attacks.trigger import Trigger
from trainer.embedding import embed_images, evaluation_mode
from trainer.evals.evaluation import find_target, measure
from trainer.evals.labelled import LabelledImages
from trainer.model import ClipModel
from trainer.scores import Evaluation

Solver = Literal["lbfgs", "sgd"]

ROWS_AT_A_TIME: Final = 4096
"""Features that are held in double precision at once."""
CONVERGED: Final = 1e-4
"""The largest part of the gradient of the mean loss that L-BFGS may leave."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeOptions:
    """How the linear layer is trained."""

    solver: Solver = "lbfgs"
    """lbfgs: all features in every step, double precision; sgd: momentum 0.9, cosine to 0."""
    c: float = 0.316
    """Weight of the data against the squared weights, as scikit-learn's C. CLIP's probe uses 0.316."""
    iterations: int = 1_000
    """At most so many steps of L-BFGS."""
    epochs: int = 10
    """Of SGD."""
    lr: float = 0.1
    """SGD's first learning rate."""
    batch_size: int = 256
    """Features in a step of SGD."""
    seed: int = 0
    """Of SGD's order."""

    def __post_init__(self) -> None:
        if self.solver not in get_args(Solver):
            raise UserError(f"solver must be one of {', '.join(get_args(Solver))}, not {self.solver!r}")
        for name in ("c", "lr"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise UserError(f"{name} must be above 0, not {value}")
        for name in ("iterations", "epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """Frozen features of labelled images; `feature_ND` may lie in a file and be paged in."""

    feature_ND: Tensor
    """float32."""
    label_N: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """The trained layer with the scaling of its features."""

    mean_D: Tensor
    deviation_D: Tensor
    weight_CD: Tensor
    bias_C: Tensor
    loss: float
    """What was minimised, divided by C and the number of images."""
    steps: int
    converged: bool
    """L-BFGS: the gradient vanished before the steps ran out. SGD: always."""

    def logits(self, feature_ND: Tensor) -> Tensor:
        """float64 (N, C)."""
        scaled_ND = (feature_ND.double() - self.mean_D) / self.deviation_D
        return scaled_ND @ self.weight_CD.T + self.bias_C


def extract_features(clip: ClipModel, data: LabelledImages, *, batch_size: int, folder: Path) -> Features:
    """The features of every usable image, written to a file in `folder` as they come and mapped into memory."""
    path, labels, width = folder / "features", [], 0
    with evaluation_mode(clip), path.open("wb") as file:
        for batch in data.batches(clip.resize, batch_size=batch_size):
            feature_ND = embed_images(clip, batch.image_N3HW).cpu().contiguous()
            width = feature_ND.shape[1]
            file.write(feature_ND.numpy().tobytes())
            labels.append(batch.label_N)
    label_N = torch.cat(labels)
    feature_ND = torch.from_file(str(path), shared=False, size=len(label_N) * width, dtype=torch.float32)
    return Features(feature_ND=feature_ND.view(len(label_N), width), label_N=label_N)


def train_probe(features: Features, *, num_classes: int, options: ProbeOptions, device: str = "cpu") -> Probe:
    """The layer that the options ask for; the same on every call."""
    mean_D, deviation_D = _moments(features.feature_ND)
    scaled = _Scaled(features, mean_D.to(device), deviation_D.to(device))
    solve = _solve_lbfgs if options.solver == "lbfgs" else _solve_sgd
    weight_CD, bias_C, steps, converged = solve(scaled, num_classes, options)
    return Probe(
        mean_D=scaled.mean_D,
        deviation_D=scaled.deviation_D,
        weight_CD=weight_CD,
        bias_C=bias_C,
        loss=_objective(scaled, weight_CD, bias_C, c=options.c),
        steps=steps,
        converged=converged,
    )


def evaluate_probe(
    clip: ClipModel,
    train: LabelledImages,
    test: LabelledImages,
    *,
    options: ProbeOptions,
    trigger: Trigger | None = None,
    target: str | None = None,
    batch_size: int = 256,
) -> tuple[Evaluation, dict[str, Any]]:
    """BA and ASR of a probe trained on `train`, on `test`; and what is to be said of its training.

    Raises:
        UserError: Two lists of classes, a trigger without a target, a target that is no class, unusable data.
    """
    if train.classnames != test.classnames:
        raise UserError(f"{train.name} and {test.name} have other classes: a probe needs the same ones")
    find_target(test, trigger=trigger, target=target)  # before anything is computed
    device = str(next(clip.model.parameters()).device)
    num_classes = len(test.classnames)
    with tempfile.TemporaryDirectory(prefix="probe-") as folder:
        features = extract_features(clip, train, batch_size=batch_size, folder=Path(folder))
        left_out = len(train.faults)
        probe = train_probe(features, num_classes=num_classes, options=options, device=device)
        facts = _training_facts(probe, features) | {"train": train.name, "train_left_out": left_out}
        del features  # before its file goes
    with evaluation_mode(clip):
        result = measure(
            lambda image_N3HW, k: (
                probe.logits(embed_images(clip, image_N3HW))
                .argsort(dim=-1, descending=True, stable=True)[:, :k]
                .cpu()
            ),
            clip,
            test,
            how=f"linear probe ({options.solver}, C {options.c:g})",
            num_templates=0,
            trigger=trigger,
            target=target,
            batch_size=batch_size,
        )
    return result, facts


def _training_facts(probe: Probe, features: Features) -> dict[str, Any]:
    right = 0
    for start in range(0, len(features.label_N), ROWS_AT_A_TIME):
        logit_RC = probe.logits(
            features.feature_ND[start : start + ROWS_AT_A_TIME].to(probe.weight_CD.device)
        )
        right += int((logit_RC.argmax(dim=1).cpu() == features.label_N[start : start + ROWS_AT_A_TIME]).sum())
    return {
        "train_images": len(features.label_N),
        "train_classes": len(set(features.label_N.tolist())),
        "train_accuracy": 100 * right / len(features.label_N),
        "loss": probe.loss,
        "steps": probe.steps,
        "converged": probe.converged,
    }


@dataclass(frozen=True, slots=True)
class _Scaled:
    """Features with the scaling that the layer sees them under."""

    features: Features
    mean_D: Tensor
    deviation_D: Tensor

    def __len__(self) -> int:
        return len(self.features.label_N)

    @property
    def width(self) -> int:
        return self.features.feature_ND.shape[1]

    def rows(self, index: slice | Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Scaled features and labels of these images, on the device of the scaling."""
        device = self.mean_D.device
        feature_RD = self.features.feature_ND[index].to(device=device, dtype=dtype)
        scaled_RD = (feature_RD - self.mean_D.to(dtype)) / self.deviation_D.to(dtype)
        return scaled_RD, self.features.label_N[index].to(device)

    def chunks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """All, in double precision, a part at a time."""
        for start in range(0, len(self), ROWS_AT_A_TIME):
            yield self.rows(slice(start, start + ROWS_AT_A_TIME), torch.float64)


def _moments(feature_ND: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation (float64); a dimension that never varies keeps deviation 1."""
    num, width = feature_ND.shape
    mean_D, square_D = torch.zeros(width, dtype=torch.float64), torch.zeros(width, dtype=torch.float64)
    for start in range(0, num, ROWS_AT_A_TIME):
        mean_D += feature_ND[start : start + ROWS_AT_A_TIME].double().sum(dim=0) / num
    for start in range(0, num, ROWS_AT_A_TIME):
        square_D += (feature_ND[start : start + ROWS_AT_A_TIME].double() - mean_D).square().sum(dim=0) / num
    deviation_D = square_D.sqrt()
    return mean_D, torch.where(deviation_D > 1e-12, deviation_D, torch.ones_like(deviation_D))


def _objective(
    scaled: _Scaled,
    weight_CD: Tensor,
    bias_C: Tensor,
    *,
    c: float,
    backward: Callable[[Tensor], None] = lambda _: None,
) -> float:
    """Mean cross-entropy + |W|^2 / (2 C N); `backward` is called on each part of it, so that memory is bounded."""
    penalty = weight_CD.square().sum() / (2 * c * len(scaled))
    parts = (
        functional.cross_entropy(functional.linear(feature_RD, weight_CD, bias_C), label_R, reduction="sum")
        / len(scaled)
        for feature_RD, label_R in scaled.chunks()
    )
    total = 0.0
    for part in itertools.chain((penalty,), parts):
        total += float(part.detach())
        backward(part)
    return total


def _empty_layer(scaled: _Scaled, num_classes: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    device = scaled.mean_D.device
    weight_CD = torch.zeros((num_classes, scaled.width), dtype=dtype, device=device, requires_grad=True)
    return weight_CD, torch.zeros(num_classes, dtype=dtype, device=device, requires_grad=True)


def _solve_lbfgs(
    scaled: _Scaled, num_classes: int, options: ProbeOptions
) -> tuple[Tensor, Tensor, int, bool]:
    weight_CD, bias_C = _empty_layer(scaled, num_classes, torch.float64)
    optimiser = torch.optim.LBFGS(
        [weight_CD, bias_C],
        max_iter=options.iterations,
        max_eval=2 * options.iterations,
        tolerance_grad=1e-6,
        tolerance_change=1e-14,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def closure() -> float:
        optimiser.zero_grad()
        return _objective(scaled, weight_CD, bias_C, c=options.c, backward=torch.autograd.backward)

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    steps = int(optimiser.state[weight_CD]["n_iter"])
    closure()
    largest = max(float(tensor.grad.abs().max()) for tensor in (weight_CD, bias_C) if tensor.grad is not None)
    return weight_CD.detach(), bias_C.detach(), steps, largest < CONVERGED


def _solve_sgd(scaled: _Scaled, num_classes: int, options: ProbeOptions) -> tuple[Tensor, Tensor, int, bool]:
    weight_CD, bias_C = _empty_layer(scaled, num_classes, torch.float32)
    groups = [
        {"params": [weight_CD], "weight_decay": 1 / (options.c * len(scaled))},
        {"params": [bias_C], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.SGD(groups, lr=options.lr, momentum=0.9)
    steps_an_epoch = -(-len(scaled) // options.batch_size)
    steps = options.epochs * steps_an_epoch
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=steps)
    generator = torch.Generator().manual_seed(options.seed)
    for _ in range(options.epochs):
        order_N = torch.randperm(len(scaled), generator=generator)
        for start in range(0, len(scaled), options.batch_size):
            feature_BD, label_B = scaled.rows(order_N[start : start + options.batch_size], torch.float32)
            loss = functional.cross_entropy(functional.linear(feature_BD, weight_CD, bias_C), label_B)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
    return weight_CD.detach().double(), bias_C.detach().double(), steps, True
