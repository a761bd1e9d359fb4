"""`pipeline augment-captions`, `parse-captions`, `write-shards`: the stages, all or some of them."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.commands.options import (
    CaptionColumn,
    Format,
    Input,
    LexiconFolder,
    Out,
    Overwrite,
    Parser,
    RowsPerShard,
    Rules,
    Workers,
    input_options,
)


def augment_captions(
    input: Input,
    out: Out,
    lexicons: LexiconFolder = None,
    parser: Parser = "bundled",
    rules: Rules = "default",
    negatives: Annotated[int, typer.Option(help="Counterfactual sub-captions per caption.")] = 10,
    views: Annotated[int, typer.Option(help="Augmented text views per caption, for CleanCLIP.")] = 4,
    hardness: Annotated[
        str, typer.Option(help="Which terms replace: random, near (co-hyponyms) or mixed.")
    ] = "random",
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
    format: Format = None,
    caption_column: CaptionColumn = None,
    shards: Annotated[bool, typer.Option(help="Write WebDataset shards, too.")] = True,
    images: Annotated[bool, typer.Option(help="Copy the images into the shards.")] = True,
    rows_per_shard: RowsPerShard = 10_000,
    workers: Workers = None,
    overwrite: Overwrite = False,
) -> None:
    """Captions in, scene graphs, sub-captions and training shards out."""
    from pipeline.subcaptions.making import SubcaptionOptions

    stages = ("captions", "scene_graphs", "subcaptions") + (("shards",) if shards else ())
    subcaptions = SubcaptionOptions(
        num_negatives=negatives,
        num_views=views,
        hardness=hardness,  # type: ignore[arg-type]  # checked there
        seed=seed,
    )
    _run(
        out,
        stages,
        workers,
        input=input_options(input, format, caption_column),
        parser=parser,
        rules=rules,
        lexicons=lexicons,
        subcaptions=subcaptions,
        images=images,
        rows_per_part=rows_per_shard,
        overwrite=overwrite,
    )


def parse_captions(
    input: Annotated[str | None, typer.Argument(help="As for augment-captions.", show_default=False)] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Output folder; with --explain, an SVG file.", show_default=False),
    ] = None,
    explain: Annotated[
        str | None, typer.Option(help="Show one caption's tree, graph, and the rule behind each relation.")
    ] = None,
    parser: Parser = "bundled",
    rules: Rules = "default",
    format: Format = None,
    caption_column: CaptionColumn = None,
    rows_per_shard: RowsPerShard = 10_000,
    workers: Workers = None,
    overwrite: Overwrite = False,
) -> None:
    """Captions in, scene graphs out (OUT/captions and OUT/scene_graphs); or one caption explained."""
    if explain is not None:
        _explain(explain, out, parser, rules)
        return
    if input is None or out is None:
        raise typer.BadParameter("parse-captions wants INPUT and --out OUT, or --explain CAPTION")
    _run(
        out,
        ("captions", "scene_graphs"),
        workers,
        input=input_options(input, format, caption_column),
        parser=parser,
        rules=rules,
        rows_per_part=rows_per_shard,
        overwrite=overwrite,
    )


def write_shards(
    folder: Annotated[Path, typer.Argument(help="A folder with captions/ and subcaptions/.")],
    images: Annotated[
        bool, typer.Option(help="Copy the images; --no-images writes text members alone.")
    ] = True,
    workers: Workers = None,
    overwrite: Overwrite = False,
) -> None:
    """WebDataset shards (FOLDER/shards) from the sub-captions that FOLDER already holds."""
    _run(folder, ("shards",), workers, images=images, overwrite=overwrite)


def _explain(caption: str, out: Path | None, parser: str, rules: str) -> None:
    from pipeline.scene_graphs.explain import explain_svg, explain_text
    from pipeline.scene_graphs.parser import CaptionParser
    from pipeline.storage import write_text

    loaded = CaptionParser(parser, rules=rules)
    typer.echo(explain_text(caption, loaded))
    if out is not None:
        write_text(out, explain_svg(caption, loaded))
        typer.echo(f"\nwrote {out}")


def _run(out: Path, stages: tuple[str, ...], workers: int | None, **options: Any) -> None:
    from pipeline.engine import limit_threads, usable_cores

    limit_threads()  # before numpy is imported
    from pipeline.stages import PipelineOptions, run_stages

    made: PipelineOptions = PipelineOptions(
        out=out, stages=stages, workers=usable_cores() if workers is None else workers, **options
    )
    _print_manifest(out, run_stages(made))


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
