"""A run's kept epochs, each evaluated as the run is: how BA and ASR went while it trained.

Called by `trainer evaluate --by-epoch`; `trainer report` draws it.
"""

from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from trainer.attacks.trigger import Trigger
from trainer.checkpoint import epoch_of
from trainer.evals.labelled import LabelledImages
from trainer.evals.zero_shot import evaluate_zero_shot
from trainer.log import say
from trainer.model import Activation, ClipModel, load_model


def evaluate_epochs(
    run: Path,
    data: LabelledImages,
    *,
    like: ClipModel,
    trigger: Trigger | None,
    target: str | None,
    batch_size: int = 256,
) -> list[dict[str, Any]]:
    """`epoch`, `ba1` and `asr1` (percent; None without a trigger) of each epoch that the run's folder keeps, in order.

    `like` is the run's model: architecture, activation and device. UserError where the folder keeps no epochs.
    """
    files = sorted(run.glob("checkpoints/epoch_*.safetensors"), key=epoch_of) if run.is_dir() else []
    if not files:
        raise UserError(f"{run} keeps no epochs: --by-epoch wants the folder of a run")
    activation: Activation = "quickgelu" if like.config.get("quick_gelu") else "gelu"
    rows = []
    for file in files:
        clip = load_model(like.name, checkpoint=file, activation=activation)
        clip.model.to(next(like.model.parameters()).device)
        found = evaluate_zero_shot(clip, data, trigger=trigger, target=target, batch_size=batch_size)
        asr1 = found.asr[1].percent if found.asr else None
        rows.append({"epoch": epoch_of(file), "ba1": found.ba[1].percent, "asr1": asr1})
        say(
            f"epoch {rows[-1]['epoch']}: BA {rows[-1]['ba1']:.1f}"
            + ("" if asr1 is None else f", ASR {asr1:.1f}")
        )
    return rows
