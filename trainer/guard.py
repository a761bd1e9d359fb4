"""A guard over a defence: a held-out part of the user's shards says if the model still works, and which epoch to keep.

A user has no ASR. So three things are watched, on the model as it came and after each epoch: retrieval among the
held-out pairs; agreement, how many held-out images are still nearest to the caption that the model as it came put
nearest; and a screen, how far universal triggers searched anew bring held-out images together (`audit.search`). A
collapse ends the run, which goes back to a sound epoch before it. The run leaves the last sound epoch, or an earlier
one that is better by more than chance. What was seen and chosen stands in `guard.json` and in the summary.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.errors import UserError
from pipeline.storage import read_json, write_json
from trainer.audit.search import SearchOptions, draw
from trainer.batches import BatchOptions, BatchStream, Needs
from trainer.data import ShardIndex
from trainer.defences.invented import invent
from trainer.embedding import evaluation_mode
from trainer.evals.retrieval import image_to_text_ranks, text_to_image_ranks
from trainer.log import say
from trainer.model import ClipModel, encode_text
from trainer.ranks import ONE, Ranks
from trainer.seeds import seeded_int

FILE: Final = "guard.json"
SHARE: Final = 0.05
MOST: Final = 256
"""At most so many samples, and this share of them, are held out."""
LEAST: Final = 16
"""Shards too small to spare so many are not watched."""
STEPS: Final = 8
STEP_IMAGES: Final = 12
"""Of each search for a universal trigger."""
COLLAPSED: Final = 0.5
"""A model of which less than this share of retrieval is left has collapsed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was seen after an epoch; epoch 0: of the model as it came. Shares, from 0 to 1."""

    epoch: int
    retrieval: float
    """R@1 among the held-out pairs, mean of both directions."""
    agreement: float
    """Images whose nearest caption is the one it was."""
    screen: Mapping[str, float]
    """For each kind and size of trigger, the length of the mean embedding of images with it."""

    @property
    def concentration(self) -> float:
        """The screen's mean."""
        return sum(self.screen.values()) / len(self.screen)

    @property
    def worth(self) -> float:
        """What epochs are compared by: agreement, and how little universal triggers can do."""
        return self.agreement - self.concentration


def hold_out(index: ShardIndex, *, seed: int) -> tuple[ShardIndex, ShardIndex | None]:
    """The samples to train on, and those to watch: which, the keys and the seed decide; None of shards too small."""
    num = min(MOST, int(SHARE * len(index.keys)))
    if num < LEAST:
        return index, None
    by_hash = sorted(range(len(index.keys)), key=lambda n: seeded_int("guard", seed, index.keys[n]))
    held = set(by_hash[:num])
    return (
        index.take([n for n in range(len(index.keys)) if n not in held]),
        index.take(sorted(held)),
    )


class Guard:
    """The looks at a run so far, and what follows from them. Of several processes the first looks; all are told."""

    def __init__(
        self, clip: ClipModel, held: ShardIndex, *, out: Path, seed: int, ranks: Ranks = ONE
    ) -> None:
        self.clip, self.out, self.seed, self.ranks = clip, out, seed, ranks
        self.looks: list[Look] = []
        self.image_N3HW, self.text_NL = _pairs(clip, held)
        self.nearest_N: Tensor | None = None

    def begin(self) -> None:
        """Looks at the model as it came; of a run that goes on, takes up what was seen. By the first process alone."""
        file = self.out / FILE
        image_ND, text_ND = self._embed()
        self.nearest_N = (image_ND @ text_ND.T).argmax(dim=1)
        if file.is_file():
            told = read_json(file)
            self.looks = [Look(**look) for look in told["looks"]]
        else:
            self._look(0, image_ND, text_ND)

    def look(self, epoch: int) -> bool:
        """Looks at the model after an epoch, once; whether training should go on."""
        if self.ranks.is_first and self.looks[-1].epoch < epoch:
            self._look(epoch, *self._embed())
        return not self.ranks.collect(self.ranks.is_first and self.collapsed(self.looks[-1]))[0]

    def collapsed(self, look: Look) -> bool:
        """Whether too little of what the model as it came could do is left; a retrieval that is no number is none."""
        return not look.retrieval >= COLLAPSED * self.looks[0].retrieval

    def best(self, last: int) -> int:
        """The epoch to keep, `last` being the last, told to all processes; UserError where every one had collapsed."""
        self.look(last)
        return int(self.ranks.collect(self._best() if self.ranks.is_first else 0)[0])

    def _best(self) -> int:
        sound = [look for look in self.looks if look.epoch and not self.collapsed(look)]
        if not sound:
            before, after = self.looks[0].retrieval, self.looks[-1].retrieval
            raise UserError(
                f"the defence destroyed the model: of {100 * before:.0f} % retrieval among {len(self.image_N3HW)} "
                f"held-out pairs {100 * after:.0f} % is left after epoch {self.looks[-1].epoch}; lower --lr, or say "
                f"--no-guard to see it through; no model was written"
            )
        best = max(sound, key=lambda look: look.worth)
        chosen = (best if best.worth - sound[-1].worth > self._noise(best, sound[-1]) else sound[-1]).epoch
        write_json(self.out / FILE, self.summary(chosen))
        return chosen

    def _noise(self, one: Look, other: Look) -> float:
        """Two standard errors of the difference of two agreements: what fewer held-out pairs cannot tell apart."""
        shares = (look.agreement * (1 - look.agreement) for look in (one, other))
        return 2 * math.sqrt(sum(shares) / len(self.image_N3HW))

    def summary(self, chosen: int | None = None) -> dict[str, Any]:
        """What was seen, as plain values."""
        told = {"held_out": len(self.image_N3HW), "looks": [asdict(look) for look in self.looks]}
        return told if chosen is None else told | {"chosen": chosen, "why": self.why(chosen)}

    def why(self, chosen: int) -> str:
        """The choice in a sentence."""
        last = self.looks[-1]
        if self.collapsed(last):
            return f"epoch {chosen}: the model collapsed in epoch {last.epoch}, and the run ended there"
        rest = "the last" if chosen == last.epoch else f"better than the last, {last.epoch}"
        look = next(look for look in self.looks if look.epoch == chosen)
        return (
            f"epoch {chosen}, {rest}: agreement {look.agreement:.2f}, retrieval {look.retrieval:.2f} "
            f"({self.looks[0].retrieval:.2f} before), triggers bring images together to {look.concentration:.2f} "
            f"({self.looks[0].concentration:.2f} before)"
        )

    def _look(self, epoch: int, image_ND: Tensor, text_ND: Tensor) -> None:
        assert self.nearest_N is not None
        owner_N = torch.arange(len(image_ND))
        ranks = (
            function(image_ND, text_ND, owner_N) for function in (image_to_text_ranks, text_to_image_ranks)
        )
        first = [float((rank_N == 0).float().mean()) for rank_N in ranks]
        nearest_N = (image_ND @ text_ND.T).argmax(dim=1)
        look = Look(
            epoch=epoch,
            retrieval=sum(first) / 2 if image_ND.isfinite().all() and text_ND.isfinite().all() else 0.0,
            agreement=float((nearest_N == self.nearest_N).float().mean()),
            screen=self._screen(image_ND),
        )
        self.looks.append(look)
        write_json(self.out / FILE, self.summary())
        say(
            f"guard: epoch {epoch}: retrieval {look.retrieval:.2f}, agreement {look.agreement:.2f}, universal "
            f"triggers bring held-out images together to {look.concentration:.2f}"
        )

    @torch.no_grad()
    def _embed(self) -> tuple[Tensor, Tensor]:
        """Unit embeddings of the held-out images and captions."""
        with evaluation_mode(self.clip):
            texts = [encode_text(self.clip.model, part).float() for part in torch.split(self.text_NL, 64)]
            return self._embed_images(self.image_N3HW.float() / 255), functional.normalize(
                torch.cat(texts), dim=-1
            )

    @torch.no_grad()
    def _embed_images(self, image_N3HW: Tensor) -> Tensor:
        parts = torch.split(image_N3HW, 64)
        images = [self.clip.model.encode_image(self.clip.normalise(part)).float() for part in parts]
        return functional.normalize(torch.cat(images), dim=-1)

    def _screen(self, image_ND: Tensor) -> dict[str, float]:
        """Searches each kind of trigger on half of the images, and measures it on the other."""
        half = len(self.image_N3HW) // 2
        trials = SearchOptions().trials
        generators = [
            torch.Generator().manual_seed(seeded_int("guard", self.seed, kind, size)) for kind, size in trials
        ]
        triggers = []
        for (kind, size), generator in zip(trials, generators, strict=True):
            (trigger,) = draw(kind, size, image_size=self.clip.image_size, num=1, generator=generator)
            trigger.values = trigger.values.to(self.image_N3HW.device)
            triggers.append(trigger)
        with evaluation_mode(self.clip):
            for _ in range(STEPS):
                invent(
                    triggers,
                    self.clip.model,
                    self.clip,
                    self.image_N3HW[:half],
                    image_ND[:half],
                    generators=generators,
                    num=STEP_IMAGES,
                )
            shown = {}
            for (kind, size), trigger, generator in zip(trials, triggers, generators, strict=True):
                shown_N3HW = trigger.apply(self.image_N3HW[half:].float() / 255, generator)
                reach = float(self._embed_images(shown_N3HW).mean(dim=0).norm())
                shown[f"{kind} {size:g}"] = round(reach, 4)
        return shown


def _pairs(clip: ClipModel, held: ShardIndex) -> tuple[Tensor, Tensor]:
    """The held-out images (N, 3, H, W), uint8, and their captions' tokens (N, L), on the model's device."""
    options = BatchOptions(batch_size=len(held.keys), workers=0)
    batch = next(BatchStream(held, clip, needs=Needs(), options=options).epoch(0))
    device = next(clip.model.parameters()).device
    return batch.image_M3HW.to(device), batch.text_BL.to(device)
