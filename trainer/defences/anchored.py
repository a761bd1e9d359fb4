"""`anchored`: the model as it came says where clean images belong; triggers invented against it must not move them.

Knows no trigger, target or caption. Before the first step a pool of universal triggers is optimised on the model as
it came, each to lead images to a place that none before it leads to: what misleads every model comes first, a backdoor
among the next. In each step some of the pool take one more step to their place against the model as it has become;
clean images, strange images made of them, and images of both sorts with
these triggers are drawn to the frozen model's embeddings of them without a trigger (the anchor). Strange images hold
the model where the defender's own do not reach. The text tower is not touched.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import UserError
from trainer.batches import Batch, Needs
from trainer.defences.defence import Defence, Setting, check_weights
from trainer.defences.invented import KINDS, InventedTrigger, aim_of, check_bank, invent, spread
from trainer.defences.strange_images import strange_images
from trainer.embedding import Embeddings, Teacher
from trainer.log import say
from trainer.seeds import seeded_int

AIM_IMAGES = 64
"""Images by which it is told where a trigger leads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchoredOptions:
    """The pool, its share of a step, and the weights of `anchor * clean + strange_weight * strange + triggered`."""

    bank: str = "patch,still,additive,smooth,warp,warp"
    """Kinds of the triggers in a step: patch, still, additive, smooth, blend, warp, tint; a kind may stand twice."""
    pool: int = 4
    """Triggers kept for each of them; a step takes one at random."""
    share: float = 0.75
    """Triggered images in a step, as a share of the batch."""
    anchor_weight: float = 3.0
    """What it counts that clean images stay where the model as it came puts them."""
    strange: float = 0.5
    """Strange images in a step, as a share of the batch: bent or recoloured ones of it; 0: none."""
    strange_weight: float = 2.0
    """What it counts that they stay where the model as it came puts them."""
    invent_steps: int = 15
    """Steps by which each trigger is optimised on the model as it came."""
    apart: float = 1.0
    """What it counts, while triggers are invented, that each leads elsewhere than those before it; 0: nothing."""
    invent_images: int = 512
    """Images that are looked at for it, the first of the first epoch."""
    craft_images: int = 8
    """Images of a batch by which a trigger in it takes its step."""

    def __post_init__(self) -> None:
        check_weights(self, "anchor_weight", "strange_weight", "apart")
        if not 0 <= self.strange <= 4:
            raise UserError(f"strange must be from 0 to 4, not {self.strange}")
        if not 0 < self.share <= 1:
            raise UserError(f"share must be above 0 and at most 1, not {self.share}")
        for name, least in (("pool", 1), ("invent_steps", 0), ("invent_images", 2), ("craft_images", 0)):
            if getattr(self, name) < least:
                raise UserError(f"{name} must be at least {least}, not {getattr(self, name)}")
        check_bank(self.bank)


class Anchored(Defence):
    """Clean images and triggered ones, both held to the teacher's embeddings of the clean."""

    needs = Needs(texts=False)

    def __init__(self, options: AnchoredOptions, setting: Setting) -> None:
        self.options, self.setting = options, setting
        self.weights = {"anchor": options.anchor_weight, "triggered": 1.0}
        if options.strange:
            self.weights |= {"strange": options.strange_weight}
        self.teacher = Teacher(setting.clip, remember=not setting.images_vary)
        self.kinds = [kind for kind in check_bank(options.bank) for _ in range(options.pool)]
        self.pool: list[InventedTrigger] = []

    def prepare(self, batches: Iterator[Batch]) -> None:
        """Invents the pool on the model as it came."""
        pixels: list[Tensor] = []
        clean: list[Tensor] = []
        for batch in batches:
            pixels.append(batch.image_M3HW[: batch.num_pairs])
            clean.append(self.teacher.embed_images(batch))
            if sum(map(len, pixels)) >= self.options.invent_images:
                break
        image_N3HW, clean_ND = torch.cat(pixels), torch.cat(clean)
        told = f"anchored: inventing {len(self.kinds)} triggers on {len(image_N3HW)} images"
        say(told, shown=self.setting.ranks.is_first)
        for number in range(len(self.kinds)):
            trigger = self._draw(number)
            trigger.values = trigger.values.to(image_N3HW.device)
            generator = self._generator("images", number)
            aims = [earlier.aim_D for earlier in self.pool if earlier.aim_D is not None]
            for _ in range(self.options.invent_steps):
                invent(
                    [trigger],
                    self.teacher.model,
                    self.setting.clip,
                    image_N3HW,
                    clean_ND,
                    generators=[generator],
                    apart_KD=torch.stack(aims) if aims and self.options.apart else None,
                    apart_weight=self.options.apart,
                )
            trigger.values = self.setting.ranks.take_from(0, trigger.values)
            trigger.aim_D = aim_of(trigger, self.teacher.model, self.setting.clip, image_N3HW[:64], generator)
            self.pool.append(trigger)

    def pixels(self, batch: Batch, *, step: int) -> Tensor:
        """The batch's images, strange ones, then some of both, each with a trigger of the pool.

        Of several processes each has its own images, and a share of what is added to the images of all.
        """
        ranks = self.setting.ranks
        generator = self._generator("step", step)
        clean_BD = ranks.gather(self.teacher.embed_images(batch))
        pixels_B3HW = ranks.gather(batch.image_M3HW[: batch.num_pairs])
        image_B3HW = pixels_B3HW.float() / 255
        chosen = self._choose(generator)
        self._craft(chosen, pixels_B3HW, clean_BD, step=step)
        wanted_ND, image_N3HW = clean_BD, image_B3HW
        self.num_strange = round(self.options.strange * len(image_B3HW))
        strange_S3HW = image_B3HW[:0]
        if self.num_strange:
            strange_S3HW = strange_images(image_B3HW, self.num_strange, generator)
            wanted_ND = torch.cat([clean_BD, self._teach(strange_S3HW)])
            image_N3HW = torch.cat([image_B3HW, strange_S3HW])
        num = min(len(image_N3HW), max(1, round(self.options.share * len(image_B3HW))))
        order = torch.randperm(len(image_N3HW), generator=generator)[:num]
        own = ranks.share(range(self.num_strange + num))
        first, last = own[0] - self.num_strange, own[-1] + 1 - self.num_strange  # below 0: strange ones
        ends = torch.tensor(spread(num, len(chosen), turn=step)).cumsum(0).tolist()
        triggered = []
        for trigger, start, end in zip(chosen, [0, *ends], ends, strict=False):
            if start < end:
                rows = order[max(start, first) : max(start, min(end, last))]
                triggered.append(trigger.apply(image_N3HW[rows], generator))
        self.wanted_BD = clean_BD
        self.wanted_XD = torch.cat([wanted_ND[len(clean_BD) :], wanted_ND[order]])
        mine_B3HW = batch.image_M3HW[: batch.num_pairs].float() / 255
        return torch.cat([mine_B3HW, strange_S3HW[own[0] : own[-1] + 1], *triggered])

    def _teach(self, strange_S3HW: Tensor) -> Tensor:
        """The teacher's embeddings of images that all processes have: each embeds its share."""
        ranks = self.setting.ranks
        if len(strange_S3HW) < ranks.world:
            return self.teacher.embed_pixels(strange_S3HW)
        rows = ranks.share(range(len(strange_S3HW)))
        return ranks.gather(self.teacher.embed_pixels(strange_S3HW[rows[0] : rows[-1] + 1]))

    def _choose(self, generator: torch.Generator) -> list[InventedTrigger]:
        """One trigger for each place of the bank."""
        size = self.options.pool
        starts = range(0, len(self.pool), size)
        return [self.pool[start + int(torch.randint(size, (), generator=generator))] for start in starts]

    def _craft(
        self, chosen: list[InventedTrigger], image_B3HW: Tensor, clean_BD: Tensor, *, step: int
    ) -> None:
        """Each takes a step against the model as it has become; the processes share them out."""
        if not self.options.craft_images:
            return
        clip, ranks = self.setting.clip, self.setting.ranks
        own = range(ranks.rank, len(chosen), ranks.world)
        with frozen_statistics(clip.model.visual):
            invent(
                [chosen[number] for number in own],
                clip.model,
                clip,
                image_B3HW,
                clean_BD,
                generators=[self._generator("craft", step, number) for number in own],
                num=self.options.craft_images,
            )
        for number, trigger in enumerate(chosen):
            trigger.values = ranks.take_from(number % ranks.world, trigger.values)

    def terms(self, found: Embeddings) -> dict[str, Tensor]:
        """How far clean, strange and triggered images lie from where they belong: 1 - cosine, the means."""
        assert found.added_XD is not None
        away_X = 1 - (found.added_XD * self.wanted_XD).sum(dim=1)
        terms = {
            "anchor": 1 - (found.image_BD * self.wanted_BD).sum(dim=1).mean(),
            "triggered": away_X[self.num_strange :].mean(),
        }
        if self.num_strange:
            terms["strange"] = away_X[: self.num_strange].mean()
        return terms

    def state(self) -> dict[str, Any]:
        """The pool as it is."""
        return {"pool": [(trigger.values, trigger.aim_D) for trigger in self.pool]}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Puts the pool back; what was drawn beside a trigger's values is drawn again."""
        device = next(self.setting.clip.model.parameters()).device
        for number, (values, aim_D) in enumerate(state["pool"]):
            trigger = self._draw(number)
            trigger.values, trigger.aim_D = values.to(device), aim_D.to(device)
            self.pool.append(trigger)

    def _draw(self, number: int) -> InventedTrigger:
        """The pool's trigger of that number before its first step; those of a kind are spread over its sorts."""
        kind = self.kinds[number]
        rank, count = self.kinds[:number].count(kind), self.kinds.count(kind)
        place = rank / (count - 1) if count > 1 else 0.5
        return KINDS[kind](self.setting.clip.image_size, self._generator("draw", number), place=place)

    def _generator(self, *purpose: object) -> torch.Generator:
        return torch.Generator().manual_seed(seeded_int("anchored", self.setting.seed, *purpose))


@contextmanager
def frozen_statistics(tower: nn.Module) -> Iterator[None]:
    """The tower in evaluation mode within the block, so that what passes leaves no trace; then as it was."""
    training = [module for module in tower.modules() if module.training]
    tower.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
