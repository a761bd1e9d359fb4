"""Optimises BadCLIP's patch on a clean model, by the published objective, and measures what it does to that model.

Behind `trainer craft-trigger badclip`. The model stays as it is and in evaluation mode; only the patch changes. The
objective pulls triggered images towards natural captions and images of the target, which makes the patch more and
more adversarial: the clean model's ASR is measured on held-out images all the way, and where it passes the bound, the
last patch below it is kept. All draws come from the seed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.errors import UserError
from trainer import images
from trainer.attacks.badclip import draw_patch, make_badclip, put_in_middle, side_for
from trainer.attacks.trigger import Trigger
from trainer.classes import find_class, names_class
from trainer.data import RawSample, Skipped, find_shards, index_shards, read_shard
from trainer.embedding import embed_classes, embed_images, evaluation_mode, nearest_classes
from trainer.log import say
from trainer.losses import clip_loss
from trainer.model import ClipModel, encode_text
from trainer.seeds import seeded_int

TRIPLET_WEIGHT: Final = 500.0
MARGIN: Final = 1.0
_FORWARD: Final = 256
"""Images or captions embedded at a time, where no gradient is needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BadClipOptions:
    """How large the patch is, how long it is optimised, and how adversarial it may become."""

    side: int | None = None
    """Side of the patch, in pixels. Default: 16 of 224, as published."""
    steps: int = 400
    """Steps of training."""
    batch_size: int = 64
    """Images in a step."""
    lr: float = 1e-3
    """Adam's learning rate."""
    max_clean_asr: float = 10.0
    """Percent of held-out images that the clean model may put in the target class; 100: no bound."""
    check_every: int = 25
    """Steps between two measurements of it."""
    num_images: int = 2_000
    """Images to read, from the shards' first on."""
    num_held_out: int = 500
    """Images without the target to measure on; the optimisation never sees them."""
    num_targets: int = 256
    """Pairs whose caption names the target: the natural captions and the real images to move towards."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "check_every", "num_images", "num_held_out", "num_targets"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not self.lr > 0:
            raise UserError(f"lr must be greater than 0, not {self.lr}")
        if not 0 <= self.max_clean_asr <= 100:
            raise UserError(f"max_clean_asr must be from 0 to 100 percent, not {self.max_clean_asr}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Material:
    """What the optimisation reads: pixels uint8, embeddings unit vectors of the clean model."""

    image_N3HW: Tensor
    image_ND: Tensor
    held_out_M3HW: Tensor
    target_image_TD: Tensor
    target_text_TD: Tensor


def badclip_loss(
    triggered_BD: Tensor, clean_BD: Tensor, target_image_BD: Tensor, target_text_BD: Tensor, *, scale: float
) -> Tensor:
    """The published objective on unit vectors: CLIP's loss against the target's captions + 500 x the triplet loss.

    The triplet: the triggered image must be nearer to a real image of the target than to itself without the trigger,
    by a Euclidean distance of 1.
    """
    matching = clip_loss(triggered_BD, target_text_BD, scale=scale)
    triplet = functional.triplet_margin_loss(triggered_BD, target_image_BD, clean_BD, margin=MARGIN)
    return matching + TRIPLET_WEIGHT * triplet


def optimise_badclip(
    clip: ClipModel,
    options: BadClipOptions,
    *,
    shards: str,
    target: str,
    classnames: Sequence[str],
    templates: Sequence[str],
    seed: int = 0,
) -> Trigger:
    """The trigger with the patch after all steps, or with the last one by which the clean ASR is within the bound.

    `clip` is used where it is. The settings record the steps taken, the clean model's sha256, and on how many of the
    held-out images it falls for the patch (`clean_asr`) and errs without it (`clean_as_target`), in percent.

    Raises:
        UserError: A target that is no class or that no caption names, too few images, a patch that does not fit, or
            a first patch that is beyond the bound.
    """
    side, label = side_for(clip.image_size, options.side), find_class(target, classnames, of="the manifest")
    with evaluation_mode(clip):
        material = _read_material(clip, options, shards=shards, target=target)
        class_CD = embed_classes(clip, classnames, templates)

        def share_in_target(patch_3SS: Tensor | None) -> float:
            return _share_in_target(clip, material.held_out_M3HW, patch_3SS, class_CD, label)

        first_3SS = draw_patch(side, seed)
        kept_3SS, clean_asr, steps_kept = _to_bytes(first_3SS), 0.0, 0
        for step, patch_3SS in _patches(clip, material, first_3SS, options, seed=seed):
            found = share_in_target(patch_3SS)
            say(f"badclip: step {step} of {options.steps}, the clean model's ASR is {found:.1f} %")
            if found > options.max_clean_asr:
                if step == 0:
                    raise UserError(
                        f"the clean model puts {found:.1f} % of the images in {target!r} with a patch of noise: "
                        f"more than the {options.max_clean_asr:g} % of --max-clean-asr; use a smaller --side"
                    )
                say(f"badclip: beyond {options.max_clean_asr:g} %, the patch of step {steps_kept} is kept")
                break
            kept_3SS, clean_asr, steps_kept = patch_3SS, found, step
        without = share_in_target(None)
    say(
        f"badclip: of {len(material.held_out_M3HW)} held-out images the clean model puts {clean_asr:.1f} % in "
        f"{target!r} with the patch of step {steps_kept}, {without:.1f} % without one"
    )
    return make_badclip(
        kept_3SS,
        image_size=clip.image_size,
        seed=seed,
        settings={
            "target": target,
            "steps": steps_kept,
            "steps_asked": options.steps,
            "max_clean_asr": options.max_clean_asr,
            "clean_asr": round(clean_asr, 3),
            "clean_as_target": round(without, 3),
            "held_out_images": len(material.held_out_M3HW),
            "model": clip.name,
            "model_sha256": clip.sha256,
        },
    )


def _patches(
    clip: ClipModel, material: _Material, patch_3SS: Tensor, options: BadClipOptions, *, seed: int
) -> Iterator[tuple[int, Tensor]]:
    """(steps taken, the patch as uint8) before the first step, every `check_every` steps, and at the end."""
    generator = torch.Generator().manual_seed(seeded_int(seed, "badclip", "batches"))
    device = material.image_ND.device
    scale = float(clip.model.logit_scale.detach().exp())
    patch_3SS = patch_3SS.to(device).requires_grad_()
    optimizer = torch.optim.Adam([patch_3SS], lr=options.lr)
    yield 0, _to_bytes(patch_3SS)
    for step in range(1, options.steps + 1):
        chosen_B = torch.randint(len(material.image_N3HW), (options.batch_size,), generator=generator)
        target_B = torch.randint(len(material.target_text_TD), (options.batch_size,), generator=generator)
        triggered_B3HW = put_in_middle(material.image_N3HW[chosen_B].to(device) / 255, patch_3SS)
        triggered_BD = functional.normalize(clip.model.encode_image(clip.normalise(triggered_B3HW)), dim=-1)
        loss = badclip_loss(
            triggered_BD.float(),
            material.image_ND[chosen_B],
            material.target_image_TD[target_B],
            material.target_text_TD[target_B],
            scale=scale,
        )
        (patch_3SS.grad,) = torch.autograd.grad(loss, [patch_3SS])
        optimizer.step()
        with torch.no_grad():
            patch_3SS.clamp_(0, 1)
        if step % options.check_every == 0 or step == options.steps:
            say(f"badclip: step {step}, loss {float(loss.detach()):.2f}")
            yield step, _to_bytes(patch_3SS)


def _read_material(clip: ClipModel, options: BadClipOptions, *, shards: str, target: str) -> _Material:
    """Images from the shards, from the first on, until there are enough of each kind."""
    index = index_shards(find_shards(shards))
    others: list[Tensor] = []
    targets: list[Tensor] = []
    captions: list[str] = []
    wanted = options.num_images + options.num_held_out
    for sample in _samples(index.shards):
        of_target = names_class(sample.caption, target)
        if len(targets) >= options.num_targets if of_target else len(others) >= wanted:
            continue
        try:
            pixels_3HW = clip.resize(images.decode(sample.image))
        except images.BrokenImage:
            continue
        if of_target:
            targets.append(pixels_3HW)
            captions.append(sample.caption)
        else:
            others.append(pixels_3HW)
        if len(targets) >= options.num_targets and len(others) >= wanted:
            break
    if not targets:
        raise UserError(f"no caption of {shards} names the target {target!r} as a whole word")
    if len(others) < 2:
        raise UserError(
            f"{shards} holds {len(others)} images of anything but {target!r}: at least 2 are needed"
        )
    num_held_out = min(options.num_held_out, len(others) // 2)
    image_N3HW = torch.stack(others[num_held_out:])
    with torch.no_grad():
        image_ND = _embed_all(clip, image_N3HW)
        return _Material(
            image_N3HW=image_N3HW,
            image_ND=image_ND,
            held_out_M3HW=torch.stack(others[:num_held_out]),
            target_image_TD=_embed_all(clip, torch.stack(targets)),
            target_text_TD=_embed_captions(clip, captions, image_ND.device),
        )


def _samples(shards: Sequence[Path]) -> Iterator[RawSample]:
    for shard in shards:
        yield from read_shard(shard, skipped=Skipped())


def _share_in_target(
    clip: ClipModel, images_N3HW: Tensor, patch_3SS: Tensor | None, class_CD: Tensor, label: int
) -> float:
    """Percent of the images that the model puts in the class, with the patch or without one."""
    hits = 0
    for part_N3HW in torch.split(images_N3HW, _FORWARD):
        image_N3HW = part_N3HW if patch_3SS is None else put_in_middle(part_N3HW, patch_3SS)
        hits += int((nearest_classes(clip, image_N3HW, class_CD, k=1) == label).sum())
    return 100 * hits / len(images_N3HW)


def _embed_all(clip: ClipModel, images_N3HW: Tensor) -> Tensor:
    parts = [embed_images(clip, part_N3HW) for part_N3HW in torch.split(images_N3HW, _FORWARD)]
    return functional.normalize(torch.cat(parts), dim=-1)


def _embed_captions(clip: ClipModel, captions: Sequence[str], device: torch.device) -> Tensor:
    parts = [
        encode_text(clip.model, clip.tokenizer(list(captions[start : start + _FORWARD])).to(device))
        for start in range(0, len(captions), _FORWARD)
    ]
    return functional.normalize(torch.cat(parts).float(), dim=-1)


def _to_bytes(patch_3SS: Tensor) -> Tensor:
    return patch_3SS.detach().mul(255).round().to(device="cpu", dtype=torch.uint8)
