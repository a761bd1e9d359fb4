"""`trainer audit`: does a model show signs of a backdoor? `trainer calibrate`: what clean models are like."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipeline.console import from_options
from pipeline.errors import UserError
from pipeline.storage import write_json
from trainer.audit.auditing import audit_model
from trainer.audit.auditing import calibrate as calibrate_models
from trainer.audit.calibration import write_calibration
from trainer.audit.found import draw_found, save_picture
from trainer.audit.search import SearchOptions
from trainer.audit.telling import audit_table, verdict_lines
from trainer.commands.options import Device
from trainer.devices import find_device
from trainer.launch import Source
from trainer.model import Activation, ModelChoice
from trainer.training_inputs import read_lines

Data = Annotated[
    str,
    typer.Option(
        "--data",
        help="Shards with images and captions of yours: file, folder, glob or braces ('shards/{00000..00049}.tar'); "
        "several joined by '::'. Labels are not needed.",
    ),
]


@from_options()
def audit(
    data: Data,
    model: ModelChoice,
    search: SearchOptions,
    *,
    image_shards: Annotated[
        str | None,
        typer.Option(help="Where the images are, for text-only shards: one shard beside each."),
    ] = None,
    classes: Annotated[
        Path | None, typer.Option(help="Concepts to ask for, one a line, beside the captions' nouns.")
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="What `trainer calibrate` wrote; default: the shipped one of the architecture.",
            show_default=False,
        ),
    ] = None,
    found: Annotated[
        Path | None,
        typer.Option(
            help="Write the found trigger to this .safetensors file (for `trainer evaluate --trigger`), and a "
            "picture of it beside, as .png."
        ),
    ] = None,
    device: Device = "auto",
    out: Annotated[
        list[Path] | None,
        typer.Option(
            "--out",
            "--json",
            help="Write the result: a page as .html, everything as .json; may be given again.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Look for signs of a backdoor whose trigger is not known: "evidence found" or "no evidence found".

    Searches small changes that, the same for all images, take them to one place, and compares how far they get with
    clean models of the same architecture. It never says "clean": a trigger of a kind that is not searched stays unseen.
    """
    if found is not None and found.suffix != ".safetensors":
        raise UserError(f"a trigger is written as .safetensors, not {found.name!r}")
    wanted = out or []
    for path in wanted:
        if path.suffix not in (".html", ".json"):
            raise UserError(f"an audit is written as .html or .json, not {path.name!r}")
    if any(path.suffix == ".html" for path in wanted):
        import trainer.audit.page  # noqa: F401  # what it draws with is missed now, not after the search
    classnames = () if classes is None else read_lines(classes)
    clip = model.load_trained()
    clip.model.to(find_device(device))
    result = audit_model(
        clip,
        data,
        image_shards=image_shards,
        classnames=classnames,
        calibration=calibration,
        options=search,
    )
    Console(width=None if sys.stdout.isatty() else 120).print(audit_table(result))
    for path in wanted:
        if path.suffix == ".json":
            write_json(path, result.to_json())
        else:
            from trainer.audit.page import (
                write_audit_page,
            )  # here: it needs matplotlib, which a table does not

            write_audit_page(result, path)
    if found is not None:
        result.trigger.save(found)
        samples = result.samples
        save_picture(draw_found(result.trigger, samples.image_N3HW, samples.keys), found.with_suffix(".png"))
        print(f"the found trigger: {found}, drawn in {found.with_suffix('.png')}")
    for line in verdict_lines(result):
        print(line)


def audit_into(path: Path, model: ModelChoice, source: Source, *, device: str) -> None:
    """Audits on the shards of a run, before or after it: one line on stdout, everything in the file."""
    clip = model.load_trained()
    clip.model.to(find_device(device))
    result = audit_model(clip, source.shards, image_shards=source.image_shards)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, result.to_json())
    print(f"{path.stem}: {next(verdict_lines(result))}")


@from_options()
def calibrate(
    checkpoints: Annotated[
        list[Path],
        typer.Argument(help="Three or more clean models of one architecture: files or runs' folders."),
    ],
    data: Data,
    out: Annotated[Path, typer.Option(help="The calibration, as .json.")],
    search: SearchOptions,
    *,
    model: Annotated[
        str | None,
        typer.Option(help="Their architecture, for files that do not name it.", show_default=False),
    ] = None,
    activation: Annotated[
        Activation | None, typer.Option(help="For weights that do not say it.", show_default=False)
    ] = None,
    device: Device = "auto",
) -> None:
    """Measure how far clean models of an architecture can be led, for `trainer audit --calibration`.

    The images should be like those that suspects will be audited on; the models as unlike each other as they come:
    trained from other seeds, fine-tuned on other data.
    """
    if out.suffix != ".json":
        raise UserError(f"a calibration is written as .json, not {out.name!r}")
    models = []
    for checkpoint in checkpoints:
        clip = ModelChoice(checkpoint=checkpoint, model=model, activation=activation).load_trained()
        clip.model.to(find_device(device))
        models.append((checkpoint.name, clip))
    calibration = calibrate_models(models, data, options=search)
    write_calibration(calibration, out)
    print(f"{out}: {len(models)} clean models, evidence from a score of {calibration.threshold:.1f}")
