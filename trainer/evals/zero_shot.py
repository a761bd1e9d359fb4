"""Zero-shot classification: a class is the mean of its normalised prompt embeddings, normalised again.

An image is put in the classes nearest by cosine; `evaluation` counts what that means for BA and ASR.
"""

from pipeline.errors import UserError
from trainer.attacks.trigger import Trigger
from trainer.embedding import embed_classes, evaluation_mode, nearest_classes
from trainer.evals.evaluation import Observe, find_target, measure
from trainer.evals.labelled import LabelledImages
from trainer.model import ClipModel
from trainer.scores import Evaluation


def evaluate_zero_shot(
    clip: ClipModel,
    data: LabelledImages,
    *,
    trigger: Trigger | None = None,
    target: str | None = None,
    batch_size: int = 256,
    observe: Observe | None = None,
) -> Evaluation:
    """BA of the model on the data, and ASR towards `target` where a trigger is given.

    The model is used where it is, in evaluation mode, and left in the mode it was in.

    Raises:
        UserError: A trigger without a target, a target that is no class, labels or data that cannot be used.
    """
    find_target(data, trigger=trigger, target=target)  # before the class names are embedded
    with evaluation_mode(clip):
        class_CD = embed_classes(clip, data.classnames, data.templates)
        if not class_CD.isfinite().all():
            raise UserError(f"{clip.name} gives embeddings that are no numbers: its weights are broken")
        return measure(
            lambda image_N3HW, k: nearest_classes(clip, image_N3HW, class_CD, k=k),
            clip,
            data,
            how="zero-shot",
            num_templates=len(data.templates),
            trigger=trigger,
            target=target,
            batch_size=batch_size,
            observe=observe,
        )
