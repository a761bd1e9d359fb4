"""What a removed backdoor may come back by: four traps, each run on the weights that a cell left, and on a clean model.

rebound: clean fine-tuning afterwards, on pairs that never name the target, looked at along the way. batch norm: its
statistics estimated anew, nothing trained. retuned: a few poisoned samples among clean ones (Min et al. 2024,
arXiv 2410.09838). reactivated: the trigger optimised anew, a faint universal pattern on top of it, against the same
pattern without the trigger on a clean model, which is what an adversarial example of that strength does by itself.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.errors import UserError
from trainer.attacks.trigger import Trigger
from trainer.batches import Batch, BatchOptions, BatchStream, Poison
from trainer.data import find_shards, index_shards
from trainer.defences.defence import Setting
from trainer.defences.ft import Ft, FtOptions
from trainer.embedding import embed_classes, encode, evaluation_mode
from trainer.evals.labelled import LabelledImages
from trainer.evals.zero_shot import evaluate_zero_shot
from trainer.learner import build_learner, update
from trainer.losses import total_loss
from trainer.model import ClipModel
from trainer.optim import OptimOptions, learning_rate
from trainer.poisoning import PoisonOptions, build_poison, plan_for
from trainer.scores import Evaluation


@dataclass(frozen=True, slots=True, kw_only=True)
class TrapOptions:
    """How hard each trap tries."""

    lr: float
    """Learning rate of fine-tuning, for the rebound and the poisoned samples."""
    steps: int = 300
    """Clean steps after which, and along which, the rebound is looked at."""
    looks: int = 3
    """How often along the way."""
    batch_size: int = 64
    poisoned: int = 5
    """Samples poisoned again."""
    epochs: int = 5
    """Epochs over them and the clean ones."""
    limit: float = 0.05
    """What the trigger optimised anew may change a pixel by, of 1."""
    craft_steps: int = 60
    """Steps by which it is optimised."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "looks", "poisoned", "epochs", "craft_steps"):
            if getattr(self, name) < 1:
                raise UserError(f"traps: {name} must be at least 1, not {getattr(self, name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Victim:
    """What the traps are set for."""

    trigger: Trigger
    target: str
    test: LabelledImages
    shards: Path
    """Clean pairs for later fine-tuning: they never name the target."""


def spring_traps(clip: ClipModel, victim: Victim, options: TrapOptions) -> dict[str, float]:
    """ASR and BA at top 1 in percent after each trap, as `rebound_asr1 ...`; the model itself stays as it is.

    `rebound_asr1` is the highest of all looks, `rebound_ba1` the last.
    """
    found: dict[str, float] = {}
    looks = _fine_tuned(clip, victim, options, poison=None, steps=options.steps, looks=options.looks)
    found |= {"rebound_asr1": max(look.asr[1].percent for look in looks), "rebound_ba1": _ba(looks[-1])}
    estimated = _copy(clip)
    estimate_batch_norm(estimated, _stream(clip, victim, options, poison=None))
    look = _look(estimated, victim)
    found |= {"batch_norm_asr1": look.asr[1].percent, "batch_norm_ba1": _ba(look)}
    steps = options.epochs * _stream(clip, victim, options, poison=None).steps_per_epoch
    poison = _few_poisoned(clip, victim, options)
    look = _fine_tuned(clip, victim, options, poison=poison, steps=steps, looks=1)[-1]
    found |= {"retuned_asr1": look.asr[1].percent, "retuned_ba1": _ba(look)}
    found["reactivated_asr1"] = reactivated(clip, victim, options, with_trigger=True)
    found["pattern_asr1"] = reactivated(clip, victim, options, with_trigger=False)
    return found


def _ba(look: Evaluation) -> float:
    return look.ba[1].percent


def _look(clip: ClipModel, victim: Victim) -> Evaluation:
    return evaluate_zero_shot(clip, victim.test, trigger=victim.trigger, target=victim.target)


def _copy(clip: ClipModel) -> ClipModel:
    return replace(clip, model=copy.deepcopy(clip.model))


def _stream(clip: ClipModel, victim: Victim, options: TrapOptions, *, poison: Poison | None) -> BatchStream:
    index = index_shards(find_shards(str(victim.shards)))
    batches = BatchOptions(batch_size=options.batch_size, seed=options.seed)
    return BatchStream(index, clip, needs=Ft.needs, options=batches, poison=poison)


def _few_poisoned(clip: ClipModel, victim: Victim, options: TrapOptions) -> Poison:
    index = index_shards(find_shards(str(victim.shards)))
    plan = plan_for(
        index,
        PoisonOptions(
            trigger=victim.trigger.preset,
            target=victim.target,
            rate=options.poisoned / len(index.keys),
            captions="templates",
            templates=victim.test.templates,
            seed=options.seed,
        ),
        victim.trigger,
    )
    return build_poison(victim.trigger, plan)


def _fine_tuned(
    clip: ClipModel,
    victim: Victim,
    options: TrapOptions,
    *,
    poison: Poison | None,
    steps: int,
    looks: int,
) -> list[Evaluation]:
    """A copy of the model after each part of the steps, by CLIP's own loss."""
    tuned = _copy(clip)
    optim = OptimOptions(lr=options.lr, max_gradient_norm=1.0)
    learner = build_learner(tuned, optim=optim, device="auto", precision="auto")
    defence = Ft(FtOptions(), Setting(clip=tuned, seed=options.seed))
    stream = _stream(tuned, victim, options, poison=poison)
    at = {round(steps * (number + 1) / looks) for number in range(looks)}
    found: list[Evaluation] = []
    step = epoch = 0
    while step < steps:
        tuned.model.train()
        for host_batch in stream.epoch(epoch):
            batch = host_batch.to(learner.device)
            with learner.autocast():
                embedded = encode(tuned.model, batch, normalise=tuned.normalise)
            loss = total_loss(defence.terms(embedded), defence.weights)
            lr = learning_rate(step, total_steps=steps, options=optim)
            update(learner, loss, lr=lr, max_gradient_norm=optim.max_gradient_norm)
            step += 1
            if step in at:
                found.append(_look(tuned, victim))
            if step == steps:
                break
        epoch += 1
    return found


@torch.no_grad()
def estimate_batch_norm(clip: ClipModel, stream: BatchStream) -> None:
    """Running means and variances of the image tower as plain averages over an epoch's batches."""
    norms = [m for m in clip.model.visual.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    if not norms:
        return
    device = next(clip.model.parameters()).device
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    for batch in stream.epoch(0):
        clip.model.encode_image(clip.normalise(batch.image_M3HW.to(device)))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


def reactivated(clip: ClipModel, victim: Victim, options: TrapOptions, *, with_trigger: bool) -> float:
    """ASR in percent of a universal pattern of at most `limit`, optimised towards the target on clean pairs.

    On top of the trigger, or by itself.
    """
    device = next(clip.model.parameters()).device
    target = victim.test.label_of(victim.target)
    with evaluation_mode(clip):
        class_CD = embed_classes(clip, victim.test.classnames, victim.test.templates)
        scale = clip.model.logit_scale.exp().detach()
        pattern_3HW = torch.zeros((3, clip.image_size, clip.image_size), device=device)
        batches = _forever(_stream(clip, victim, options, poison=None))
        for _ in range(options.craft_steps):
            batch = next(batches)
            image_B3HW = batch.image_M3HW
            if with_trigger:
                image_B3HW = victim.trigger.apply(image_B3HW, keys=list(batch.keys))
            values = pattern_3HW.requires_grad_(True)
            shown = (image_B3HW.to(device).float() / 255 + values).clamp(0, 1)
            image_BD = functional.normalize(clip.model.encode_image(clip.normalise(shown)).float(), dim=-1)
            wanted_B = torch.full((len(image_BD),), target, device=device)
            loss = functional.cross_entropy(scale * image_BD @ class_CD.T, wanted_B)
            (gradient,) = torch.autograd.grad(loss, values)
            step = options.limit / 10 * gradient.sign()
            pattern_3HW = (values.detach() - step).clamp(-options.limit, options.limit)
        hits = total = 0
        for images in victim.test.batches(clip.resize, batch_size=256):
            kept = images.label_N != target
            shown_N3HW = images.image_N3HW
            if with_trigger:
                shown_N3HW = victim.trigger.apply(shown_N3HW, keys=list(images.keys))
            hits += _put_in(
                clip, shown_N3HW[kept].to(device).float() / 255 + pattern_3HW, class_CD, target=target
            )
            total += int(kept.sum())
    return 100 * hits / total


@torch.no_grad()
def _put_in(clip: ClipModel, image_N3HW: Tensor, class_CD: Tensor, *, target: int) -> int:
    image_ND = clip.model.encode_image(clip.normalise(image_N3HW.clamp(0, 1))).float()
    return int(((image_ND @ class_CD.T).argmax(dim=1) == target).sum())


def _forever(stream: BatchStream) -> Iterator[Batch]:
    epoch = 0
    while True:
        yield from stream.epoch(epoch)
        epoch += 1
