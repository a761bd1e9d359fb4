"""The command line: `trainer COMMAND`, each command a function of `trainer.commands`.

Results go to stdout, progress to stderr. Exit codes: 0 done, 1 a user's mistake (one line), 2 usage, 130 interrupted.
"""

import os
from typing import Annotated

import typer

from pipeline.console import Command, lazy_app, run
from trainer import __version__

COMMANDS = {
    "defend": Command(
        "trainer.commands.defend:defend",
        "Fine-tune a CLIP on clean or suspect shards so that a backdoor is forgotten.",
    ),
    "evaluate": Command(
        "trainer.commands.evaluate:evaluate",
        "Measure zero-shot accuracy (BA) and attack success rate (ASR), with 95 % intervals.",
    ),
    "probe": Command("trainer.commands.probe:probe", "Measure a linear probe on frozen features."),
    "retrieve": Command("trainer.commands.retrieve:retrieve", "Measure retrieval at 1, 5 and 10."),
    "bench": Command(
        "trainer.commands.bench:bench", "Compare defences: attacks x methods x seeds, side by side."
    ),
    "audit": Command(
        "trainer.commands.audit:audit", "Look for signs of a backdoor whose trigger is not known."
    ),
    "calibrate": Command(
        "trainer.commands.audit:calibrate", "Measure clean models, for the audit of an architecture."
    ),
    "report": Command("trainer.commands.report:report", "Set two evaluations side by side."),
    "inspect": Command(
        "trainer.commands.inspect:inspect", "Say what a checkpoint holds, without ever unpickling it."
    ),
    "convert": Command(
        "trainer.commands.convert:convert", "Write a model for open_clip or transformers, with a model card."
    ),
    "data": Command(
        "trainer.commands.data:app", "Known data sets, and whether a local copy is the one described."
    ),
    "craft-trigger": Command(
        "trainer.commands.craft_trigger:craft_trigger",
        "Make a trigger and write it to a file that is the same everywhere.",
    ),
    "poison": Command(
        "trainer.commands.poison:poison", "Write shards of which a share of the samples carries a trigger."
    ),
    "attack": Command(
        "trainer.commands.attack:attack", "Make a victim: train on shards of which a share is poisoned."
    ),
}
app = lazy_app("Fine-tune a CLIP that may carry a backdoor, and measure what is left of it.", COMMANDS)

OF_TRAINER = ("torch", "torchvision", "open_clip", "safetensors", "webdataset", "numpy")
EXTRAS = {name: "trainer" for name in OF_TRAINER} | {"matplotlib": "report"}
"""Which extra installs a package that some commands need."""


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
    run(app, "trainer", extras=EXTRAS)


if __name__ == "__main__":
    main()
