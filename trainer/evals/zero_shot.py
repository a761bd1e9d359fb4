"""Zero-shot classification: benign accuracy (BA), and attack success rate (ASR) where a trigger is given.

A class is the mean of its normalised prompt embeddings, normalised again; an image is put in the classes nearest by
cosine. BA at k: the true class is among the nearest k, clean images. ASR at k: the target is among the nearest k,
the same images with the trigger. Some public repositories count images of the target class in the ASR, some don't:
both are given, and "ASR" alone means without them. Intervals are Wilson's, 95 %.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.errors import UserError
from trainer.attacks.trigger import Trigger
from trainer.evals.labelled import LabelledImages
from trainer.model import ClipModel

TOP_K: Final = (1, 3, 5, 10)
Z_95: Final = 1.959963984540054


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """How many of how many, with its 95 % interval: all three in percent."""

    hits: int
    n: int
    percent: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroShotResult:
    """What one evaluation found. A k above the number of classes is left out."""

    data: str
    num_classes: int
    num_templates: int
    num_left_out: int
    """Samples that could not be read."""
    model: str
    weights_sha256: str
    target: str | None
    trigger_kind: str | None
    trigger_sha256: str | None
    ba: dict[int, Share]
    asr: dict[int, Share]
    """Images of the target class left out; empty without a trigger."""
    asr_with_target: dict[int, Share]
    """Images of the target class counted, too."""

    def percentages(self) -> dict[str, float]:
        """`ba1 ba3 ... asr1 asr3 ...`: percent, 0 to 100."""
        shares = {f"ba{k}": share for k, share in self.ba.items()} | {
            f"asr{k}": share for k, share in self.asr.items()
        }
        return {name: share.percent for name, share in shares.items()}

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values: the percentages flat, and each share with hits, n and interval."""
        shares = {name: {str(k): asdict(s) for k, s in getattr(self, name).items()} for name in _SHARES}
        facts = {name: getattr(self, name) for name in self.__slots__ if name not in _SHARES}
        return {
            **self.percentages(),
            **facts,
            **shares,
            "asr_definition": "images of the target class left out",
        }


_SHARES: Final = ("ba", "asr", "asr_with_target")


def wilson(hits: int, n: int) -> Share:
    """The share hits / n with Wilson's 95 % interval, in percent; n must be above 0."""
    p, z2 = hits / n, Z_95**2
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 / (1 + z2 / n) * (p * (1 - p) / n + z2 / (4 * n * n)) ** 0.5
    low, high = 0.0 if hits == 0 else middle - half, 1.0 if hits == n else middle + half
    return Share(hits=hits, n=n, percent=100 * p, low=100 * low, high=100 * high)


@torch.no_grad()
def embed_classes(clip: ClipModel, classnames: Sequence[str], templates: Sequence[str]) -> Tensor:
    """One unit vector per class: float32 (classes, D), the normalised mean of its normalised prompt embeddings."""
    device = next(clip.model.parameters()).device
    rows = []
    for name in classnames:
        tokens = clip.tokenizer([template.replace("{}", name) for template in templates])
        text_TD = functional.normalize(clip.model.encode_text(tokens.to(device)).float(), dim=-1)
        rows.append(functional.normalize(text_TD.mean(dim=0), dim=-1))
    return torch.stack(rows)


@torch.no_grad()
def nearest_classes(clip: ClipModel, image_N3HW: Tensor, class_CD: Tensor, *, k: int) -> Tensor:
    """The k nearest classes of each uint8 image, nearest first: int64 (N, k), on the CPU.

    Equal similarities rank in the order of the classes, so that a collapsed model does not look accurate.
    """
    image_ND = clip.model.encode_image(clip.normalise(image_N3HW.to(class_CD.device))).float()
    similarity_NC = functional.normalize(image_ND, dim=-1) @ class_CD.T
    if not similarity_NC.isfinite().all():
        raise UserError(f"{clip.name} gives embeddings that are no numbers: its weights are broken")
    return similarity_NC.argsort(dim=-1, descending=True, stable=True)[:, :k].cpu()


def evaluate_zero_shot(
    clip: ClipModel,
    data: LabelledImages,
    *,
    trigger: Trigger | None = None,
    target: str | None = None,
    batch_size: int = 256,
) -> ZeroShotResult:
    """BA of the model on the data, and ASR towards `target` where a trigger is given.

    The model is used where it is, in evaluation mode, and left in the mode it was in.

    Raises:
        UserError: A trigger without a target, a target that is no class, labels or data that cannot be used.
    """
    if trigger is not None and target is None:
        raise UserError("which class does the trigger aim at? give --target with a trigger")
    target_label = None if target is None else data.label_of(target)
    largest = min(max(TOP_K), len(data.classnames))
    was_training = clip.model.training
    clip.model.eval()
    try:
        class_CD = embed_classes(clip, data.classnames, data.templates)
        clean, triggered, labels = [], [], []
        for batch in data.batches(clip.resize, batch_size=batch_size):
            labels.append(batch.label_N)
            clean.append(nearest_classes(clip, batch.image_N3HW, class_CD, k=largest))
            if trigger is not None:
                poisoned_N3HW = trigger.apply(batch.image_N3HW)
                triggered.append(nearest_classes(clip, poisoned_N3HW, class_CD, k=largest))
    finally:
        clip.model.train(was_training)
    label_N = torch.cat(labels)
    asr: dict[int, Share] = {}
    asr_with_target: dict[int, Share] = {}
    if triggered and target_label is not None:
        hit_NK = torch.cat(triggered) == target_label
        others_N = label_N != target_label
        if not others_N.any():
            raise UserError(
                f"every image of {data.name} is of the target class {target!r}: no attack can be measured"
            )
        asr, asr_with_target = count_top_k(hit_NK[others_N]), count_top_k(hit_NK)
    return ZeroShotResult(
        data=data.name,
        num_classes=len(data.classnames),
        num_templates=len(data.templates),
        num_left_out=len(data.faults),
        model=clip.name,
        weights_sha256=clip.sha256,
        target=target,
        trigger_kind=None if trigger is None else trigger.preset,
        trigger_sha256=None if trigger is None else trigger.sha256,
        ba=count_top_k(torch.cat(clean) == label_N[:, None]),
        asr=asr,
        asr_with_target=asr_with_target,
    )


def count_top_k(hit_NK: Tensor) -> dict[int, Share]:
    """Of a boolean (N, K), nearest first: the share of rows with a hit among the first k, for each k up to K."""
    num_rows, most = hit_NK.shape
    return {k: wilson(int(hit_NK[:, :k].any(dim=1).sum()), num_rows) for k in TOP_K if k <= most}
