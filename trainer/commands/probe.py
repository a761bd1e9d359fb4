"""`trainer probe`: a linear layer on frozen image features, its BA and ASR."""

import sys
from typing import Annotated, Literal

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
    TriggerName,
)
from trainer.commands.options import Activation, Checkpoint, Device, Model


def probe(
    data: Data,
    checkpoint: Checkpoint = None,
    model: Model = None,
    train_data: Annotated[
        str | None, typer.Option(help="Clean training images where they are another manifest's or shards.")
    ] = None,
    train_split: Annotated[str, typer.Option(help="The split that the layer is trained on.")] = "train",
    split: Split = "test",
    root: Root = None,
    classnames: Classnames = None,
    trigger: TriggerName = None,
    target: Target = None,
    solver: Annotated[
        Literal["lbfgs", "sgd"], typer.Option(help="lbfgs: exact; sgd: for very large training sets.")
    ] = "lbfgs",
    c: Annotated[
        float, typer.Option(help="Weight of the data against the squared weights, as scikit-learn's C.")
    ] = 0.316,
    epochs: Annotated[int, typer.Option(help="Of SGD.")] = 10,
    lr: Annotated[float, typer.Option(help="SGD's first learning rate.")] = 0.1,
    batch_size: EvaluationBatch = 256,
    device: Device = "auto",
    activation: Activation = None,
    seed: Annotated[int, typer.Option(help="Of SGD's order, and of a trigger given by name.")] = 0,
    as_json: Json = None,
) -> None:
    """Measure a linear probe: frozen features, a layer trained on clean images; BA, and ASR with a trigger."""
    from trainer.attacks import load_trigger
    from trainer.evals.labelled import load_labelled, read_classnames
    from trainer.evals.linear_probe import ProbeOptions, evaluate_probe
    from trainer.learner import find_device
    from trainer.model import load_model, require_weights
    from trainer.report import print_evaluations, write_evaluation

    require_weights(model, checkpoint)
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1, not {batch_size}")
    options = ProbeOptions(solver=solver, c=c, epochs=epochs, lr=lr, seed=seed)
    names = None if classnames is None else read_classnames(classnames)
    test = load_labelled(data, split=split, root=root, classnames=names)
    train = load_labelled(train_data or data, split=train_split, root=root, classnames=names)
    if train.shards == test.shards:
        raise UserError("training and test images are the same: give --train-split, or --train-data")
    clip = load_model(model, checkpoint=checkpoint, activation=activation)
    clip.model.to(find_device(device))
    result, facts = evaluate_probe(
        clip,
        train,
        test,
        options=options,
        trigger=None if trigger is None else load_trigger(trigger, image_size=clip.image_size, seed=seed),
        target=target,
        batch_size=batch_size,
    )
    for fault in test.faults[:5]:
        print(f"left out: {fault}", file=sys.stderr)
    if not facts["converged"]:
        print("warning: L-BFGS has not converged: a smaller --c converges sooner", file=sys.stderr)
    if as_json is not None:
        write_evaluation(result, as_json, probe=facts)
    print_evaluations(result)
    print(
        f"trained on {facts['train_images']} images of {facts['train_classes']} classes: "
        f"accuracy there {facts['train_accuracy']:.1f} %, loss {facts['loss']:.4f}, {facts['steps']} steps"
    )
