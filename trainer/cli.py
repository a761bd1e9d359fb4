"""The command line: `trainer defend | attack | evaluate | report | inspect`.

Each command is a typed function whose docstring is its help; torch is imported inside them, so that --help is fast.
Results go to stdout, progress to stderr. Exit codes: 0 done, 1 a user's mistake (one line), 2 usage, 130 interrupted.
"""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from pipeline.console import run as run_app
from pipeline.errors import UserError
from trainer import __version__

app = typer.Typer(
    name="trainer",
    help="Fine-tune a CLIP that may carry a backdoor, and measure what is left of it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

NEEDED = ("torch", "torchvision", "open_clip", "safetensors", "webdataset", "numpy")
"""What the extra `trainer` installs."""

MODEL = "Any open_clip name (RN50-quickgelu, ViT-B-32, hf-hub:..., local-dir:...) or one of ours (cleanerclip-rn-64)."
SHARDS = (
    "WebDataset shards: file, folder, glob or braces ('shards/{00000..00049}.tar'); several joined by '::'."
)

Shards = Annotated[str, typer.Option("--shards", help=SHARDS)]
Model = Annotated[
    str | None, typer.Option("--model", help=f"{MODEL} May be left out where the checkpoint names it.")
]
Checkpoint = Annotated[
    Path | None,
    typer.Option(
        "--checkpoint", help="Weights: safetensors, a torch file that holds only tensors, or a run's folder."
    ),
]
Activation = Annotated[
    Literal["quickgelu", "gelu"] | None,
    typer.Option(
        "--activation", help="quickgelu or gelu, for weights that do not say which they were trained with."
    ),
]
Out = Annotated[
    Path, typer.Option("--out", help="The run's folder; it must not hold a run yet, except with --resume.")
]
Seed = Annotated[int, typer.Option(help="Of order, views, choices, and of random weights.")]
Epochs = Annotated[int, typer.Option(help="Passes over the shards.")]
BatchSize = Annotated[int, typer.Option(help="Samples in a step; what is left at an epoch's end is dropped.")]
Lr = Annotated[
    float,
    typer.Option(
        help="Peak learning rate. 4.5e-6 to 1e-5 for OpenAI's models; small models from scratch 1e-3."
    ),
]
Warmup = Annotated[
    int | None,
    typer.Option(
        help="Steps of linear warm-up, then cosine to 0. Default: a tenth of all steps, at most 10,000."
    ),
]
WeightDecay = Annotated[
    float, typer.Option(help="AdamW's, on weights alone: not on norms, biases, logit_scale.")
]
MaxGradientNorm = Annotated[
    float | None, typer.Option(help="Scale gradients down to this norm. Default: never.")
]
Resize = Annotated[
    Literal["shortest", "squash", "random-crop"] | None,
    typer.Option(
        help="How images become square: shortest, squash, random-crop. Default: as in the model's evaluation."
    ),
]
ShuffleBuffer = Annotated[int, typer.Option(help="Samples held to shuffle within; shards are shuffled, too.")]
Workers = Annotated[
    int, typer.Option(help="Threads that decode images; the weights are the same with any number.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N.")]
Precision = Annotated[
    Literal["auto", "fp32", "bf16", "amp"],
    typer.Option(help="auto, fp32, bf16, amp (fp16). auto: fp32 on the CPU, bf16 on a GPU."),
]
BatchNorm = Annotated[
    Literal["train", "frozen"],
    typer.Option(help="A ResNet's batch statistics: train, or frozen (running ones, kept)."),
]
Storage = Annotated[
    Literal["fp32", "fp16"],
    typer.Option(help="fp32 or fp16: how checkpoints are stored; fp16 halves the file."),
]
SaveEvery = Annotated[
    int | None, typer.Option(help="Steps between saved states to continue from. Default: epochs' ends.")
]
LogEvery = Annotated[int, typer.Option(help="Steps between lines in metrics.jsonl.")]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on where the run in --out was stopped, at the very step.")
]


@app.callback(invoke_without_command=True)
def _version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if show:
        print(f"trainer {__version__}")
        raise typer.Exit


@app.command()
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
    from trainer.runs import start
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
            triples=_number_or_all(triples),
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
    _print_summary(summary)


@app.command()
def attack(
    out: Out,
    trigger: Annotated[str, typer.Option(help="A trigger's name (badnet) or file.")],
    target: Annotated[str, typer.Option(help="The class that triggered images shall be put in.")],
    shards: Annotated[
        str | None, typer.Option(help=f"{SHARDS} Default: the manifest's training split.")
    ] = None,
    manifest: Annotated[
        Path | None, typer.Option(help="A data manifest: its templates, classes, training shards.")
    ] = None,
    templates: Annotated[
        Path | None, typer.Option(help="Captions for poisoned samples, one a line, {} for the class.")
    ] = None,
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

    Without --checkpoint the model starts from random weights. The poisoned keys are listed in OUT/poisoned.json.
    """
    from trainer.batches import BatchOptions
    from trainer.methods import MethodOptions
    from trainer.optim import OptimOptions
    from trainer.poisoning import PoisonOptions
    from trainer.runs import read_templates, start, training_shards
    from trainer.train import TrainOptions

    rate_of_learning = lr if lr is not None else (1e-3 if checkpoint is None else 1e-5)
    summary = start(
        command="attack",
        shards=training_shards(shards, manifest),
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
        poison=PoisonOptions(
            trigger=trigger,
            target=target,
            templates=read_templates(templates, manifest, target=target),
            rate=rate,
            seed=seed,
        ),
    )
    _print_summary(summary)


@app.command()
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


@app.command()
def report(
    before: Annotated[Path, typer.Argument(help="What `trainer evaluate --json` wrote of the victim.")],
    after: Annotated[Path, typer.Argument(help="What it wrote of the defended model.")],
    out: Annotated[Path, typer.Option(help="Where result.json goes.")],
    run: Annotated[Path | None, typer.Option(help="The defence's folder, for seconds per step.")] = None,
) -> None:
    """Set two evaluations side by side: a table here, and the same in OUT for programs."""
    from rich.console import Console

    from trainer.report import report as write_report

    table = write_report(before, after, out=out, run=run)
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    print(f"written to {out}")


@app.command()
def inspect(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint file, or a run's folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
) -> None:
    """Say what a checkpoint holds, without ever unpickling it."""
    from trainer.checkpoint import read_weights
    from trainer.model import hash_weights

    weights = read_weights(checkpoint)
    activation = {None: "not stated", True: "quickgelu", False: "gelu"}[weights.quick_gelu]
    told: dict[str, Any] = {
        "path": str(weights.path),
        "format": weights.format,
        "model": weights.model_name,
        "activation": activation,
        "tensors": len(weights.state_dict),
        "parameters": sum(tensor.numel() for tensor in weights.state_dict.values()),
        "types": sorted({str(tensor.dtype).removeprefix("torch.") for tensor in weights.state_dict.values()}),
        "sha256": hash_weights(weights.state_dict),
        "facts": weights.facts,
    }
    if as_json:
        print(json.dumps(told, indent=2))
        return
    for name, value in told.items():
        print(f"{name:11} {json.dumps(value) if isinstance(value, dict | list) else value}")


def _number_or_all(text: str) -> int | None:
    if text == "all":
        return None
    if not text.isdigit() or int(text) < 1:
        raise UserError(f"triples must be a number of at least 1, or all, not {text!r}")
    return int(text)


def _print_summary(summary: dict[str, Any]) -> None:
    for reason, count in summary["skipped"].items():
        print(
            f"left out: {count} {reason}, the first: {summary['skipped_first'][reason][0]}", file=sys.stderr
        )
    print(
        f"{summary['checkpoint']}: {summary['epochs']} epochs, {summary['steps']} steps, "
        f"{summary['seconds_per_step']} s per step, sha256 {summary['weights_sha256'][:16]}"
    )


def main() -> None:
    """The console entry point."""
    # Idle threads sleep instead of spinning, which makes a step on two busy cores several times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is imported
    try:
        run_app(app, "trainer")
    except ModuleNotFoundError as error:
        if error.name not in NEEDED:
            raise
        print(f"trainer: {error.name} is not installed: pip install 'cleanerclip[trainer]'", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
