"""`anchored`: the model as it came says where clean images belong; triggers invented against it must not move them.

Knows no trigger, target or caption. Before the first step, universal triggers are optimised on the model as it came,
so that they find what leads its images away, its backdoor among it. Triggered and clean images alike are then drawn
to the frozen model's embeddings of the clean ones (the anchor), while the triggers climb the same gradient that the
model descends. The text tower is not touched.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipeline.errors import UserError
from trainer.batches import Batch, Needs
from trainer.defences.defence import Defence, Setting, check_weights
from trainer.defences.invented import KINDS, InventedTrigger, check_bank, invent, spread
from trainer.embedding import Embeddings, Teacher
from trainer.log import say
from trainer.seeds import seeded_int


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchoredOptions:
    """The bank, its share of a step, and the weights of `anchor_weight * clean + triggered`."""

    bank: str = "patch,patch,additive,smooth,smooth,warp"
    """Kinds of the triggers that are invented: patch, additive, smooth, blend, warp; a kind may stand twice."""
    share: float = 0.5
    """Triggered images in a step, as a share of the batch."""
    anchor_weight: float = 5.0
    """What it counts that clean images stay where the model as it came puts them."""
    invent_steps: int = 40
    """Steps by which each trigger is optimised on the model as it came."""
    invent_images: int = 512
    """Images that are looked at for it, the first of the first epoch."""

    def __post_init__(self) -> None:
        check_weights(self, "anchor_weight")
        if not 0 < self.share <= 1:
            raise UserError(f"share must be above 0 and at most 1, not {self.share}")
        for name, least in (("invent_steps", 0), ("invent_images", 2)):
            if getattr(self, name) < least:
                raise UserError(f"{name} must be at least {least}, not {getattr(self, name)}")
        check_bank(self.bank)


class Anchored(Defence):
    """Clean images and triggered ones, both held to the teacher's embeddings of the clean."""

    needs = Needs(texts=False)

    def __init__(self, options: AnchoredOptions, setting: Setting) -> None:
        self.options, self.setting = options, setting
        self.weights = {"anchor": options.anchor_weight, "triggered": 1.0}
        self.teacher = Teacher(setting.clip, remember=not setting.images_vary)
        self.kinds = check_bank(options.bank)
        self.bank: list[InventedTrigger] = []

    def prepare(self, batches: Iterator[Batch]) -> None:
        """Invents the bank on the model as it came."""
        pixels: list[Tensor] = []
        clean: list[Tensor] = []
        for batch in batches:
            pixels.append(batch.image_M3HW[: batch.num_pairs])
            clean.append(self.teacher.embed_images(batch))
            if sum(map(len, pixels)) >= self.options.invent_images:
                break
        image_N3HW, clean_ND = torch.cat(pixels), torch.cat(clean)
        say(f"anchored: inventing {len(self.kinds)} triggers on {len(image_N3HW)} images")
        for number, kind in enumerate(self.kinds):
            generator = self._generator("invent", number)
            trigger = KINDS[kind](self.setting.clip.image_size, generator)
            trigger.values = trigger.values.to(image_N3HW.device)
            for _ in range(self.options.invent_steps):
                invent(trigger, self.teacher, image_N3HW, clean_ND, generator=generator)
            self.bank.append(trigger)

    def pixels(self, batch: Batch, *, step: int) -> Tensor:
        """The batch's images, then some of them, each with a trigger of the bank."""
        generator = self._generator("step", step)
        clean_BD = self.teacher.embed_images(batch)
        image_B3HW = batch.image_M3HW.float() / 255
        num = max(1, round(self.options.share * len(image_B3HW)))
        order = torch.randperm(len(image_B3HW), generator=generator)[:num]
        triggered = []
        first = 0
        for trigger, count in zip(self.bank, spread(num, len(self.bank), turn=step), strict=True):
            trigger.values = trigger.values.detach().requires_grad_(True)
            if count:
                mine = image_B3HW[order[first : first + count]]
                triggered.append(trigger.apply(mine, generator))
            first += count
        self.clean_BD, self.clean_XD = clean_BD, clean_BD[order]
        return torch.cat([image_B3HW, *triggered])

    def terms(self, found: Embeddings) -> dict[str, Tensor]:
        """How far clean images have moved from the teacher's embeddings, and triggered ones: 1 - cosine, the means."""
        assert found.added_XD is not None
        return {
            "anchor": 1 - (found.image_BD * self.clean_BD).sum(dim=1).mean(),
            "triggered": 1 - (found.added_XD * self.clean_XD).sum(dim=1).mean(),
        }

    def after_backward(self) -> None:
        """Each trigger takes a step up the loss that the model goes down."""
        for trigger in self.bank:
            if trigger.values.grad is not None:
                trigger.step(-trigger.values.grad)

    def state(self) -> dict[str, Any]:
        """The bank as it is."""
        return {"bank": [trigger.values.detach() for trigger in self.bank]}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Puts the bank back; what was drawn beside its values is drawn again."""
        for number, (kind, values) in enumerate(zip(self.kinds, state["bank"], strict=True)):
            trigger = KINDS[kind](self.setting.clip.image_size, self._generator("invent", number))
            trigger.values = values.to(next(self.setting.clip.model.parameters()).device)
            self.bank.append(trigger)

    def _generator(self, *purpose: object) -> torch.Generator:
        return torch.Generator().manual_seed(seeded_int("anchored", self.setting.seed, *purpose))
