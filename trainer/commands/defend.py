"""`trainer defend`: a CLIP that may carry a backdoor in, one that has forgotten it out."""

from typing import Annotated, Literal

import typer

from pipeline.errors import UserError
from trainer.commands.options import (
    Activation,
    BatchNorm,
    BatchSize,
    Checkpoint,
    Device,
    Epochs,
    LogEvery,
    Lr,
    MaxGradientNorm,
    Model,
    Out,
    Precision,
    Resize,
    Resume,
    SaveEvery,
    Seed,
    Shards,
    ShuffleBuffer,
    Storage,
    Warmup,
    WeightDecay,
    Workers,
)


def defend(
    shards: Shards,
    out: Out,
    image_shards: Annotated[
        str | None, typer.Option(help="Where the images are, for text-only shards: one shard beside each.")
    ] = None,
    checkpoint: Checkpoint = None,
    model: Model = None,
    method: Annotated[
        Literal["ft", "cleanclip", "cleanerclip"],
        typer.Option(help="Which losses: the CLIP loss alone; with CleanCLIP's; with the counterfactual."),
    ] = "cleanerclip",
    clean_weight: Annotated[float, typer.Option(help="lambda1, the weight of CleanCLIP's loss.")] = 1.0,
    in_modal_weight: Annotated[
        float, typer.Option(help="Of the in-modal term within CleanCLIP's loss.")
    ] = 1.0,
    counterfactual_weight: Annotated[
        float, typer.Option(help="lambda2, the weight of the counterfactual loss.")
    ] = 1.0,
    tau_positive: Annotated[float, typer.Option(help="Temperature of the positive sub-captions.")] = 0.3,
    tau_negative: Annotated[float, typer.Option(help="Temperature of the counterfactual ones.")] = 0.3,
    negatives: Annotated[
        Literal["in-batch", "own"],
        typer.Option(help="in-batch: all of the step's; own: only the sample's own."),
    ] = "in-batch",
    text_to_image_negatives: Annotated[
        bool, typer.Option(help="Negatives in the text-to-image direction, too.")
    ] = True,
    triples: Annotated[
        str, typer.Option(help="K, samples drawn afresh each epoch that bring sub-captions; or all.")
    ] = "1000",
    triples_enter: Annotated[
        Literal["in-step", "every-step", "extra-steps"],
        typer.Option(
            help="in-step: where their samples fall; every-step: beside every batch, cycled; extra-steps: at the end."
        ),
    ] = "in-step",
    triples_per_step: Annotated[
        int | None, typer.Option(help="every-step: how many. Default: batch size.")
    ] = None,
    epochs: Epochs = 10,
    batch_size: BatchSize = 64,
    lr: Lr = 1e-5,
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
    """Fine-tune a CLIP on clean or suspect shards so that a backdoor is forgotten."""
    from trainer.batches import BatchOptions
    from trainer.losses import CounterfactualOptions
    from trainer.methods import MethodOptions
    from trainer.optim import OptimOptions
    from trainer.runs import print_summary, start
    from trainer.train import TrainOptions

    counterfactual = CounterfactualOptions(
        tau_positive=tau_positive,
        tau_negative=tau_negative,
        negatives=negatives,
        text_to_image_negatives=text_to_image_negatives,
    )
    summary = start(
        command="defend",
        shards=shards,
        image_shards=image_shards,
        model=model,
        checkpoint=checkpoint,
        activation=activation,
        out=out,
        resume=resume,
        method=MethodOptions(
            method=method,
            clean_weight=clean_weight,
            in_modal_weight=in_modal_weight,
            counterfactual_weight=counterfactual_weight,
            counterfactual=counterfactual,
        ),
        batches=BatchOptions(
            batch_size=batch_size,
            seed=seed,
            triples=number_or_all(triples),
            triples_enter=triples_enter,
            triples_per_step=triples_per_step,
            resize=resize,
            shuffle_buffer=shuffle_buffer,
            workers=workers,
        ),
        optim=OptimOptions(
            lr=lr, warmup=warmup, weight_decay=weight_decay, max_gradient_norm=max_gradient_norm
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
    )
    print_summary(summary)


def number_or_all(text: str) -> int | None:
    """K of the triples; None for all of them."""
    if text == "all":
        return None
    if not text.isdigit() or int(text) < 1:
        raise UserError(f"triples must be a number of at least 1, or all, not {text!r}")
    return int(text)
