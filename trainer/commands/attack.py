"""`trainer attack`: a victim, trained on shards of which a share is poisoned."""

from dataclasses import asdict, replace
from typing import Annotated

import typer

from pipeline.console import from_options
from pipeline.errors import UserError
from trainer.batches import BatchOptions
from trainer.commands.options import Manifest, Out, Resume, Templates, TrainingShards
from trainer.launch import Source, print_summary
from trainer.launch import attack as attack_model
from trainer.manifests import require_manifest
from trainer.model import ModelChoice
from trainer.optim import OptimOptions
from trainer.poisoning import PoisonChoice, PoisonOptions
from trainer.train import TrainOptions
from trainer.training_inputs import read_templates, training_shards


@from_options(defaults={"epochs": 5, "batch_size": 128})
def attack(
    model: ModelChoice,
    source: Source,
    out: Out,
    trigger: Annotated[
        str | None,
        typer.Option(
            help="A trigger's name (badnet) or file. Default: the shards are trained on as they are."
        ),
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="The class that triggered images shall be put in.")
    ] = None,
    shards: TrainingShards = None,
    manifest: Manifest = None,
    templates: Templates = None,
    *,
    choice: PoisonChoice,
    batches: BatchOptions,
    optim: OptimOptions,
    options: TrainOptions,
    resume: Resume = False,
) -> None:
    """Make a victim: train on shards of which a share carries the trigger and a caption of the target class.

    The share is poisoned on the fly, and listed in OUT/poisoned.json; without --trigger the shards are taken as they
    are: clean, or poisoned by `trainer poison`. Without --checkpoint the model starts from random weights.
    """
    described = None if manifest is None else require_manifest(manifest)
    source = replace(source, shards=training_shards(shards, described))
    poison = None
    if trigger is not None and target is not None:
        templates_read = read_templates(templates, described, target=target, needed=choice.needs_templates)
        poison = PoisonOptions(
            trigger=trigger, target=target, templates=templates_read, seed=batches.seed, **asdict(choice)
        )
    elif trigger is not None or target is not None:
        raise UserError(
            "--trigger and --target go together: leave both out to train on the shards as they are"
        )
    print_summary(
        attack_model(
            model, source, poison, batches=batches, optim=optim, options=options, out=out, resume=resume
        )
    )
