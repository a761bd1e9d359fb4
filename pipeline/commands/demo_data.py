"""`pipeline demo-data`: a small world to try everything on."""

import typer

from pipeline.commands.options import Out
from pipeline.console import from_options
from pipeline.demo.data import DemoOptions, write_demo_data


@from_options()
def demo_data(out: Out, options: DemoOptions) -> None:
    """Drawn scenes with captions as WebDataset shards: a small world to try everything on."""
    manifest = write_demo_data(out, options)
    typer.echo(f"wrote {manifest}, {out}/train and {out}/test")
