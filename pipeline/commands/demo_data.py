"""`pipeline demo-data`: a small world to try everything on."""

from typing import Annotated

import typer

from pipeline.commands.options import Out


def demo_data(
    out: Out,
    seed: Annotated[int, typer.Option(help="Another seed gives other scenes of the same world.")] = 0,
    num_train: Annotated[int, typer.Option(help="Captioned scenes of one or two things.")] = 4_000,
    num_test_per_class: Annotated[int, typer.Option(help="Labelled scenes of each of the 30 nouns.")] = 40,
    image_size: Annotated[int, typer.Option(help="Side of the images, in pixels.")] = 64,
) -> None:
    """Drawn scenes with captions as WebDataset shards: a small world to try everything on."""
    from pipeline.demo.data import write_demo_data

    manifest = write_demo_data(
        out, seed=seed, num_train=num_train, num_test_per_class=num_test_per_class, image_size=image_size
    )
    typer.echo(f"wrote {manifest}, {out}/train and {out}/test")
