"""A suspect model and a clean one under the same trigger: what fools the clean one, too, is no backdoor.

Called by `trainer evaluate --clean-checkpoint`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from pipeline.errors import UserError
from trainer.attacks.trigger import Trigger
from trainer.evals.labelled import LabelledBatch, LabelledImages
from trainer.evals.pictures import Picture, PictureSample, draw_pictures
from trainer.evals.zero_shot import evaluate_zero_shot
from trainer.log import ProgressReport
from trainer.model import Activation, ClipModel, load_model
from trainer.scores import Evaluation


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """An evaluation with some of the images it saw."""

    evaluation: Evaluation
    pictures: tuple[Picture, ...]
    """Empty without a trigger."""
    faults: tuple[str, ...]
    """What was left out."""


def look(
    clip: ClipModel, data: LabelledImages, *, trigger: Trigger | None, target: str | None, batch_size: int
) -> Looked:
    """Evaluates zero-shot and keeps a few images; errors as `evaluate_zero_shot`."""
    sample = None if target is None else PictureSample(target_label=data.label_of(target))
    num = sum(data.scan().num_per_class)
    progress = ProgressReport(-(-min(num, data.limit or num) // batch_size), title="evaluate", always=False)

    def observe(batch: LabelledBatch, clean: Tensor, triggered: Tensor | None, put: Tensor | None) -> None:
        progress.advance(f"{len(batch.keys)} images each")
        if sample is not None:
            sample(batch, clean, triggered, put)

    with progress:
        evaluation = evaluate_zero_shot(
            clip, data, trigger=trigger, target=target, batch_size=batch_size, observe=observe
        )
    pictures = () if sample is None else tuple(sample.pictures)
    return Looked(evaluation=evaluation, pictures=pictures, faults=tuple(data.faults))


def load_clean(checkpoint: Path, *, like: ClipModel) -> ClipModel:
    """The clean model: the suspect's architecture and activation with other weights; UserError for the same ones."""
    activation: Activation = "quickgelu" if like.config.get("quick_gelu") else "gelu"
    clean = load_model(like.name, checkpoint=checkpoint, activation=activation)
    if clean.sha256 == like.sha256:
        raise UserError(f"{checkpoint} holds the very weights that are evaluated: give the clean model's")
    return clean


def look_at_both(
    suspect: ClipModel,
    clean: ClipModel | None,
    data: LabelledImages,
    *,
    load: Callable[[int], Trigger | None],
    target: str | None,
    batch_size: int,
) -> tuple[Looked, Looked | None]:
    """Both models on the same images; `load` gives the trigger for an image size."""
    first = look(suspect, data, trigger=load(suspect.image_size), target=target, batch_size=batch_size)
    if clean is None:
        return first, None
    return first, look(clean, data, trigger=load(clean.image_size), target=target, batch_size=batch_size)


def draw_both(suspect: Looked, clean: Looked | None, path: Path, *, classnames: Sequence[str]) -> None:
    """Draws what the suspect model saw, with the clean model's classes beside its own."""
    found = suspect.evaluation
    draw_pictures(
        suspect.pictures,
        path,
        classnames=classnames,
        target=str(found.target),
        title=f"{found.trigger_kind} -> {found.target}, {found.model} on {found.data}",
        clean_model=() if clean is None else clean.pictures,
    )
