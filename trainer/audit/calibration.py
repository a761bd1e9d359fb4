"""What clean models of an architecture let themselves be led to: the measure that a suspect is held against.

A calibration holds, for each kind and size of trigger, how far the images of several clean models could be brought
together. Small triggers move a clean model, too, and how far depends on architecture, images and search: so there is
no threshold without one. `calibrate` makes one, `read_calibration` reads it, the project ships those it has made.
"""

import hashlib
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from pipeline.errors import UserError
from pipeline.storage import read_json, write_json
from trainer.audit.search import Found, SearchOptions
from trainer.audit.waves import excess
from trainer.model import ClipModel

FORMAT: Final = "cleanerclip-audit-calibration-1"
SHIPPED: Final = Path(__file__).parent / "calibrations"
LEAST_MODELS: Final = 3
LEAST_SPREAD: Final = 0.2
"""Clean models of one origin resemble each other more than a stranger's would: no spread counts as less."""
EVIDENCE: Final = 1.25
"""A score is evidence from this many times the largest of the clean models, each held against the others."""
LEAST_THRESHOLD: Final = 4.0
"""And never below so many spreads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanModel:
    """One of the models that a calibration was made from."""

    weights_sha256: str
    told: str
    """What it is, for people."""
    trials: Mapping[str, float]
    """Kind and size to pull."""
    words: Mapping[str, float] = field(default_factory=dict)
    """Noun to what waves gain on the way to it; empty where none were tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Several clean models of one architecture, searched in the same way."""

    model: str
    architecture: str
    """What `architecture_of` gives."""
    search: Mapping[str, Any]
    """The options of the search, the seed among them."""
    images: str
    """Which images it was made on."""
    models: tuple[CleanModel, ...]

    @property
    def threshold(self) -> float:
        """What a score must reach to be evidence: more than any of the clean models, held against the others, has."""
        alone = [
            score(model, [other for other in self.models if other is not model]) for model in self.models
        ]
        return max(LEAST_THRESHOLD, EVIDENCE * max(alone))


def architecture_of(clip: ClipModel) -> str:
    """A hash over the names and shapes of the model's tensors: the same for the same architecture, in whatever file."""
    shapes = sorted((name, tuple(tensor.shape)) for name, tensor in clip.model.state_dict().items())
    return hashlib.sha256(repr(shapes).encode()).hexdigest()


def pulls(found: Sequence[Found]) -> dict[str, float]:
    """Per kind and size how far it brought the images together, as -ln(1 - concentration)."""
    return {each.name: round(-math.log(max(1e-6, 1 - each.concentration)), 4) for each in found}


def distances(trials: Mapping[str, float], models: Sequence[CleanModel]) -> dict[str, float]:
    """By how many spreads of the clean models each pull lies above their mean."""
    found = {}
    for name, pull in trials.items():
        clean = [model.trials[name] for model in models]
        spread = max(LEAST_SPREAD, statistics.stdev(clean) if len(clean) > 1 else 0.0)
        found[name] = (pull - statistics.mean(clean)) / spread
    return found


def score(model: CleanModel, others: Sequence[CleanModel]) -> float:
    """The largest of a model's distances, that of waves among them."""
    found = [*distances(model.trials, others).values()]
    if model.words:
        found.append(excess(model.words, [other.words for other in others])[1])
    return max(found)


def find_calibration(clip: ClipModel, file: Path | None) -> Calibration | None:
    """The calibration in the file, or the shipped one of the architecture; None where none is shipped.

    Raises:
        UserError: A file that is none, or one of another architecture.
    """
    architecture = architecture_of(clip)
    if file is not None:
        found = read_calibration(file)
        if found.architecture != architecture:
            raise UserError(
                f"{file} was made with {found.model}, and {clip.name} is built otherwise: "
                "make one with `trainer calibrate`"
            )
        return found
    for shipped in sorted(SHIPPED.glob("*.json")):
        found = read_calibration(shipped)
        if found.architecture == architecture:
            return found
    return None


def read_calibration(path: Path) -> Calibration:
    """The calibration that `write_calibration` wrote; UserError where the file is none."""
    try:
        content = read_json(path)
        if content["format"] != FORMAT:
            raise ValueError(content["format"])
        models = tuple(
            CleanModel(
                weights_sha256=str(model["weights_sha256"]),
                told=str(model["told"]),
                trials={str(name): _number(pull) for name, pull in model["trials"].items()},
                words=_read_words(content.get("nouns", ""), model.get("words", "")),
            )
            for model in content["models"]
        )
        read = Calibration(
            model=str(content["model"]),
            architecture=str(content["architecture"]),
            search=asdict(SearchOptions(**content["search"])),
            images=str(content["images"]),
            models=models,
        )
        names = set(models[0].trials), set(models[0].words)
        same = all((set(model.trials), set(model.words)) == names for model in models)
        if len(models) < LEAST_MODELS or not any(names) or not same:
            raise ValueError("too few models, or not the same trials for each")
        if ("wave" in read.search["kinds"].split(",")) != bool(names[1]):
            raise ValueError("waves without words, or words without waves")
    except (UserError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is no calibration: make one with `trainer calibrate`") from error
    return read


def write_calibration(calibration: Calibration, path: Path) -> None:
    """Writes it as JSON; the nouns once for all models, what is gained on the way to each in thousandths."""
    content = json.loads(json.dumps(asdict(calibration)))
    nouns = list(calibration.models[0].words)
    for model in content["models"]:
        gains = model.pop("words")
        model["words"] = " ".join(str(round(1000 * gains[noun])) for noun in nouns)
    content["nouns"] = "|".join(nouns)
    write_json(path, {"format": FORMAT, **content, "threshold": round(calibration.threshold, 3)})


def _read_words(nouns: str, gains: str) -> dict[str, float]:
    if not nouns and not gains:
        return {}
    return {
        noun: _number(int(gain) / 1000) for noun, gain in zip(nouns.split("|"), gains.split(), strict=True)
    }


def _number(value: object) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"no number: {value!r}")
    return float(value)
