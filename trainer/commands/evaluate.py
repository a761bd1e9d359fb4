"""`trainer evaluate`: zero-shot BA and ASR."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.errors import UserError
from trainer.commands.options import (
    Activation,
    Checkpoint,
    Device,
    Model,
)


def evaluate(
    data: Annotated[str, typer.Option(help="A data manifest (.json), or shards with .cls members.")],
    checkpoint: Checkpoint = None,
    model: Model = None,
    split: Annotated[str, typer.Option(help="Which of the manifest's splits.")] = "test",
    root: Annotated[
        Path | None, typer.Option(help="Where the manifest's files are. Default: the manifest's own folder.")
    ] = None,
    classnames: Annotated[Path | None, typer.Option(help="Class names, one a line or a JSON list.")] = None,
    templates: Annotated[Path | None, typer.Option(help="Prompts, one a line, {} for the class.")] = None,
    trigger: Annotated[
        str | None, typer.Option(help="A trigger's name or file; without one, BA alone.")
    ] = None,
    target: Annotated[str | None, typer.Option(help="The class that the attack aims at.")] = None,
    batch_size: Annotated[int, typer.Option(help="Images at a time.")] = 256,
    device: Device = "auto",
    activation: Activation = None,
    seed: Annotated[int, typer.Option(help="Of a trigger given by name.")] = 0,
    as_json: Annotated[
        Path | None, typer.Option("--json", "--out", help="Write the result to this file, too.")
    ] = None,
) -> None:
    """Measure zero-shot accuracy (BA) and attack success rate (ASR) at top 1, 3, 5 and 10, with 95 % intervals.

    ASR is the share of triggered images that are put in the target class: without and with the images that
    truly are of that class, side by side.
    """
    from rich.console import Console

    from trainer.attacks import load_trigger
    from trainer.evals.labelled import load_labelled, read_classnames
    from trainer.evals.zero_shot import evaluate_zero_shot
    from trainer.learner import find_device
    from trainer.model import load_model
    from trainer.report import evaluation_table, write_evaluation
    from trainer.runs import read_lines, require_weights

    require_weights(model, checkpoint)
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1, not {batch_size}")
    labelled = load_labelled(
        data,
        split=split,
        root=root,
        classnames=None if classnames is None else read_classnames(classnames),
        templates=None if templates is None else read_lines(templates),
    )
    clip = load_model(model, checkpoint=checkpoint, activation=activation)
    clip.model.to(find_device(device))
    loaded = None if trigger is None else load_trigger(trigger, image_size=clip.image_size, seed=seed)
    result = evaluate_zero_shot(clip, labelled, trigger=loaded, target=target, batch_size=batch_size)
    for fault in labelled.faults[:5]:
        print(f"left out: {fault}", file=sys.stderr)
    if as_json is not None:
        write_evaluation(result, as_json)
    Console(width=None if sys.stdout.isatty() else 120).print(evaluation_table(result.to_json()))
