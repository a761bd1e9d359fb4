"""`trainer retrieve`: R@1, R@5 and R@10 on a captioned set."""

import sys
from typing import Annotated

import typer

from pipeline.errors import UserError
from trainer.commands.evaluation_options import EvaluationBatch, Json, Root, Split
from trainer.commands.options import Activation, Checkpoint, Device, Model


def retrieve(
    data: Annotated[
        str,
        typer.Option(
            help="A data manifest (a .json, or a shipped one's name), or shards with images and captions."
        ),
    ],
    checkpoint: Checkpoint = None,
    model: Model = None,
    split: Split = "test",
    root: Root = None,
    batch_size: EvaluationBatch = 256,
    device: Device = "auto",
    activation: Activation = None,
    as_json: Json = None,
) -> None:
    """Measure retrieval at 1, 5 and 10: one of an image's captions among the first k, and a caption's image."""
    from rich.console import Console

    from pipeline.storage import write_json
    from trainer.evals.captioned import load_captioned
    from trainer.evals.retrieval import evaluate_retrieval
    from trainer.learner import find_device
    from trainer.model import load_model, require_weights
    from trainer.report import retrieval_table

    require_weights(model, checkpoint)
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1, not {batch_size}")
    captioned = load_captioned(data, split=split, root=root)
    clip = load_model(model, checkpoint=checkpoint, activation=activation)
    clip.model.to(find_device(device))
    result = evaluate_retrieval(clip, captioned, batch_size=batch_size)
    for fault in captioned.faults[:5]:
        print(f"left out: {fault}", file=sys.stderr)
    if as_json is not None:
        as_json.parent.mkdir(parents=True, exist_ok=True)
        write_json(as_json, result.to_json())
    Console(width=None if sys.stdout.isatty() else 120).print(retrieval_table(result.to_json()))
