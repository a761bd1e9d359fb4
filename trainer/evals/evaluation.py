"""What an evaluation found: benign accuracy (BA), attack success rate (ASR), and what each class lost to the target.

`zero_shot` and `linear_probe` rank the classes of an image; `measure` counts over a data set what they put where.
BA at k: the true class is among the first k, clean images. ASR at k: the target is among the first k, the same images
with the trigger. Some public repositories count images of the target class in the ASR, some don't: both are given,
and "ASR" alone means without them. How many of those images the model puts in the target without any trigger stands
beside it: an attack is what comes on top. Intervals are Wilson's, 95 %.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import torch
from torch import Tensor

from pipeline.errors import UserError
from trainer.attacks.trigger import Trigger
from trainer.evals.labelled import LabelledBatch, LabelledImages
from trainer.model import ClipModel

TOP_K: Final = (1, 3, 5, 10)
Z_95: Final = 1.959963984540054
FOOLED_POINTS: Final = 10.0
"""A trigger that lifts a clean model's share of images in the target by more points is an adversarial patch."""

Rank = Callable[[Tensor, int], Tensor]
"""(uint8 images (N, 3, H, W), k) -> the k classes of each, nearest first: int64 (N, k) on the CPU."""
Observe = Callable[[LabelledBatch, Tensor, Tensor | None, Tensor | None], None]
"""(clean images, their classes (N, k), the images with the trigger, their classes): called for every batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """How many of how many, with its 95 % interval: all three in percent."""

    hits: int
    n: int
    percent: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassScore:
    """One class: how many of its images are known, and how many are put in the target."""

    name: str
    n: int
    """Images of the class."""
    hits: int
    """Clean images put in their own class."""
    to_target: int | None
    """Clean images put in the target class; None without a target."""
    to_target_triggered: int | None
    """The same with the trigger; None without one."""

    @property
    def ba1(self) -> float | None:
        """Percent; None for a class without images."""
        return 100 * self.hits / self.n if self.n else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What one evaluation found. A k above the number of classes is left out."""

    how: str
    """zero-shot, or linear probe."""
    data: str
    num_classes: int
    num_templates: int
    """0 for a linear probe, which reads no class name."""
    num_left_out: int
    """Samples that could not be read."""
    images_sha256: str
    """Over key, label and clean pixels (as the model takes them) of every image, in order."""
    prompts_sha256: str
    """Over class names and templates."""
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
    clean_as_target: Share | None
    """Images of other classes that are put in the target without any trigger; None without a target."""
    classes: tuple[ClassScore, ...]
    """In the labels' order."""

    def percentages(self) -> dict[str, float]:
        """`ba1 ba3 ... asr1 asr3 ...`: percent, 0 to 100."""
        shares = {f"ba{k}": share for k, share in self.ba.items()} | {
            f"asr{k}": share for k, share in self.asr.items()
        }
        return {name: share.percent for name, share in shares.items()}

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values: the percentages flat, each share with hits, n and interval, each class."""
        shares = {name: {str(k): asdict(s) for k, s in getattr(self, name).items()} for name in _SHARES}
        facts = {name: getattr(self, name) for name in self.__slots__ if name not in (*_SHARES, *_NESTED)}
        return {
            **self.percentages(),
            **facts,
            **shares,
            "asr_definition": "images of the target class left out",
            "clean_as_target": None if self.clean_as_target is None else asdict(self.clean_as_target),
            "classes": [asdict(score) | {"ba1": score.ba1} for score in self.classes],
        }


_SHARES: Final = ("ba", "asr", "asr_with_target")
_NESTED: Final = ("clean_as_target", "classes")


def wilson(hits: int, n: int) -> Share:
    """The share hits / n with Wilson's 95 % interval, in percent; n must be above 0."""
    p, z2 = hits / n, Z_95**2
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 / (1 + z2 / n) * (p * (1 - p) / n + z2 / (4 * n * n)) ** 0.5
    low, high = 0.0 if hits == 0 else middle - half, 1.0 if hits == n else middle + half
    return Share(hits=hits, n=n, percent=100 * p, low=100 * low, high=100 * high)


def count_top_k(hit_NK: Tensor) -> dict[int, Share]:
    """Of a boolean (N, K), nearest first: the share of rows with a hit among the first k, for each k up to K."""
    num_rows, most = hit_NK.shape
    return {k: wilson(int(hit_NK[:, :k].any(dim=1).sum()), num_rows) for k in TOP_K if k <= most}


def score_classes(
    classnames: Sequence[str],
    label_N: Tensor,
    clean_N: Tensor,
    triggered_N: Tensor | None,
    target_label: int | None,
) -> tuple[ClassScore, ...]:
    """Each class's counts from the labels and the classes that clean and triggered images were put in (each (N,))."""
    num = len(classnames)

    def per_class(chosen_N: Tensor) -> list[int]:
        counts: list[int] = label_N[chosen_N].bincount(minlength=num).tolist()
        return counts

    n = per_class(torch.ones_like(label_N, dtype=torch.bool))
    hits = per_class(clean_N.eq(label_N))
    to_target = None if target_label is None else per_class(clean_N.eq(target_label))
    triggered = None
    if triggered_N is not None and target_label is not None:
        triggered = per_class(triggered_N.eq(target_label))
    return tuple(
        ClassScore(
            name=name,
            n=n[i],
            hits=hits[i],
            to_target=None if to_target is None else to_target[i],
            to_target_triggered=None if triggered is None else triggered[i],
        )
        for i, name in enumerate(classnames)
    )


def measure(
    rank: Rank,
    clip: ClipModel,
    data: LabelledImages,
    *,
    how: str,
    num_templates: int,
    trigger: Trigger | None = None,
    target: str | None = None,
    batch_size: int = 256,
    observe: Observe | None = None,
) -> Evaluation:
    """Ranks every image without and, where a trigger is given, with it; memory does not grow with the images.

    The trigger gets the images' keys, so what varies from image to image is what poisoning the same sample gives.

    Raises:
        UserError: A trigger without a target, a target that is no class, labels or data that cannot be used.
    """
    target_label = find_target(data, trigger=trigger, target=target)
    largest = min(max(TOP_K), len(data.classnames))
    clean: list[Tensor] = []
    triggered: list[Tensor] = []
    labels: list[Tensor] = []
    digest = hashlib.sha256()
    for batch in data.batches(clip.resize, batch_size=batch_size):
        _hash_batch(digest, batch)
        labels.append(batch.label_N)
        clean.append(rank(batch.image_N3HW, largest))
        poisoned_N3HW = None
        if trigger is not None:
            poisoned_N3HW = trigger.apply(batch.image_N3HW, keys=batch.keys)
            triggered.append(rank(poisoned_N3HW, largest))
        if observe is not None:
            observe(batch, clean[-1], poisoned_N3HW, triggered[-1] if triggered else None)
    label_N, clean_NK = torch.cat(labels), torch.cat(clean)
    triggered_NK = torch.cat(triggered) if triggered else None
    asr, asr_with_target, clean_as_target = _towards(target_label, label_N, clean_NK, triggered_NK, data)
    return Evaluation(
        how=how,
        data=data.name,
        num_classes=len(data.classnames),
        num_templates=num_templates,
        num_left_out=len(data.faults),
        images_sha256=digest.hexdigest(),
        prompts_sha256=hashlib.sha256(repr((data.classnames, data.templates)).encode()).hexdigest(),
        model=clip.name,
        weights_sha256=clip.sha256,
        target=target,
        trigger_kind=None if trigger is None else trigger.preset,
        trigger_sha256=None if trigger is None else trigger.sha256,
        ba=count_top_k(clean_NK == label_N[:, None]),
        asr=asr,
        asr_with_target=asr_with_target,
        clean_as_target=clean_as_target,
        classes=score_classes(
            data.classnames,
            label_N,
            clean_NK[:, 0],
            None if triggered_NK is None else triggered_NK[:, 0],
            target_label,
        ),
    )


def find_target(data: LabelledImages, *, trigger: Trigger | None, target: str | None) -> int | None:
    """The target's label; None where none is asked for; UserError for a trigger without one, or an unknown one."""
    if trigger is not None and target is None:
        raise UserError("which class does the trigger aim at? give --target with a trigger")
    return None if target is None else data.label_of(target)


def _towards(
    target_label: int | None,
    label_N: Tensor,
    clean_NK: Tensor,
    triggered_NK: Tensor | None,
    data: LabelledImages,
) -> tuple[dict[int, Share], dict[int, Share], Share | None]:
    if target_label is None:
        return {}, {}, None
    others_N = label_N != target_label
    if not others_N.any():
        raise UserError(
            f"every image of {data.name} is of the target class {data.classnames[target_label]!r}: "
            f"no attack can be measured"
        )
    clean_as_target = count_top_k(clean_NK[others_N, :1] == target_label)[1]
    if triggered_NK is None:
        return {}, {}, clean_as_target
    hit_NK = triggered_NK == target_label
    return count_top_k(hit_NK[others_N]), count_top_k(hit_NK), clean_as_target


def _hash_batch(digest: Any, batch: LabelledBatch) -> None:
    for key, label, image_3HW in zip(batch.keys, batch.label_N.tolist(), batch.image_N3HW, strict=True):
        digest.update(f"{key} {label} {tuple(image_3HW.shape)}\n".encode())
        digest.update(image_3HW.contiguous().reshape(-1).numpy().data)
