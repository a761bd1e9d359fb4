"""`trainer attack`: a victim, trained on shards of which a share is poisoned."""

from typing import Annotated

import typer

from pipeline.errors import UserError
from trainer.commands.options import (
    Activation,
    BatchNorm,
    BatchSize,
    Captions,
    Checkpoint,
    Device,
    Epochs,
    LabelConsistent,
    LogEvery,
    Manifest,
    MaxGradientNorm,
    Model,
    Out,
    Precision,
    Resize,
    Resume,
    SaveEvery,
    Seed,
    ShuffleBuffer,
    Storage,
    Templates,
    TrainingShards,
    Warmup,
    WeightDecay,
    Workers,
)


def attack(
    out: Out,
    trigger: Annotated[
        str | None,
        typer.Option(
            help="A trigger's name (badnet) or file. Default: the shards are trained on as they are."
        ),
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="The class that triggered images shall be put in.")
    ] = None,
    shards: TrainingShards = None,
    manifest: Manifest = None,
    templates: Templates = None,
    captions: Captions = "templates",
    label_consistent: LabelConsistent = False,
    rate: Annotated[float, typer.Option(help="Share of samples to poison; 0 trains a clean model.")] = 0.02,
    model: Model = None,
    checkpoint: Checkpoint = None,
    epochs: Epochs = 5,
    batch_size: BatchSize = 128,
    lr: Annotated[
        float | None,
        typer.Option(help="Peak learning rate. Default: 1e-5 with --checkpoint, 1e-3 from random weights."),
    ] = None,
    warmup: Warmup = None,
    weight_decay: WeightDecay = 0.1,
    max_gradient_norm: MaxGradientNorm = None,
    batch_norm: BatchNorm = "train",
    resize: Resize = None,
    shuffle_buffer: ShuffleBuffer = 2_000,
    workers: Workers = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    storage: Storage = "fp32",
    save_every: SaveEvery = None,
    log_every: LogEvery = 10,
    activation: Activation = None,
    seed: Seed = 0,
    resume: Resume = False,
) -> None:
    """Make a victim: train on shards of which a share carries the trigger and a caption of the target class.

    The share is poisoned on the fly, and listed in OUT/poisoned.json; without --trigger the shards are taken as they
    are: clean, or poisoned by `trainer poison`. Without --checkpoint the model starts from random weights.
    """
    from trainer.batches import BatchOptions
    from trainer.manifests import require_manifest
    from trainer.methods import MethodOptions
    from trainer.optim import OptimOptions
    from trainer.poisoning import PoisonOptions
    from trainer.runs import print_summary, start
    from trainer.train import TrainOptions
    from trainer.training_inputs import read_templates, training_shards

    described = None if manifest is None else require_manifest(manifest)
    training = training_shards(shards, described)
    poison = None
    if trigger is not None and target is not None:
        needed = captions == "templates" and not label_consistent
        poison = PoisonOptions(
            trigger=trigger,
            target=target,
            templates=read_templates(templates, described, target=target, needed=needed),
            rate=rate,
            captions=captions,
            label_consistent=label_consistent,
            seed=seed,
        )
    elif trigger is not None or target is not None:
        raise UserError(
            "--trigger and --target go together: leave both out to train on the shards as they are"
        )
    rate_of_learning = lr if lr is not None else (1e-3 if checkpoint is None else 1e-5)
    summary = start(
        command="attack",
        shards=training,
        model=model,
        checkpoint=checkpoint,
        activation=activation,
        out=out,
        resume=resume,
        method=MethodOptions(method="ft"),
        batches=BatchOptions(
            batch_size=batch_size,
            seed=seed,
            resize=resize,
            shuffle_buffer=shuffle_buffer,
            workers=workers,
        ),
        optim=OptimOptions(
            lr=rate_of_learning, warmup=warmup, weight_decay=weight_decay, max_gradient_norm=max_gradient_norm
        ),
        options=TrainOptions(
            epochs=epochs,
            device=device,
            precision=precision,
            batch_norm=batch_norm,
            storage=storage,
            save_every=save_every,
            log_every=log_every,
        ),
        poison=poison,
    )
    print_summary(summary)
