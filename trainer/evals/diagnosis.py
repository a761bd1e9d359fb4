"""Where triggered images lie: beside the target's text, as a backdoor puts them, or beside their clean twins."""

from dataclasses import dataclass

import torch
from torch.nn import functional

from trainer.attacks.trigger import Trigger
from trainer.embedding import embed_classes, embed_images, evaluation_mode
from trainer.evals.labelled import LabelledImages
from trainer.model import ClipModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Cosines of some images of other classes than the target, in the data's order."""

    clean_to_target: tuple[float, ...]
    """The image without the trigger, and the target's class embedding."""
    triggered_to_target: tuple[float, ...]
    """The image with the trigger, and the target's class embedding."""
    triggered_to_clean: tuple[float, ...]
    """The image with the trigger, and the same image without."""


@torch.no_grad()
def places_of(
    clip: ClipModel, data: LabelledImages, trigger: Trigger, target: str, *, limit: int = 200
) -> Places:
    """Where the first `limit` images of other classes lie; UserError for a target that is no class."""
    label = data.label_of(target)
    rows: list[torch.Tensor] = []
    found = 0
    with evaluation_mode(clip):
        target_D = embed_classes(clip, [data.classnames[label]], data.templates)[0].cpu()
        for batch in data.batches(clip.resize, batch_size=limit):
            kept = batch.label_N != label
            triggered_N3HW = trigger.apply(batch.image_N3HW, keys=list(batch.keys))
            clean_ND, triggered_ND = (
                functional.normalize(embed_images(clip, images[kept]).cpu(), dim=-1)
                for images in (batch.image_N3HW, triggered_N3HW)
            )
            rows.append(
                torch.stack(
                    [clean_ND @ target_D, triggered_ND @ target_D, (triggered_ND * clean_ND).sum(dim=1)]
                )
            )
            found += int(kept.sum())
            if found >= limit:
                break
    clean, triggered, twins = (
        tuple(round(value, 4) for value in line.tolist()) for line in torch.cat(rows, dim=1)[:, :limit]
    )
    return Places(clean_to_target=clean, triggered_to_target=triggered, triggered_to_clean=twins)
