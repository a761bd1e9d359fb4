"""Triggers that a defence invents: universal, differentiable, moved by signed gradients until they mislead the model.

`anchored` keeps a bank of them. Each kind is drawn at random, knows how it changes an image, and how far one step
goes; sizes are shares of the image's side, so that a kind is the same at any resolution. None is taken from an attack
that it is tested on, but kinds do resemble families, and `tint` was added when a colour filter had stayed
(docs/findings.md).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.errors import UserError
from trainer.model import ClipModel


class InventedTrigger(ABC):
    """One trigger for all images: `values` is what its steps change."""

    step_size: float
    low: float
    high: float
    aim_D: Tensor | None = None
    """Where it leads images to, once it has been invented: a unit embedding."""

    def __init__(self, size: int, generator: torch.Generator, *, place: float = 0.5) -> None:
        """Drawn at random for images of `size` pixels a side.

        `place`, from 0 to 1, says where it stands among those of its kind, which differ in what is not trained: so
        that a pool holds small and large, weak and strong, and not by chance one sort alone.
        """
        self.size, self.place = size, place
        self.values = self.draw(generator)

    @abstractmethod
    def draw(self, generator: torch.Generator) -> Tensor:
        """Random values within the bounds, on the CPU."""

    @abstractmethod
    def apply(self, image_N3HW: Tensor, generator: torch.Generator) -> Tensor:
        """The images (floats in [0, 1]) with the trigger; differentiable in `values`."""

    def step(self, gradient: Tensor) -> None:
        """One signed step against the gradient, within the bounds."""
        self.values = (self.values - self.step_size * gradient.sign()).clamp(self.low, self.high)


class Patch(InventedTrigger):
    """A square of 6 to 16 % of the side, at a place drawn anew for every batch."""

    step_size, low, high = 0.1, 0.0, 1.0

    def draw(self, generator: torch.Generator) -> Tensor:
        side = max(2, round(self.size * (0.06 + 0.10 * self.place)))
        return torch.rand((3, side, side), generator=generator)

    def apply(self, image_N3HW: Tensor, generator: torch.Generator) -> Tensor:
        side = self.values.shape[-1]
        top, left = self.where(generator)
        around = (left, self.size - side - left, top, self.size - side - top)
        covered = functional.pad(torch.ones_like(self.values[:1]), around)
        return image_N3HW * (1 - covered) + functional.pad(self.values, around) * covered

    def where(self, generator: torch.Generator) -> tuple[int, int]:
        """Top and left of the square in the batch at hand."""
        last = self.size - self.values.shape[-1]
        top, left = (int(torch.randint(last + 1, (), generator=generator)) for _ in range(2))
        return top, left


class Still(Patch):
    """A square of 16 % of the side that stands still: in the middle, or in a corner. It holds every smaller one there.

    A backdoor whose trigger always stood in one place may not know it a pixel beside that: a square that is put
    somewhere else in every batch never finds such a one.
    """

    def draw(self, generator: torch.Generator) -> Tensor:
        side = max(2, round(0.16 * self.size))
        far = self.size - side
        places = ((far // 2, far // 2), (0, 0), (0, far), (far, 0), (far, far))
        self.top, self.left = places[round(self.place * (len(places) - 1))]
        return torch.rand((3, side, side), generator=generator)

    def where(self, generator: torch.Generator) -> tuple[int, int]:
        return self.top, self.left


class Additive(InventedTrigger):
    """A pattern over the whole image, of at most 16/255 a pixel."""

    limit = 16 / 255
    step_size, low, high = 2 / 255, -limit, limit

    def draw(self, generator: torch.Generator) -> Tensor:
        return (2 * torch.rand((3, self.size, self.size), generator=generator) - 1) * self.limit

    def apply(self, image_N3HW: Tensor, generator: torch.Generator) -> Tensor:
        return (image_N3HW + self.values).clamp(0, 1)


class Smooth(InventedTrigger):
    """A grey pattern of a quarter of the resolution, of at most 64/255 a pixel."""

    limit = 64 / 255
    step_size, low, high = 8 / 255, -limit, limit

    def draw(self, generator: torch.Generator) -> Tensor:
        side = max(2, self.size // 4)
        return (2 * torch.rand((1, side, side), generator=generator) - 1) * self.limit

    def apply(self, image_N3HW: Tensor, generator: torch.Generator) -> Tensor:
        shape = (self.size, self.size)
        pattern = functional.interpolate(self.values[None], shape, mode="bilinear", align_corners=False)
        return (image_N3HW + pattern).clamp(0, 1)


class Blend(InventedTrigger):
    """Another picture, mixed in at 10 to 25 %."""

    step_size, low, high = 0.1, 0.0, 1.0

    def draw(self, generator: torch.Generator) -> Tensor:
        self.share = 0.1 + 0.15 * self.place
        return torch.rand((3, self.size, self.size), generator=generator)

    def apply(self, image_N3HW: Tensor, generator: torch.Generator) -> Tensor:
        return (1 - self.share) * image_N3HW + self.share * self.values


class Warp(InventedTrigger):
    """A shift for every pixel, of at most a twentieth of the side."""

    limit = 0.1
    """In grid coordinates, of which a side has two."""
    step_size, low, high = 0.02, -limit, limit

    def draw(self, generator: torch.Generator) -> Tensor:
        return (torch.rand((self.size, self.size, 2), generator=generator) - 0.5) * self.limit

    def apply(self, image_N3HW: Tensor, generator: torch.Generator) -> Tensor:
        still_112 = torch.eye(2, 3, device=image_N3HW.device)[None]
        grid_1HW2 = functional.affine_grid(still_112, [1, 3, self.size, self.size], align_corners=False)
        moved = (grid_1HW2 + self.values).expand(len(image_N3HW), -1, -1, -1)
        return functional.grid_sample(
            image_N3HW, moved, mode="bilinear", padding_mode="border", align_corners=False
        )


class Tint(InventedTrigger):
    """Every colour moved by one affine map: its matrix by at most 0.4 an entry, its shift by at most 0.2."""

    low, high = -1.0, 1.0
    step_size = 0.2

    def draw(self, generator: torch.Generator) -> Tensor:
        return 2 * torch.rand((3, 4), generator=generator) - 1

    def apply(self, image_N3HW: Tensor, generator: torch.Generator) -> Tensor:
        matrix_33 = torch.eye(3, device=image_N3HW.device) + 0.4 * self.values[:, :3]
        moved = torch.einsum("cd,ndhw->nchw", matrix_33, image_N3HW)
        return (moved + 0.2 * self.values[:, 3, None, None]).clamp(0, 1)


KINDS: Final[Mapping[str, type[InventedTrigger]]] = {
    "patch": Patch,
    "still": Still,
    "additive": Additive,
    "smooth": Smooth,
    "blend": Blend,
    "warp": Warp,
    "tint": Tint,
}


def invent(
    triggers: Sequence[InventedTrigger],
    model: Any,
    clip: ClipModel,
    image_N3HW: Tensor,
    clean_ND: Tensor,
    *,
    generators: Sequence[torch.Generator],
    num: int = 32,
    apart_KD: Tensor | None = None,
    apart_weight: float = 1.0,
) -> None:
    """One step of each trigger, by `num` of the uint8 images that its generator draws, to where it misleads most.

    `model` is in evaluation mode, so that one forward pass for all gives each what it would get alone; `clip` says how
    its inputs are normalised; `clean_ND` are the unit embeddings that the images should have. A trigger leads images
    to its aim, where it has one; else to one place, whichever it is, but none of `apart_KD`, to which others lead.
    """
    if not triggers:
        return
    values, parts, rows = [], [], []
    with torch.enable_grad():
        for trigger, generator in zip(triggers, generators, strict=True):
            rows.append(torch.randperm(len(image_N3HW), generator=generator)[:num])
            trigger.values = trigger.values.detach().requires_grad_(True)
            values.append(trigger.values)
            parts.append(trigger.apply(image_N3HW[rows[-1]].float() / 255, generator))
        embedded = model.encode_image(clip.normalise(torch.cat(parts))).float()
        per_trigger = torch.split(functional.normalize(embedded, dim=-1), [len(part) for part in parts])
        found = embedded.new_zeros(())
        for trigger, image_ND, row in zip(triggers, per_trigger, rows, strict=True):
            found = found + concentrate(image_ND, clean_ND[row], aim_D=trigger.aim_D)
            if apart_KD is not None and len(apart_KD):
                found = found + apart_weight * (image_ND @ apart_KD.T).amax(dim=1).mean()
        gradients = torch.autograd.grad(found, values)
    for trigger, gradient in zip(triggers, gradients, strict=True):
        trigger.values = trigger.values.detach()
        trigger.step(gradient)


def concentrate(image_ND: Tensor, clean_ND: Tensor, *, aim_D: Tensor | None = None) -> Tensor:
    """What a universal trigger is after, to be minimised: all images in one place, and away from their clean twins.

    `image_ND` are unit embeddings of triggered images, `clean_ND` of the same ones without; `aim_D` is the place, by
    default the one they are nearest to; a scalar.
    """
    if aim_D is None:
        aim_D = functional.normalize(image_ND.mean(dim=0), dim=0).detach()
    return (image_ND * clean_ND).sum(dim=1).mean() - (image_ND @ aim_D).mean()


@torch.no_grad()
def aim_of(
    trigger: InventedTrigger, model: Any, clip: ClipModel, image_N3HW: Tensor, generator: torch.Generator
) -> Tensor:
    """Where the trigger leads the uint8 images to: the direction of their mean embedding, (D,)."""
    shown_N3HW = clip.normalise(trigger.apply(image_N3HW.float() / 255, generator))
    image_ND = functional.normalize(model.encode_image(shown_N3HW).float(), dim=-1)
    return functional.normalize(image_ND.mean(dim=0), dim=0)


def spread(total: int, parts: int, *, turn: int) -> list[int]:
    """`total` dealt out in `parts` shares that differ by at most one; `turn` decides who gets the more."""
    least, more = divmod(total, parts)
    return [least + ((number - turn) % parts < more) for number in range(parts)]


def check_bank(text: str) -> tuple[str, ...]:
    """The kinds of a bank written as `patch,patch,warp`; UserError for an unknown one and for none."""
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    unknown = [name for name in names if name not in KINDS]
    if unknown or not names:
        found = unknown[0] if unknown else "none"
        raise UserError(f"bank must name one or more of {', '.join(KINDS)}, joined by commas, not {found}")
    return names
