"""The command line: `trainer COMMAND`, each command a function of `trainer.commands`.

Results go to stdout, progress to stderr. Exit codes: 0 done, 1 a user's mistake (one line), 2 usage, 130 interrupted.
"""

import os
import sys
from typing import Annotated

import typer

from pipeline.console import run as run_app
from trainer import __version__
from trainer.commands.attack import attack
from trainer.commands.craft_trigger import craft_trigger
from trainer.commands.data import app as data
from trainer.commands.defend import defend
from trainer.commands.evaluate import evaluate
from trainer.commands.inspect import inspect
from trainer.commands.poison import poison
from trainer.commands.probe import probe
from trainer.commands.report import report
from trainer.commands.retrieve import retrieve

app = typer.Typer(
    name="trainer",
    help="Fine-tune a CLIP that may carry a backdoor, and measure what is left of it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (defend, craft_trigger, attack, poison, evaluate, probe, retrieve, report, inspect):
    app.command()(command)
app.add_typer(data, name="data")

NEEDED = ("torch", "torchvision", "open_clip", "safetensors", "webdataset", "numpy")
"""What the extra `trainer` installs."""


@app.callback(invoke_without_command=True)
def _version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if show:
        print(f"trainer {__version__}")
        raise typer.Exit


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
