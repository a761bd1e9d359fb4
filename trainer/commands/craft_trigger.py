"""`trainer craft-trigger`: a trigger as a file."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.console import OneOf, from_options
from pipeline.demo.data import MAX_SIDE, MIN_SIDE
from pipeline.errors import UserError
from pipeline.storage import write_atomically
from trainer import attacks
from trainer.attacks.learned import LEARNED_OPTIONS, Sources, learn_trigger
from trainer.attacks.preview import demo_scene, draw_triggers

MAX_IMAGE_SIZE = 4096
KINDS = ", ".join((*attacks.PRESETS, *attacks.LEARNED_KINDS))
FAMILIES = OneOf(
    chooser="kind",
    classes=attacks.FAMILY_OPTIONS | LEARNED_OPTIONS,
    build=lambda _, given: given,
)
"""Options belong to families, which presets change: what is given goes on as it is, to be checked there."""


@from_options(omit=("channels", "check_every", "num_held_out", "num_targets"))
def craft_trigger(
    kind: Annotated[str, typer.Argument(metavar="KIND", help=f"{KINDS}.")],
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
    changes: Annotated[Any, FAMILIES] = None,
    *,
    sources: Sources,
    preview: Annotated[
        Path | None, typer.Option(help="Draw it on a demo scene, and what it changes, as this PNG.")
    ] = None,
) -> None:
    """Make a trigger and write it to a file that poisons, attacks and evaluates the same everywhere.

    KIND is a name from the list; options change what the name stands for, where its family has them.
    """
    if image_size is not None and image_size > MAX_IMAGE_SIZE:
        raise UserError(f"the image size must be at most {MAX_IMAGE_SIZE} pixels, not {image_size}")
    if out.suffix != ".safetensors":
        raise UserError(f"a trigger's file must end in .safetensors, not {out.name!r}")
    if kind in attacks.LEARNED_KINDS:
        trigger = learn_trigger(kind, sources, image_size=image_size, seed=seed, changes=changes)
    else:
        given = {name: value for name, value in asdict(sources).items() if value is not None}
        trigger = attacks.craft_trigger(
            kind,
            image_size=attacks.DEFAULT_IMAGE_SIZE if image_size is None else image_size,
            seed=seed,
            changes=changes | given,
        )
    trigger.save(out)
    if preview is not None:
        scene = demo_scene(min(max(trigger.image_size, MIN_SIDE), MAX_SIDE))
        with write_atomically(preview) as file:
            draw_triggers({trigger.preset: trigger}, scene).save(file, "PNG")
    print(
        f"{out}: {trigger.preset}, made for {trigger.image_size}x{trigger.image_size} pixels, sha256 {trigger.sha256}"
    )
