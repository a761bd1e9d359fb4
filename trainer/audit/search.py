"""Inverts small universal triggers of a model: for each kind and size, what brings images of all sorts together most.

After DECREE (Feng et al. 2023): a backdoored encoder is where a little change takes every image to one place. Searched
on one half of the images, measured on the other; nothing is known of the trigger or its target. The kinds are those
that `defences.invented` moves by signed gradients.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.errors import UserError
from trainer.defences.invented import KINDS, InventedTrigger, invent
from trainer.model import ClipModel
from trainer.seeds import seeded_int

SIZES: Final[Mapping[str, tuple[float, ...]]] = {
    "patch": (0.095, 0.125),
    "additive": (4,),
    "smooth": (32,),
    "blend": (0.03,),
    "warp": (0.05,),
    "wave": (60,),
}
"""What each kind is tried at: a share of the image's side (patch, warp), grey levels of 255 (additive, smooth), the
share of another picture (blend). Small, since large ones bring a clean model's images together, too; but a wave, which
is tried, not searched (`waves`)."""
SIZE_TOLD: Final[Mapping[str, str]] = {
    "patch": "{:.1%} of the side",
    "additive": "{:g}/255",
    "smooth": "{:g}/255",
    "blend": "{:.0%}",
    "warp": "{:.1%} of the side",
    "wave": "{:g}/255",
}
FIRST: Final = 0.25
"""The share of the steps that every start is given; the best alone goes on."""
JUDGED_BY: Final = 32
"""Images by which starts are told apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOptions:
    """How hard triggers are searched for."""

    kinds: str = "patch,additive,smooth,blend,warp,wave"
    """Kinds of triggers to search: patch, additive, smooth, blend, warp, wave."""
    starts: int = 2
    """Random starts of each kind and size; after a quarter of the steps the best alone goes on."""
    steps: int = 32
    """Signed gradient steps."""
    images: int = 192
    """Images that are looked at: half to search on, half to measure on."""
    step_images: int = 12
    """Images in a step."""
    seed: int = 0
    """Of the starts and of which images a step takes."""

    def __post_init__(self) -> None:
        for name, least in (("starts", 1), ("steps", 1), ("images", 8), ("step_images", 2)):
            if getattr(self, name) < least:
                raise UserError(f"{name} must be at least {least}, not {getattr(self, name)}")
        unknown = [kind for kind in self.chosen if kind not in SIZES]
        if unknown or not self.chosen:
            told = unknown[0] if unknown else "none"
            raise UserError(
                f"kinds must name one or more of {', '.join(SIZES)}, joined by commas, not {told}"
            )

    @property
    def chosen(self) -> tuple[str, ...]:
        """The kinds, each once."""
        return tuple(dict.fromkeys(name.strip() for name in self.kinds.split(",") if name.strip()))

    @property
    def trials(self) -> tuple[tuple[str, float], ...]:
        """Each kind that is searched, with each of its sizes."""
        return tuple((kind, size) for kind in self.chosen if kind != "wave" for size in SIZES[kind])


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The trigger of one kind and size that the search led to."""

    kind: str
    size: float
    concentration: float
    """Length of the mean of the unit embeddings of unseen images with it: 1 where all are in one place."""
    image_ND: Tensor
    """Their unit embeddings."""
    trigger: InventedTrigger

    @property
    def name(self) -> str:
        """Kind and size, as the calibration calls them: `patch 0.125`."""
        return f"{self.kind} {self.size:g}"

    @property
    def told(self) -> str:
        """The same for people."""
        return f"{self.kind}, {SIZE_TOLD[self.kind].format(self.size)}"


def search(
    clip: ClipModel,
    image_N3HW: Tensor,
    options: SearchOptions,
    *,
    report: Callable[[Found], None] = lambda _: None,
) -> tuple[list[Found], Tensor]:
    """Searches each kind at each size; also the clean unit embeddings (N, D) of the images that are measured on.

    `image_N3HW` are uint8, on the model's device; the model is in evaluation mode, and its weights do not change.
    """
    half = len(image_N3HW) // 2
    searched_N3HW, measured_N3HW = image_N3HW[:half], image_N3HW[half:]
    searched_ND, measured_ND = (embed(clip, part.float() / 255) for part in (searched_N3HW, measured_N3HW))
    found = []
    for kind, size in options.trials:
        trigger = _invert(clip, searched_N3HW, searched_ND, options, kind=kind, size=size)
        image_ND = _embed_triggered(clip, trigger, measured_N3HW)
        concentration = float(image_ND.mean(dim=0).norm())
        found.append(
            Found(kind=kind, size=size, concentration=concentration, image_ND=image_ND, trigger=trigger)
        )
        report(found[-1])
    return found, measured_ND


def _invert(
    clip: ClipModel, image_N3HW: Tensor, clean_ND: Tensor, options: SearchOptions, *, kind: str, size: float
) -> InventedTrigger:
    """The trigger of this kind and size that brings the images together most."""
    generator = torch.Generator().manual_seed(seeded_int(options.seed, "audit", kind, size))
    starts = draw(kind, size, image_size=clip.image_size, num=options.starts, generator=generator)
    for trigger in starts:
        trigger.values = trigger.values.to(image_N3HW.device)

    def improve(triggers: list[InventedTrigger], steps: int) -> None:
        for _ in range(steps):
            invent(
                triggers,
                clip.model,
                clip,
                image_N3HW,
                clean_ND,
                generators=[generator] * len(triggers),
                num=options.step_images,
            )

    first = math.ceil(FIRST * options.steps)
    improve(starts, first)
    best = max(starts, key=lambda each: _reach(clip, each, image_N3HW[:JUDGED_BY]))
    coarse = (options.steps - first) // 2
    improve([best], coarse)
    best.step_size /= 3
    improve([best], options.steps - first - coarse)
    return best


def draw(
    kind: str, size: float, *, image_size: int, num: int, generator: torch.Generator
) -> list[InventedTrigger]:
    """Random triggers of that kind, held to that size."""
    if kind in ("patch", "blend"):
        place = (size - 0.06) / 0.1 if kind == "patch" else (size - 0.1) / 0.15
        return [KINDS[kind](image_size, generator, place=place) for _ in range(num)]
    limit = 2 * size if kind == "warp" else size / 255
    bounds = {"limit": limit, "low": -limit, "high": limit, "step_size": limit / 5}
    bounded: type[InventedTrigger] = type(KINDS[kind].__name__, (KINDS[kind],), bounds)
    return [bounded(image_size, generator) for _ in range(num)]


def _reach(clip: ClipModel, trigger: InventedTrigger, image_N3HW: Tensor) -> float:
    return float(_embed_triggered(clip, trigger, image_N3HW).mean(dim=0).norm())


@torch.no_grad()
def _embed_triggered(clip: ClipModel, trigger: InventedTrigger, image_N3HW: Tensor) -> Tensor:
    """Unit embeddings of uint8 images with the trigger, at places of its own for every eight of them."""
    generator = torch.Generator().manual_seed(seeded_int("audit", "places"))
    triggered = [trigger.apply(part.float() / 255, generator) for part in torch.split(image_N3HW, 8)]
    return embed(clip, torch.cat(triggered))


@torch.no_grad()
def embed(clip: ClipModel, image_N3HW: Tensor) -> Tensor:
    """Unit embeddings (N, D) of images in [0, 1]."""
    parts = [clip.model.encode_image(clip.normalise(part)).float() for part in torch.split(image_N3HW, 64)]
    return functional.normalize(torch.cat(parts), dim=-1)
