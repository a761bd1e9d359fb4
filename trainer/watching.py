"""BA and ASR of a given trigger while a defence runs: for curves, never for the defence, which knows nothing of it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.errors import UserError
from trainer.attacks import load_trigger
from trainer.evals.labelled import load_labelled
from trainer.evals.zero_shot import evaluate_zero_shot
from trainer.model import ClipModel

Watch = Callable[[], dict[str, float]]
"""What the model at hand scores: percentages by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchOptions:
    """What is measured in the middle of a run."""

    evaluate_every: int | None = None
    """Steps between evaluations, written to metrics.jsonl; the weights stay the same. Default: none."""
    evaluate_data: str | None = None
    """The images, as in `trainer evaluate --data`: a data manifest with classes, its test split."""
    evaluate_root: Path | None = None
    """Where the manifest's files are. Default: the manifest's own folder."""
    evaluate_trigger: str | None = None
    """The trigger whose ASR is measured: a file, or a name as in `trainer craft-trigger`. Default: BA alone."""
    evaluate_target: str | None = None
    """The class that it aims at."""
    evaluate_limit: int = 1_000
    """Images that are looked at, spread over all."""

    def __post_init__(self) -> None:
        for name in ("evaluate_every", "evaluate_limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name} must be at least 1, not {value}")
        if (self.evaluate_every is None) != (self.evaluate_data is None):
            raise UserError("give --evaluate-every and --evaluate-data together")
        if (self.evaluate_trigger is None) != (self.evaluate_target is None):
            raise UserError("give --evaluate-trigger and --evaluate-target together")


def build_watch(options: WatchOptions, clip: ClipModel, *, seed: int) -> Watch | None:
    """What measures the model as it is when it is called; None where nothing is to be.

    Raises:
        UserError: Images, a trigger or a target that cannot be used.
    """
    if options.evaluate_data is None:
        return None
    data = replace(
        load_labelled(options.evaluate_data, root=options.evaluate_root), limit=options.evaluate_limit
    )
    trigger = None
    if options.evaluate_trigger is not None:
        trigger = load_trigger(options.evaluate_trigger, image_size=clip.image_size, seed=seed)
        data.label_of(str(options.evaluate_target))

    def watch() -> dict[str, float]:
        found = evaluate_zero_shot(clip, data, trigger=trigger, target=options.evaluate_target)
        return {name: round(percent, 3) for name, percent in found.percentages().items()}

    return watch
