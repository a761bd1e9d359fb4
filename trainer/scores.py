"""What an evaluation found, as plain values: benign accuracy (BA), attack success rate (ASR), what each class lost.

BA at k: the true class is among the first k, clean images. ASR at k: the target is among the first k, the same images
with the trigger. Some public repositories count images of the target class in the ASR, some don't: both are given,
and "ASR" alone means without them. How many of those images the model puts in the target without any trigger stands
beside it: an attack is what comes on top. Intervals are Wilson's, 95 %. No torch here: reports are made without it.
"""

from dataclasses import asdict, dataclass
from typing import Any, Final

TOP_K: Final = (1, 3, 5, 10)
Z_95: Final = 1.959963984540054
FOOLED_POINTS: Final = 10.0
"""A trigger that lifts a clean model's share of images in the target by more points is an adversarial patch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """How many of how many, with its 95 % interval: all three in percent."""

    hits: int
    n: int
    percent: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassScore:
    """One class: how many of its images are known, and how many are put in the target."""

    name: str
    n: int
    """Images of the class."""
    hits: int
    """Clean images put in their own class."""
    to_target: int | None
    """Clean images put in the target class; None without a target."""
    to_target_triggered: int | None
    """The same with the trigger; None without one."""

    @property
    def ba1(self) -> float | None:
        """Percent; None for a class without images."""
        return 100 * self.hits / self.n if self.n else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What one evaluation found. A k above the number of classes is left out."""

    how: str
    """zero-shot, or linear probe."""
    data: str
    num_classes: int
    num_templates: int
    """0 for a linear probe, which reads no class name."""
    num_left_out: int
    """Samples that could not be read."""
    images_sha256: str
    """Over key, label and clean pixels (as the model takes them) of every image, in order."""
    prompts_sha256: str
    """Over class names and templates."""
    model: str
    weights_sha256: str
    target: str | None
    trigger_kind: str | None
    trigger_sha256: str | None
    ba: dict[int, Share]
    asr: dict[int, Share]
    """Images of the target class left out; empty without a trigger."""
    asr_with_target: dict[int, Share]
    """Images of the target class counted, too."""
    clean_as_target: Share | None
    """Images of other classes that are put in the target without any trigger; None without a target."""
    classes: tuple[ClassScore, ...]
    """In the labels' order."""

    def percentages(self) -> dict[str, float]:
        """`ba1 ba3 ... asr1 asr3 ...`: percent, 0 to 100."""
        shares = {f"ba{k}": share for k, share in self.ba.items()} | {
            f"asr{k}": share for k, share in self.asr.items()
        }
        return {name: share.percent for name, share in shares.items()}

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values: the percentages flat, each share with hits, n and interval, each class."""
        shares = {name: {str(k): asdict(s) for k, s in getattr(self, name).items()} for name in _SHARES}
        facts = {name: getattr(self, name) for name in self.__slots__ if name not in (*_SHARES, *_NESTED)}
        return {
            **self.percentages(),
            **facts,
            **shares,
            "asr_definition": "images of the target class left out",
            "clean_as_target": None if self.clean_as_target is None else asdict(self.clean_as_target),
            "classes": [asdict(score) | {"ba1": score.ba1} for score in self.classes],
        }


_SHARES: Final = ("ba", "asr", "asr_with_target")
_NESTED: Final = ("clean_as_target", "classes")


def wilson(hits: int, n: int) -> Share:
    """The share hits / n with Wilson's 95 % interval, in percent; n must be above 0."""
    p, z2 = hits / n, Z_95**2
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 / (1 + z2 / n) * (p * (1 - p) / n + z2 / (4 * n * n)) ** 0.5
    low, high = 0.0 if hits == 0 else middle - half, 1.0 if hits == n else middle + half
    return Share(hits=hits, n=n, percent=100 * p, low=100 * low, high=100 * high)
