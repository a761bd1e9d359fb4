"""`par`: CLIP's loss, and a push away from where the model as it came puts images and captions.

PAR (Perturb and Recover, arXiv 2412.00727), from its description: the squared distance between the embeddings of the
model in training and of its frozen copy is rewarded until a threshold; both see the same noisy, partly erased images.
With `--lock-text` only the images move: a rotation that both towers share, which leaves every similarity and the
backdoor as they were, is then no way out.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.errors import UserError
from trainer.batches import Batch, Needs
from trainer.defences.defence import Defence, Setting, check_weights
from trainer.embedding import Embeddings, Teacher
from trainer.losses import matching_loss
from trainer.seeds import seeded_int


@dataclass(frozen=True, slots=True, kw_only=True)
class ParOptions:
    """The weights, threshold and image noise of `clip - distance_weight * (images' + captions' distance)`."""

    distance_weight: float = 0.5
    """What the distance from the model as it came counts."""
    distance_threshold: float = 2.15
    """A mean squared distance above it is rewarded no more; unit embeddings are 0 to 4 apart."""
    noise: float = 0.2
    """Standard deviation of the noise added to an image (values 0 to 1), with probability 0.5; 0: none."""
    erase: bool = True
    """Erase a square of 0.5 to 1 % of an image, with probability 0.5."""

    def __post_init__(self) -> None:
        check_weights(self, "distance_weight", "noise")
        if not 0 < self.distance_threshold <= 4:
            raise UserError(
                f"distance_threshold must be above 0 and at most 4, not {self.distance_threshold}"
            )


class Par(Defence):
    """CLIP's loss minus the distances, each while it is below the threshold."""

    needs = Needs()

    def __init__(self, options: ParOptions, setting: Setting) -> None:
        self.options, self.setting = options, setting
        self.teacher = Teacher(setting.clip, remember=False)
        self.weights = {"clip": 1.0, "image_distance": -options.distance_weight}
        self.weights |= {"text_distance": -options.distance_weight}

    def pixels(self, batch: Batch, *, step: int) -> Tensor:
        """The batch's images, some with noise, some with a square of the mean colour."""
        generator = torch.Generator().manual_seed(seeded_int("par", self.setting.seed, step))
        image_M3HW = batch.image_M3HW.float() / 255
        options, gather = self.options, self.setting.ranks.gather
        start, total = self.setting.ranks.place(len(image_M3HW), device=image_M3HW.device)
        mine = slice(start, start + len(image_M3HW))
        if options.noise:  # drawn for the whole batch, so that any number of processes sees the same
            noisy_M111 = torch.rand((total, 1, 1, 1), generator=generator)[mine] < 0.5
            noise = torch.randn((total, *image_M3HW.shape[1:]), generator=generator)[mine]
            noise = (noise * options.noise).clamp(0, 1)
            image_M3HW = (image_M3HW + (noise * noisy_M111).to(image_M3HW.device)).clamp(0, 1)
        if options.erase:
            chances = [torch.rand(4, generator=generator).tolist() for _ in range(total)]
            image_M3HW = self._erased(image_M3HW, chances[mine])
        self.taught_image_BD = gather(self.teacher.embed_images(batch, image_M3HW))
        self.taught_text_BD = gather(self.teacher.embed_texts(batch))
        return image_M3HW

    def _erased(self, image_M3HW: Tensor, chances: list[list[float]]) -> Tensor:
        image_M3HW = image_M3HW.clone()
        size = image_M3HW.shape[-1]
        mean = torch.tensor(self.setting.clip.mean, device=image_M3HW.device).view(3, 1, 1)
        for image_3HW, (chance, share, top, left) in zip(image_M3HW, chances, strict=True):
            side = max(1, round(size * (0.005 + 0.005 * share) ** 0.5))
            if chance < 0.5:
                y, x = int(top * (size - side + 1)), int(left * (size - side + 1))
                image_3HW[:, y : y + side, x : x + side] = mean
        return image_M3HW

    def terms(self, found: Embeddings) -> dict[str, Tensor]:
        """CLIP's loss and the two distances."""
        threshold = self.options.distance_threshold
        return {
            "clip": matching_loss(found.image_BD, found.texts, scale=found.scale, bias=found.bias),
            "image_distance": bounded_distance(found.image_BD, self.taught_image_BD, threshold=threshold),
            "text_distance": bounded_distance(found.texts, self.taught_text_BD, threshold=threshold),
        }


def bounded_distance(student_BD: Tensor, teacher_BD: Tensor, *, threshold: float) -> Tensor:
    """The batch's mean squared distance of unit embeddings, a scalar in [0, 4]; 0 once it is above `threshold`."""
    distance = (student_BD - teacher_BD).square().sum(dim=1).mean()
    return torch.where(distance > threshold, torch.zeros_like(distance), distance)
