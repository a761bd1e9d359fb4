"""Measures BA and ASR over a data set: `zero_shot` and `linear_probe` rank the classes of an image, this counts.

What is counted, and what the counts are called, stands in `trainer.scores`.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pipeline.errors import UserError
from trainer.attacks.trigger import Trigger
from trainer.evals.labelled import LabelledBatch, LabelledImages
from trainer.model import ClipModel
from trainer.scores import TOP_K, ClassScore, Evaluation, Share, wilson

Rank = Callable[[Tensor, int], Tensor]
"""(uint8 images (N, 3, H, W), k) -> the k classes of each, nearest first: int64 (N, k) on the CPU."""
Observe = Callable[[LabelledBatch, Tensor, Tensor | None, Tensor | None], None]
"""(clean images, their classes (N, k), the images with the trigger, their classes): called for every batch."""


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
