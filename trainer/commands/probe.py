"""`trainer probe`: a linear layer on frozen image features, its BA and ASR."""

import sys
from dataclasses import replace
from typing import Annotated

import typer

from pipeline.console import from_options
from pipeline.errors import UserError
from trainer.attacks import TriggerChoice
from trainer.commands.evaluation_options import EvaluationBatch, Json, tell_found, tell_left_out
from trainer.commands.options import Device
from trainer.devices import find_device
from trainer.evals.labelled import DataChoice
from trainer.evals.linear_probe import ProbeOptions, evaluate_probe
from trainer.model import ModelChoice
from trainer.report import print_evaluations, write_evaluation


@from_options(omit=("templates", "iterations", "limit"))
def probe(
    data: DataChoice,
    model: ModelChoice,
    trigger: TriggerChoice,
    *,
    train_data: Annotated[
        str | None, typer.Option(help="Clean training images where they are another manifest's or shards.")
    ] = None,
    train_split: Annotated[str, typer.Option(help="The split that the layer is trained on.")] = "train",
    options: ProbeOptions,
    batch_size: EvaluationBatch = 256,
    device: Device = "auto",
    seed: Annotated[int, typer.Option(help="Of SGD's order, and of a trigger given by name.")] = 0,
    as_json: Json = None,
) -> None:
    """Measure a linear probe: frozen features, a layer trained on clean images; BA, and ASR with a trigger."""
    model.check()
    test = data.load()
    tell_found(test)
    train = replace(data, data=train_data or data.data, split=train_split).load()
    if train.shards == test.shards:
        raise UserError("training and test images are the same: give --train-split, or --train-data")
    clip = model.load_trained()
    clip.model.to(find_device(device))
    result, facts = evaluate_probe(
        clip,
        train,
        test,
        options=options,
        trigger=trigger.load(clip.image_size),
        target=trigger.target,
        batch_size=batch_size,
    )
    tell_left_out(test.faults)
    if not facts["converged"]:
        print("warning: L-BFGS has not converged: a smaller --c converges sooner", file=sys.stderr)
    if as_json is not None:
        write_evaluation(result, as_json, probe=facts)
    print_evaluations(result)
    print(
        f"trained on {facts['train_images']} images of {facts['train_classes']} classes: "
        f"accuracy there {facts['train_accuracy']:.1f} %, loss {facts['loss']:.4f}, {facts['steps']} steps"
    )
