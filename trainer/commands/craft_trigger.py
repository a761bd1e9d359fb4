"""`trainer craft-trigger`: a trigger as a file."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from pipeline.errors import UserError
from trainer.commands.learned_options import (
    Bits,
    CleanCheckpoint,
    CleanModel,
    ImportedImages,
    LearnedBatch,
    LearnedDevice,
    LearnedManifest,
    LearnedShards,
    LearnedTarget,
    LearningRate,
    MaxCleanAsr,
    NumImages,
    Psnr,
    Side,
    Steps,
)

KIND = (
    "badnet, badnet-fixed, badnet-public, blended, blended-public, sig, sig-public, sig-cleanclip, wanet, "
    "wanet-public, wanet-smooth, stripes, triangles, text, yellow-corner, filter, ssba, badclip, imported."
)
MAX_IMAGE_SIZE = 4096


def craft_trigger(
    kind: Annotated[str, typer.Argument(metavar="KIND", help=KIND)],
    out: Annotated[
        Path, typer.Option("--out", help="The trigger's file (.safetensors); its .json beside it.")
    ],
    image_size: Annotated[
        int | None,
        typer.Option(
            help="Side of the images it is made for, in pixels; in others it covers the same share. "
            "Default: 224; badclip: the clean model's."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of all that is random in it.")] = 0,
    scale: Annotated[
        float | None, typer.Option(help="badnet: the square's side as a share of the image's.")
    ] = None,
    placement: Annotated[
        Literal["random", "fixed"] | None,
        typer.Option(help="badnet: random (by image) or fixed (lower right corner)."),
    ] = None,
    colour: Annotated[
        str | None, typer.Option(help="badnet: a plain square of this colour (ffff00), no noise.")
    ] = None,
    fresh_noise: Annotated[
        bool | None,
        typer.Option(
            "--fresh-noise/--kept-noise", help="badnet, blended: new noise for every image, or kept."
        ),
    ] = None,
    share: Annotated[
        float | None,
        typer.Option(help="blended, sig, stripes, triangles, text: its share of the mixture, 0 to 1."),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(help="sig: height of the wave; wanet: s, twice the mean shift; filter: 0 to 1."),
    ] = None,
    periods: Annotated[float | None, typer.Option(help="sig: waves over the image's width.")] = None,
    grid: Annotated[int | None, typer.Option(help="wanet: k, random shifts a side.")] = None,
    count: Annotated[int | None, typer.Option(help="stripes, triangles: how many over the width.")] = None,
    text: Annotated[str | None, typer.Option(help="text: what is written.")] = None,
    lines: Annotated[int | None, typer.Option(help="text: how often, from top to bottom.")] = None,
    cut: Annotated[
        bool | None,
        typer.Option("--cut/--round", help="sig, wanet: cut off to bytes as the public code does, or round."),
    ] = None,
    shards: LearnedShards = None,
    manifest: LearnedManifest = None,
    checkpoint: CleanCheckpoint = None,
    model: CleanModel = None,
    target: LearnedTarget = None,
    images: ImportedImages = None,
    device: LearnedDevice = None,
    bits: Bits = None,
    psnr: Psnr = None,
    steps: Steps = None,
    side: Side = None,
    max_clean_asr: MaxCleanAsr = None,
    lr: LearningRate = None,
    batch_size: LearnedBatch = None,
    num_images: NumImages = None,
    preview: Annotated[
        Path | None, typer.Option(help="Draw it on a demo scene, and what it changes, as this PNG.")
    ] = None,
) -> None:
    """Make a trigger and write it to a file that poisons, attacks and evaluates the same everywhere.

    KIND is a name from the list; options change what the name stands for, where its family has them.
    """
    from pipeline.demo.data import MAX_SIDE, MIN_SIDE
    from trainer import attacks
    from trainer.attacks.picture import demo_scene, draw_triggers

    if image_size is not None and image_size > MAX_IMAGE_SIZE:
        raise UserError(f"the image size must be at most {MAX_IMAGE_SIZE} pixels, not {image_size}")
    if out.suffix != ".safetensors":
        raise UserError(f"a trigger's file must end in .safetensors, not {out.name!r}")
    given: dict[str, Any] = {
        "scale": scale,
        "placement": placement,
        "colour": colour,
        "fresh_noise": fresh_noise,
        "share": share,
        "strength": strength,
        "periods": periods,
        "grid": grid,
        "count": count,
        "text": text,
        "lines": lines,
        "cut": cut,
        "bits": bits,
        "psnr": psnr,
        "steps": steps,
        "side": side,
        "max_clean_asr": max_clean_asr,
        "lr": lr,
        "batch_size": batch_size,
        "num_images": num_images,
    }
    sources: dict[str, Any] = {
        "shards": shards,
        "manifest": manifest,
        "checkpoint": checkpoint,
        "model": model,
        "target": target,
        "images": images,
        "device": device,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    if kind in attacks.LEARNED_KINDS:
        from trainer.attacks.learned import Sources, learn_trigger

        trigger = learn_trigger(kind, Sources(**sources), image_size=image_size, seed=seed, changes=changes)
    else:
        changes |= {name: value for name, value in sources.items() if value is not None}
        trigger = attacks.craft_trigger(
            kind,
            image_size=attacks.DEFAULT_IMAGE_SIZE if image_size is None else image_size,
            seed=seed,
            changes=changes,
        )
    trigger.save(out)
    if preview is not None:
        preview.parent.mkdir(parents=True, exist_ok=True)
        draw_triggers(
            {trigger.preset: trigger}, demo_scene(min(max(trigger.image_size, MIN_SIDE), MAX_SIDE))
        ).save(preview, "PNG")
    print(
        f"{out}: {trigger.preset}, made for {trigger.image_size}x{trigger.image_size} pixels, sha256 {trigger.sha256}"
    )
