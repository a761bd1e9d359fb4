"""The audit: does a little, the same for all images, take them to one place more easily than in a clean model?

Searches triggers (`search`), holds what they reach against clean models of the same architecture (`calibration`), says
which concept the strongest leads to (`concepts`), and gives the trigger as a file and a picture (`found`). It answers
"evidence found" or "no evidence found", never "clean": a trigger of a kind that is not searched stays unseen.
"""

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from pipeline.errors import UserError
from trainer.attacks.trigger import Trigger
from trainer.audit.calibration import (
    LEAST_MODELS,
    Calibration,
    CleanModel,
    architecture_of,
    distances,
    find_calibration,
    pulls,
)
from trainer.audit.concepts import (
    Concepts,
    Nearest,
    embed_concepts,
    lexicon_nouns,
    nearest,
    nouns_of,
    share_of,
)
from trainer.audit.found import to_trigger
from trainer.audit.samples import Samples, read_samples
from trainer.audit.search import Found, SearchOptions, search
from trainer.audit.waves import KIND, excess, ride, to_found
from trainer.data import find_shards
from trainer.embedding import evaluation_mode
from trainer.log import say
from trainer.model import ClipModel

EVIDENCE: Final = "evidence found"
NO_EVIDENCE: Final = "no evidence found"
NOT_CALIBRATED: Final = "not calibrated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One kind of trigger at one size."""

    kind: str
    size: float
    told: str
    concentration: float
    pull: float
    clean_concentration: float | None
    """What the calibration's clean models reach, by their mean pull."""
    clean: tuple[float, ...]
    """The same of each of them."""
    distance: float | None
    """By how many of their spreads the pull lies above it."""
    kept: float
    """Mean cosine of the images with it and without it."""
    concepts: tuple[Nearest, ...]
    """The nearest of each list of nouns: the captions' first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What an audit found."""

    verdict: str
    """evidence found, no evidence found, or not calibrated."""
    score: float | None
    """The largest distance; None without a calibration."""
    threshold: float | None
    """From which score on it is evidence."""
    trials: tuple[Trial, ...]
    """The farthest from clean first."""
    model: str
    weights_sha256: str
    clean_models: int
    """In the calibration."""
    concentration: float
    """Of the same images without a trigger."""
    num_images: int
    seconds: float
    search: dict[str, Any]
    samples: Samples
    trigger: Trigger
    """What the first of the trials found."""

    @property
    def concept(self) -> Nearest:
        """The concept that the strongest trigger leads to: of the lists' nearest the one that most images have."""
        return max(self.trials[0].concepts, key=lambda each: each.share)

    def to_json(self) -> dict[str, Any]:
        """Everything but images and weights, as plain values."""
        return {
            **{name: getattr(self, name) for name in _PLAIN},
            "concept": asdict(self.concept),
            "trials": [asdict(trial) for trial in self.trials],
            "trigger_kind": self.trigger.kind,
            "trigger_sha256": self.trigger.sha256,
        }


_PLAIN: Final = (
    "verdict",
    "score",
    "threshold",
    "model",
    "weights_sha256",
    "clean_models",
    "concentration",
    "num_images",
    "seconds",
    "search",
)


def audit_model(
    clip: ClipModel,
    shards: str,
    *,
    image_shards: str | None = None,
    classnames: Sequence[str] = (),
    calibration: Path | None = None,
    options: SearchOptions | None = None,
) -> Audit:
    """Audits the model on images of these shards; it is in evaluation mode meanwhile, and its weights do not change.

    `classnames` are concepts to ask for beside the captions' nouns and the lexicon's. Without a calibration of the
    architecture, the answer is figures and no verdict.

    Raises:
        UserError: Shards without images, a calibration of another architecture or another search.
    """
    started = time.monotonic()
    options = options or SearchOptions()
    measured_by = find_calibration(clip, calibration)
    if measured_by is not None:
        _check_same_search(measured_by, options)
    samples = _read(clip, shards, image_shards, options)
    device = next(clip.model.parameters()).device
    with evaluation_mode(clip):
        image_N3HW = samples.image_N3HW.to(device)
        found, clean_ND = search(clip, image_N3HW, options, report=_say)
        asked = _concepts(clip, samples, classnames)
        near = {each.name: tuple(nearest(some, each.image_ND, clean_ND) for some in asked) for each in found}
        told = pulls(found)
        far = {} if measured_by is None else distances(told, measured_by.models)
        if KIND in options.chosen:
            wave, concept, beyond = _try_waves(clip, _measured(image_N3HW), clean_ND, asked[-1], measured_by)
            found.append(wave)
            near[wave.name] = (concept,)
            told |= pulls([wave])
            far |= {} if beyond is None else {wave.name: beyond}
        kept = {each.name: float((each.image_ND * clean_ND).sum(dim=1).mean()) for each in found}
    found.sort(key=lambda each: far.get(each.name, told[each.name]), reverse=True)
    trials = tuple(
        _trial(
            each,
            pull=told[each.name],
            distance=far.get(each.name),
            near=near[each.name],
            kept=kept[each.name],
            calibration=measured_by,
        )
        for each in found
    )
    score = max(far.values(), default=None)
    return Audit(
        verdict=_verdict(score, measured_by),
        score=score,
        threshold=None if measured_by is None else measured_by.threshold,
        trials=trials,
        model=clip.name,
        weights_sha256=clip.sha256,
        clean_models=0 if measured_by is None else len(measured_by.models),
        concentration=float(clean_ND.mean(dim=0).norm()),
        num_images=len(samples.keys),
        seconds=round(time.monotonic() - started, 1),
        search=asdict(options),
        samples=samples,
        trigger=to_trigger(found[0], image_size=clip.image_size, seed=options.seed),
    )


def calibrate(
    models: Sequence[tuple[str, ClipModel]], shards: str, *, options: SearchOptions | None = None
) -> Calibration:
    """A calibration from clean models, each with what it is called; all of one architecture, at least three.

    Raises:
        UserError: Too few models, the same one twice, or models of several architectures.
    """
    options = options or SearchOptions()
    if len(models) < LEAST_MODELS:
        raise UserError(f"{len(models)} clean models: a calibration needs {LEAST_MODELS} or more")
    architectures = {architecture_of(clip): clip.name for _, clip in models}
    if len(architectures) > 1:
        raise UserError(
            f"models of one architecture make a calibration, not {', '.join(architectures.values())}"
        )
    if len({clip.sha256 for _, clip in models}) < len(models):
        raise UserError("the same model is named twice: each must be another")
    clean = []
    for told, clip in models:
        samples = _read(clip, shards, None, options)
        say(f"{told}: {len(samples.keys)} images")
        with evaluation_mode(clip):
            image_N3HW = samples.image_N3HW.to(next(clip.model.parameters()).device)
            found, _ = search(clip, image_N3HW, options, report=_say)
            words = _words(clip, _measured(image_N3HW)) if KIND in options.chosen else {}
        clean.append(CleanModel(weights_sha256=clip.sha256, told=told, trials=pulls(found), words=words))
    (architecture,) = architectures
    return Calibration(
        model=models[0][1].name,
        architecture=architecture,
        search=asdict(options),
        images=f"{len(samples.keys)} images of {shards}",
        models=tuple(clean),
    )


def _try_waves(
    clip: ClipModel,
    image_N3HW: Tensor,
    clean_ND: Tensor,
    lexicon: Concepts,
    measured_by: Calibration | None,
) -> tuple[Found, Nearest, float | None]:
    """The wave that leads farthest beyond the clean models, the noun that it leads to, and by how many spreads."""
    ridden = ride(clip, image_N3HW, lexicon)
    beyond = None
    name = max(ridden.gains, key=lambda noun: ridden.gains[noun])
    if measured_by is not None:
        name, beyond = excess(ridden.gains, [model.words for model in measured_by.models])
    found = to_found(clip, ridden, image_N3HW, name)
    say(f"audit: {found.told}: {ridden.gains[name]:.2f} nearer to {name!r}")
    return found, share_of(name, lexicon, found.image_ND, clean_ND), beyond


def _words(clip: ClipModel, image_N3HW: Tensor) -> dict[str, float]:
    return dict(ride(clip, image_N3HW, _lexicon(clip)).gains)


def _measured(image_N3HW: Tensor) -> Tensor:
    """The half that `search` does not search on."""
    return image_N3HW[len(image_N3HW) // 2 :]


def _read(clip: ClipModel, shards: str, image_shards: str | None, options: SearchOptions) -> Samples:
    beside = () if image_shards is None else find_shards(image_shards)
    return read_samples(clip, find_shards(shards), image_shards=beside, num=options.images)


def _check_same_search(calibration: Calibration, options: SearchOptions) -> None:
    """UserError where the suspect would be searched otherwise than the clean models were.

    Another seed is no matter, and fewer kinds are none.
    """
    asked = asdict(options)
    lacking = set(options.chosen) - set(SearchOptions(**calibration.search).chosen)
    differs = [
        name
        for name, was in calibration.search.items()
        if name not in ("seed", "kinds") and asked[name] != was
    ]
    for name in (["kinds"] if lacking else []) + differs:
        raise UserError(
            f"the calibration was made with {name} {calibration.search[name]}, and {asked[name]} is asked for: "
            "leave it out, or make a calibration with it (`trainer calibrate`)"
        )


def _concepts(clip: ClipModel, samples: Samples, classnames: Sequence[str]) -> list[Concepts]:
    lists = {"captions": nouns_of(samples.captions), "classes": tuple(classnames)}
    found = [embed_concepts(clip, names, source=source) for source, names in lists.items() if names]
    return [*found, _lexicon(clip)]


def _lexicon(clip: ClipModel) -> Concepts:
    return embed_concepts(clip, tuple(dict.fromkeys(lexicon_nouns().values())), source="lexicon")


def _trial(
    found: Found,
    *,
    pull: float,
    distance: float | None,
    near: tuple[Nearest, ...],
    kept: float,
    calibration: Calibration | None,
) -> Trial:
    clean = (
        []
        if calibration is None
        else [model.trials[found.name] for model in calibration.models if found.name in model.trials]
    )
    return Trial(
        kind=found.kind,
        size=found.size,
        told=found.told,
        concentration=found.concentration,
        pull=pull,
        clean_concentration=_concentration(statistics.mean(clean)) if clean else None,
        clean=tuple(map(_concentration, clean)),
        distance=distance,
        kept=kept,
        concepts=near,
    )


def _concentration(pull: float) -> float:
    return 1 - math.exp(-pull)


def _verdict(score: float | None, calibration: Calibration | None) -> str:
    if score is None or calibration is None:
        return NOT_CALIBRATED
    return EVIDENCE if score >= calibration.threshold else NO_EVIDENCE


def _say(found: Found) -> None:
    say(f"audit: {found.told}: {found.concentration:.3f}")
