"""`trainer convert`: a run or checkpoint as others' files, with a model card."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.console import from_options
from trainer import conversion
from trainer.model import ModelChoice


@from_options()
def convert(
    checkpoint: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, or any checkpoint.")],
    *,
    to: Annotated[
        conversion.Target,
        typer.Option(
            help="A torch file for open_clip's --pretrained, open_clip's folder, transformers', or OpenAI's state dict."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    model: ModelChoice,
    evaluation: Annotated[
        list[Path] | None,
        typer.Option(help="What `trainer evaluate --json` wrote, for the model card; may be given again."),
    ] = None,
    audit: Annotated[
        list[Path] | None,
        typer.Option(
            help="What `trainer audit --json` wrote, for the model card; may be given again. Those that "
            "`trainer defend --audit` left in RUN are in it anyway."
        ),
    ] = None,
) -> None:
    """Write a model for open_clip or transformers: the same embeddings, and a card that says what was done to it."""
    clip = model.load()
    card = conversion.model_card(clip, checkpoint, evaluations=evaluation or (), audits=audit or ())
    names = conversion.convert(clip, to, out, card=card)
    print(f"wrote {out}: {', '.join(names)} (weights {clip.sha256[:12]})")
