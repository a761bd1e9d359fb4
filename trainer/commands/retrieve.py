"""`trainer retrieve`: R@1, R@5 and R@10 on a captioned set."""

import sys
from typing import Annotated

import typer
from rich.console import Console

from pipeline.console import from_options
from pipeline.storage import write_json
from trainer.commands.evaluation_options import EvaluationBatch, Json, tell_left_out
from trainer.commands.options import Device
from trainer.devices import find_device
from trainer.evals.captioned import load_captioned
from trainer.evals.labelled import DataChoice
from trainer.evals.retrieval import evaluate_retrieval
from trainer.model import ModelChoice
from trainer.report import retrieval_table


@from_options(omit=("classnames", "templates", "limit"))
def retrieve(
    data: Annotated[
        str,
        typer.Option(
            help="A data manifest (a .json, or a shipped one's name), or shards with images and captions."
        ),
    ],
    where: DataChoice,
    model: ModelChoice,
    *,
    batch_size: EvaluationBatch = 256,
    device: Device = "auto",
    as_json: Json = None,
) -> None:
    """Measure retrieval at 1, 5 and 10: one of an image's captions among the first k, and a caption's image."""
    model.check()
    captioned = load_captioned(data, split=where.split, root=where.root)
    clip = model.load_trained()
    clip.model.to(find_device(device))
    result = evaluate_retrieval(clip, captioned, batch_size=batch_size)
    tell_left_out(captioned.faults)
    if as_json is not None:
        as_json.parent.mkdir(parents=True, exist_ok=True)
        write_json(as_json, result.to_json())
    Console(width=None if sys.stdout.isatty() else 120).print(retrieval_table(result.to_json()))
