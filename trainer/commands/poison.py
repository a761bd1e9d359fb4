"""`trainer poison`: shards of which a share carries a trigger, for any trainer of CLIPs to read."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from trainer.commands.options import (
    Captions,
    LabelConsistent,
    Manifest,
    Seed,
    Templates,
    TrainingShards,
)


def poison(
    trigger: Annotated[str, typer.Option(help="A trigger's file, or its name (badnet).")],
    target: Annotated[str, typer.Option(help="The class that triggered images shall be put in.")],
    out: Annotated[Path, typer.Option(help="Folder for shards/, poisoned.json, the trigger, manifest.json.")],
    shards: TrainingShards = None,
    manifest: Manifest = None,
    templates: Templates = None,
    captions: Captions = "templates",
    label_consistent: LabelConsistent = False,
    rate: Annotated[float, typer.Option(help="Share of samples to poison.")] = 0.003,
    image_size: Annotated[
        int | None,
        typer.Option(
            help="Side of poisoned images in pixels: the model's. Default: the trigger file's own, 224 for a name."
        ),
    ] = None,
    resize: Annotated[
        Literal["shortest", "squash"],
        typer.Option(
            help="How they become square: shortest (CLIP's evaluation) or squash (the public attacks)."
        ),
    ] = "shortest",
    interpolation: Annotated[
        Literal["bicubic", "bilinear"], typer.Option(help="bicubic or bilinear: the model's.")
    ] = "bicubic",
    seed: Seed = 0,
) -> None:
    """Write poisoned WebDataset shards: a share of the samples with the trigger and a caption of the target class.

    Poisoned images are resized, triggered and stored as PNG; all other samples are copied as they are, in the same
    order. `trainer attack --manifest OUT/manifest.json` (without --trigger) trains on them, and sees the same pixels
    as with --trigger on the original shards.
    """
    from pipeline.storage import hold
    from trainer.attacks import load_trigger
    from trainer.data import find_shards, index_shards
    from trainer.manifests import require_manifest
    from trainer.poisoned_shards import PixelOptions, write_poisoned
    from trainer.poisoning import PoisonOptions
    from trainer.training_inputs import read_templates, training_shards

    described = None if manifest is None else require_manifest(manifest)
    training = training_shards(shards, described)
    options = PoisonOptions(
        trigger=trigger,
        target=target,
        templates=read_templates(
            templates, described, target=target, needed=captions == "templates" and not label_consistent
        ),
        rate=rate,
        captions=captions,
        label_consistent=label_consistent,
        seed=seed,
    )
    loaded = load_trigger(trigger, image_size=image_size, seed=seed)
    index = index_shards(find_shards(training))
    pixels = PixelOptions(
        image_size=image_size or loaded.image_size, resize=resize, interpolation=interpolation
    )
    with hold(out):
        written = write_poisoned(index, loaded, options, pixels, out=out, described=described)
    for fault in written["faults"][:5]:
        typer.echo(f"note: {fault}", err=True)
    samples = written["splits"]["train"]["num_samples"]
    print(f"wrote {out / 'manifest.json'}: {written['poisoned']} of {samples} samples poisoned")
