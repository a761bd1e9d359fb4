"""`trainer evaluate`: zero-shot BA and ASR, of a suspect model and, to compare, of a clean one."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.console import from_options
from pipeline.errors import UserError
from trainer.attacks import TriggerChoice
from trainer.classes import shared_names
from trainer.commands.evaluation_options import EvaluationBatch, Json, tell_found, tell_left_out
from trainer.commands.options import Device
from trainer.data import find_shards, index_shards
from trainer.devices import find_device
from trainer.evals.counterfactuals import evaluate_counterfactuals
from trainer.evals.diagnosis import places_of
from trainer.evals.epochs import evaluate_epochs
from trainer.evals.labelled import DataChoice, LabelledImages
from trainer.evals.sanity import draw_both, load_clean, look_at_both
from trainer.model import ClipModel, ModelChoice
from trainer.report import print_evaluations, write_evaluation


@from_options()
def evaluate(
    data: DataChoice,
    model: ModelChoice,
    trigger: TriggerChoice,
    *,
    clean_checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="The same model without the attack: evaluated, too. A trigger that fools it is no backdoor."
        ),
    ] = None,
    pictures: Annotated[
        Path | None,
        typer.Option(help="Draw clean and triggered images, and the classes they are put in, into this PNG."),
    ] = None,
    counterfactuals: Annotated[
        str | None,
        typer.Option(
            help="Shards with sub-captions: how often an image is nearer to its positive than to a negative, per kind."
        ),
    ] = None,
    by_epoch: Annotated[
        bool,
        typer.Option(
            "--by-epoch", help="Evaluate each epoch that the run keeps, too: in --json, for `trainer report`."
        ),
    ] = False,
    batch_size: EvaluationBatch = 256,
    device: Device = "auto",
    as_json: Json = None,
) -> None:
    """Measure zero-shot accuracy (BA) and attack success rate (ASR) at top 1, 3, 5 and 10, with 95 % intervals.

    ASR is the share of triggered images that are put in the target class: without and with the images that
    truly are of that class, side by side, and beside it what is put there without any trigger.
    """
    for option, value in (("--clean-checkpoint", clean_checkpoint), ("--pictures", pictures)):
        if value is not None and (trigger.trigger is None or trigger.target is None):
            raise UserError(f"{option} shows what a trigger does: give --trigger and --target, too")
    model.check()
    labelled = data.load()
    tell_found(labelled)
    clip = model.load_trained()
    clean = None if clean_checkpoint is None else load_clean(clean_checkpoint, like=clip)
    for each in (clip, clean):
        if each is not None:
            each.model.to(find_device(device))
    suspect, compared = look_at_both(
        clip, clean, labelled, load=trigger.load, target=trigger.target, batch_size=batch_size
    )
    for name in shared_names(labelled.classnames):
        print(f"{name!r} is the name of several classes: only the first can be right", file=sys.stderr)
    tell_left_out(suspect.faults)
    clean_result = None if compared is None else compared.evaluation
    epochs = _of_epochs(model, labelled, clip, trigger, batch_size=batch_size) if by_epoch else {}
    more = {} if counterfactuals is None else _of_subcaptions(clip, counterfactuals)
    if as_json is not None:
        places = _of_places(clip, labelled, trigger)
        write_evaluation(suspect.evaluation, as_json, clean_model=clean_result, **more, **epochs, **places)
    print_evaluations(suspect.evaluation, clean_model=clean_result)
    if counterfactuals is not None:
        told = ", ".join(
            f"{kind} {share['percent']:.1f} % ({share['low']:.1f} to {share['high']:.1f}, n {share['n']})"
            for kind, share in more["counterfactuals"]["kinds"].items()
        )
        print(f"nearer to the positive than to the negative: {told}")
    if pictures is not None:
        draw_both(suspect, compared, pictures, classnames=labelled.classnames)
        print(f"drawn: {pictures}")


def _of_subcaptions(clip: ClipModel, shards: str) -> dict[str, Any]:
    return {"counterfactuals": asdict(evaluate_counterfactuals(clip, index_shards(find_shards(shards))))}


def _of_epochs(
    model: ModelChoice, data: LabelledImages, clip: ClipModel, trigger: TriggerChoice, *, batch_size: int
) -> dict[str, Any]:
    """BA and ASR of each epoch that the run keeps."""
    loaded = trigger.load(clip.image_size)
    run = model.checkpoint or Path()
    target = trigger.target
    return {
        "by_epoch": evaluate_epochs(
            run, data, like=clip, trigger=loaded, target=target, batch_size=batch_size
        )
    }


def _of_places(clip: ClipModel, data: LabelledImages, trigger: TriggerChoice) -> dict[str, Any]:
    """Where some triggered images lie; nothing without a trigger."""
    loaded = trigger.load(clip.image_size)
    if loaded is None or trigger.target is None:
        return {}
    return {"places": asdict(places_of(clip, data, loaded, trigger.target))}
