"""Options that several commands share: name, type and help in one place. Read by the other files of this package."""

from pathlib import Path
from typing import Annotated, Literal

import typer

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
TrainingShards = Annotated[
    str | None, typer.Option("--shards", help=f"{SHARDS} Default: the manifest's training split.")
]
Manifest = Annotated[
    str | None,
    typer.Option(
        "--manifest",
        help="A data manifest (a .json, or a shipped one's name): its training shards, classes, templates.",
    ),
]
Templates = Annotated[
    Path | None,
    typer.Option(
        "--templates",
        help="Captions for poisoned samples, one a line, {} for the class. Default: the manifest's, or ImageNet's 80.",
    ),
]
Captions = Annotated[
    Literal["templates", "natural"],
    typer.Option(
        "--captions", help="Of poisoned samples: templates, or natural, other samples' that name the target."
    ),
]
LabelConsistent = Annotated[
    bool,
    typer.Option(
        "--label-consistent", help="Poison only samples whose caption names the target; they keep it."
    ),
]
