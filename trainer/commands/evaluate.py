"""`trainer evaluate`: zero-shot BA and ASR, of a suspect model and, to compare, of a clean one."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.errors import UserError
from trainer.commands.evaluation_options import (
    Classnames,
    Data,
    EvaluationBatch,
    Json,
    Root,
    Split,
    Target,
    Templates,
    TriggerName,
    TriggerSeed,
)
from trainer.commands.options import (
    Activation,
    Checkpoint,
    Device,
    Model,
)


def evaluate(
    data: Data,
    checkpoint: Checkpoint = None,
    model: Model = None,
    split: Split = "test",
    root: Root = None,
    classnames: Classnames = None,
    templates: Templates = None,
    trigger: TriggerName = None,
    target: Target = None,
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
    batch_size: EvaluationBatch = 256,
    device: Device = "auto",
    activation: Activation = None,
    seed: TriggerSeed = 0,
    as_json: Json = None,
) -> None:
    """Measure zero-shot accuracy (BA) and attack success rate (ASR) at top 1, 3, 5 and 10, with 95 % intervals.

    ASR is the share of triggered images that are put in the target class: without and with the images that
    truly are of that class, side by side, and beside it what is put there without any trigger.
    """
    from trainer.attacks import load_trigger
    from trainer.classes import shared_names
    from trainer.evals.labelled import load_labelled, read_classnames
    from trainer.evals.sanity import draw_both, load_clean, look_at_both
    from trainer.learner import find_device
    from trainer.model import load_model, require_weights
    from trainer.report import print_evaluations, write_evaluation
    from trainer.training_inputs import read_lines

    require_weights(model, checkpoint)
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1, not {batch_size}")
    for option, value in (("--clean-checkpoint", clean_checkpoint), ("--pictures", pictures)):
        if value is not None and (trigger is None or target is None):
            raise UserError(f"{option} shows what a trigger does: give --trigger and --target, too")
    labelled = load_labelled(
        data,
        split=split,
        root=root,
        classnames=None if classnames is None else read_classnames(classnames),
        templates=None if templates is None else read_lines(templates),
    )
    clip = load_model(model, checkpoint=checkpoint, activation=activation)
    clean = None if clean_checkpoint is None else load_clean(clean_checkpoint, like=clip)
    for each in (clip, clean):
        if each is not None:
            each.model.to(find_device(device))
    suspect, compared = look_at_both(
        clip,
        clean,
        labelled,
        load=lambda size: None if trigger is None else load_trigger(trigger, image_size=size, seed=seed),
        target=target,
        batch_size=batch_size,
    )
    for name in shared_names(labelled.classnames):
        print(f"{name!r} is the name of several classes: only the first can be right", file=sys.stderr)
    for fault in suspect.faults[:5]:
        print(f"left out: {fault}", file=sys.stderr)
    clean_result = None if compared is None else compared.evaluation
    if as_json is not None:
        write_evaluation(suspect.evaluation, as_json, clean_model=clean_result)
    print_evaluations(suspect.evaluation, clean_model=clean_result)
    if pictures is not None:
        draw_both(suspect, compared, pictures, classnames=labelled.classnames)
        print(f"drawn: {pictures}")
