"""`trainer poison`: shards of which a share carries a trigger, for any trainer of CLIPs to read."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from pipeline.console import from_options
from pipeline.storage import hold
from trainer.attacks import load_trigger
from trainer.commands.options import Manifest, Templates, TrainingShards
from trainer.data import find_shards, index_shards
from trainer.manifests import require_manifest
from trainer.poisoned_shards import PixelOptions, write_poisoned
from trainer.poisoning import PoisonChoice, PoisonOptions
from trainer.training_inputs import read_templates, training_shards


@from_options(defaults={"rate": 0.003})
def poison(
    trigger: Annotated[str, typer.Option(help="A trigger's file, or its name (badnet).")],
    target: Annotated[str, typer.Option(help="The class that triggered images shall be put in.")],
    out: Annotated[Path, typer.Option(help="Folder for shards/, poisoned.json, the trigger, manifest.json.")],
    shards: TrainingShards = None,
    manifest: Manifest = None,
    templates: Templates = None,
    *,
    choice: PoisonChoice,
    pixels: PixelOptions,
    seed: Annotated[int, typer.Option(help="Of the poisoned keys, their captions, and the trigger.")] = 0,
) -> None:
    """Write poisoned WebDataset shards: a share of the samples with the trigger and a caption of the target class.

    Poisoned images are resized, triggered and stored as PNG; all other samples are copied as they are, in the same
    order. `trainer attack --manifest OUT/manifest.json` (without --trigger) trains on them, and sees the same pixels
    as with --trigger on the original shards.
    """
    described = None if manifest is None else require_manifest(manifest)
    training = training_shards(shards, described)
    read = read_templates(templates, described, target=target, needed=choice.needs_templates)
    options = PoisonOptions(trigger=trigger, target=target, templates=read, seed=seed, **asdict(choice))
    loaded = load_trigger(trigger, image_size=pixels.image_size, seed=seed)
    index = index_shards(find_shards(training))
    with hold(out):
        written = write_poisoned(index, loaded, options, pixels, out=out, described=described)
    for fault in written["faults"][:5]:
        print(f"note: {fault}", file=sys.stderr)
    samples = written["splits"]["train"]["num_samples"]
    print(f"wrote {out / 'manifest.json'}: {written['poisoned']} of {samples} samples poisoned")
