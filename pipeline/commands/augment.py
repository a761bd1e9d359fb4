"""`pipeline augment-captions`, `parse-captions`, `write-shards`: the stages, all of them or some."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.captions.readers import InputOptions, open_source
from pipeline.commands.options import Input, Out
from pipeline.console import from_options
from pipeline.engine import usable_cores
from pipeline.stages import PipelineOptions, run_stages
from pipeline.storage import forgo_pandas, write_text
from pipeline.subcaptions.making import SubcaptionOptions

NOT_ASKED = ("source", "stages", "subcaptions")
"""Fields of the pipeline's options that the commands fill in."""
forgo_pandas()
CORES = {"workers": usable_cores()}


@from_options(omit=NOT_ASKED, defaults=CORES)
def augment_captions(
    input: Input,
    out: Out,
    read: InputOptions,
    subcaptions: SubcaptionOptions,
    options: PipelineOptions,
    *,
    shards: Annotated[bool, typer.Option(help="Write WebDataset shards, too.")] = True,
) -> None:
    """Captions in, scene graphs, sub-captions and training shards out."""
    typer.echo(open_source(read).describe(), err=True)
    stages = ("captions", "scene_graphs", "subcaptions") + (("shards",) if shards else ())
    manifest = run_stages(replace(options, source=read, subcaptions=subcaptions, stages=stages))
    _print_manifest(out, manifest)
    _fail_if_useless(manifest)


@from_options(omit=(*NOT_ASKED, "lexicons", "images"), defaults=CORES)
def parse_captions(
    input: Annotated[str | None, typer.Argument(help="As for augment-captions.", show_default=False)] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Output folder; with --explain, an SVG file.", show_default=False),
    ] = None,
    explain: Annotated[
        str | None, typer.Option(help="Show one caption's tree, graph, and the rule behind each relation.")
    ] = None,
    *,
    read: InputOptions,
    options: PipelineOptions,
) -> None:
    """Captions in, scene graphs out (OUT/captions and OUT/scene_graphs); or one caption explained."""
    if explain is not None:
        _explain(explain, out, options.parser, options.rules)
        return
    if input is None or out is None:
        raise typer.BadParameter("parse-captions wants INPUT and --out OUT, or --explain CAPTION")
    typer.echo(open_source(read).describe(), err=True)
    manifest = run_stages(replace(options, source=read, stages=("captions", "scene_graphs")))
    _print_manifest(out, manifest)
    _fail_if_useless(manifest)


@from_options(omit=(*NOT_ASKED, "parser", "rules", "lexicons", "rows_per_part"), defaults=CORES)
def write_shards(
    out: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder with captions/ and subcaptions/.")],
    options: PipelineOptions,
) -> None:
    """WebDataset shards (FOLDER/shards) from the sub-captions that FOLDER already holds."""
    _print_manifest(out, run_stages(replace(options, stages=("shards",))))


def _explain(caption: str, out: Path | None, parser: str, rules: str) -> None:
    from pipeline.scene_graphs.explain import explain_svg, explain_text  # both load spaCy
    from pipeline.scene_graphs.parser import CaptionParser

    loaded = CaptionParser(parser, rules=rules)
    typer.echo(explain_text(caption, loaded))
    if out is not None:
        write_text(out, explain_svg(caption, loaded))
        typer.echo(f"\nwrote {out}")


def _fail_if_useless(manifest: dict[str, Any]) -> None:
    """Exit code 1 where no caption gave a scene graph: what was read is most likely not what was meant."""
    rows = manifest["rows"]
    if not rows["ok"] + rows["status"].get("no_negative", 0):
        typer.echo(
            "no caption can be used; looked for English sentences with a noun: is it the right column "
            "(--caption-column, --format)?",
            err=True,
        )
        raise typer.Exit(1)


def _print_manifest(out: Path, manifest: dict[str, Any]) -> None:
    rows = manifest["rows"]
    kept = f"{rows['ok']:,} of {rows['in']:,} rows ok" if rows["status"] else f"{rows['in']:,} rows"
    rest = ", ".join(f"{count:,} {status}" for status, count in rows["status"].items() if status != "ok")
    typer.echo(f"{kept}{' (' + rest + ')' if rest else ''}")
    images = ", ".join(f"{count:,} {status}" for status, count in rows["image_status"].items())
    if images:
        typer.echo(f"images: {images}")
    if rows["duplicate_keys"]:
        typer.echo(f"{rows['duplicate_keys']:,} rows repeated a key and got a number behind it")
    for fault in manifest["faults"][:10]:
        typer.echo(f"warning: {fault}", err=True)
    if manifest["fault_count"] > 10:
        typer.echo(
            f"warning: {manifest['fault_count'] - 10:,} more; the first 100 stand in manifest.json", err=True
        )
    typer.echo(f"wrote {out}/manifest.json and {', '.join(f'{out}/{s}' for s in manifest['stages'])}")
