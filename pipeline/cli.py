"""The command `pipeline`: one typed function per command; everything heavy is imported inside it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline import __version__
from pipeline.console import run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.captions import InputOptions

app = typer.Typer(
    help="Captions to counterfactual training data, offline.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Input = Annotated[
    str,
    typer.Argument(
        help="File, folder, glob or brace pattern ('a/{00000..00009}.tar'); several joined with ::"
    ),
]
Out = Annotated[Path, typer.Option("--out", help="Output folder.", show_default=False)]
Format = Annotated[
    str | None,
    typer.Option("--format", help="webdataset, parquet, cc3m, csv, coco or jsonl.", show_default="detected"),
]
CaptionColumn = Annotated[
    str | None, typer.Option(help="Column or JSON field of the caption.", show_default="the usual names")
]
Parser = Annotated[
    str, typer.Option(help="'bundled', the name of an installed spaCy pipeline, or a path to one.")
]
Rules = Annotated[
    str, typer.Option(help="Scene-graph rules: 'default', or 'sng' for SceneGraphParser's own.")
]
LexiconFolder = Annotated[
    Path | None,
    typer.Option("--lexicons", help="Folder made by build-lexicons.", show_default="the bundled ones"),
]
Workers = Annotated[int | None, typer.Option(help="Worker processes.", show_default="one per core")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Make it again, whatever OUT holds of it.")]
RowsPerShard = Annotated[int, typer.Option(help="Rows per shard where the input is no tar.")]


@app.callback(invoke_without_command=True)
def _version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if show:
        typer.echo(f"pipeline {__version__}")
        raise typer.Exit


@app.command("augment-captions")
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
    from pipeline.subcaptions import SubcaptionOptions

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
        input=_input(input, format, caption_column),
        parser=parser,
        rules=rules,
        lexicons=lexicons,
        subcaptions=subcaptions,
        images=images,
        rows_per_part=rows_per_shard,
        overwrite=overwrite,
    )


@app.command("parse-captions")
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
        input=_input(input, format, caption_column),
        parser=parser,
        rules=rules,
        rows_per_part=rows_per_shard,
        overwrite=overwrite,
    )


def _explain(caption: str, out: Path | None, parser: str, rules: str) -> None:
    from pipeline.explain import explain_svg, explain_text
    from pipeline.scene_graphs import CaptionParser
    from pipeline.storage import write_atomically

    loaded = CaptionParser(parser, rules=rules)
    typer.echo(explain_text(caption, loaded))
    if out is not None:
        with write_atomically(out) as file:
            file.write(explain_svg(caption, loaded).encode())
        typer.echo(f"\nwrote {out}")


@app.command("write-shards")
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


def _input(input: str, format: str | None, caption_column: str | None) -> "InputOptions":
    from pipeline.captions import InputOptions

    return InputOptions(input=input, format=format, caption_column=caption_column)


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


@app.command("build-lexicons")
def build(
    out: Out,
    captions: Annotated[
        str | None,
        typer.Option(help="Captions whose vocabulary sets the bands: INPUT as for augment-captions."),
    ] = None,
    format: Format = None,
    caption_column: CaptionColumn = None,
    size: Annotated[int, typer.Option(help="Terms per lexicon.")] = 3_000,
    wordnet: Annotated[
        str, typer.Option(help="'auto', or a folder or tar archive with WordNet's files.")
    ] = "auto",
    block: Annotated[
        list[Path] | None, typer.Option(help="File of words that must not become terms.")
    ] = None,
    llm_model: Annotated[
        str | None,
        typer.Option(help="Ask this model for terms, too (OPENAI_API_KEY); without it: WordNet alone."),
    ] = None,
    llm_base_url: Annotated[
        str | None,
        typer.Option(help="Any OpenAI-compatible server.", show_default="OPENAI_BASE_URL, or OpenAI's"),
    ] = None,
    llm_cache: Annotated[Path, typer.Option(help="Keeps every reply: a rerun is free.")] = Path(
        "llm-cache.sqlite"
    ),
    prices: Annotated[
        Path | None, typer.Option(help="Price table (JSON).", show_default="bundled; check it")
    ] = None,
    max_usd: Annotated[
        float | None, typer.Option(help="Stop before it costs more; what was paid is kept.")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Stop before it takes more tokens.")] = None,
    llm_batch: Annotated[
        bool, typer.Option("--llm-batch", help="Ask through the batch API; a rerun waits for the same batch.")
    ] = False,
    llm_terms: Annotated[int, typer.Option(help="About so many terms are asked for, per lexicon.")] = 3_000,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print calls, tokens and price; ask nothing.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Chooses among equally frequent candidates.")] = 0,
) -> None:
    """The three lexicons of replacement terms: WordNet alone, or with an LLM. The bundled ones need no building."""
    from pipeline.lexicon_building import LexiconOptions, build_lexicons, requests_of
    from pipeline.llm import PROMPTS, LlmOptions, estimate

    llm = None
    if llm_model is not None:
        llm = LlmOptions(
            model=llm_model,
            base_url=llm_base_url,
            cache=llm_cache,
            prices=prices or PROMPTS / "prices.json",
            max_usd=max_usd,
            max_tokens=max_tokens,
            batch=llm_batch,
        )
    options = LexiconOptions(
        out=out,
        size=size,
        wordnet=wordnet,
        block=tuple(block or ()),
        llm=llm,
        llm_terms=llm_terms,
        seed=seed,
    )
    if dry_run:
        if llm is None:
            raise typer.BadParameter("--dry-run wants --llm-model: WordNet costs nothing")
        for name, value in estimate(llm, requests_of(options)).items():
            typer.echo(f"{name:14} {'no price known' if value is None else value}")
        return
    rows = None if captions is None else _caption_texts(_input(captions, format, caption_column))
    manifest = build_lexicons(options, rows)
    typer.echo(f"wrote {out}: {size:,} objects, {size:,} attributes, {size:,} relations")
    typer.echo(f"WordNet {manifest.get('wordnet', '')}{'' if llm else ', no LLM asked'}")


def _caption_texts(input: "InputOptions") -> "Iterator[str]":
    from pipeline.captions import open_source

    source = open_source(input)
    faults: list[str] = []
    for file in source.files:
        for row in source.rows(file, faults=faults):
            yield row.caption
    for fault in faults[:10]:
        typer.echo(f"warning: {fault}", err=True)


@app.command("demo-data")
def demo_data(
    out: Out,
    seed: Annotated[int, typer.Option(help="Another seed gives other scenes of the same world.")] = 0,
    num_train: Annotated[int, typer.Option(help="Captioned scenes of one or two things.")] = 4_000,
    num_test_per_class: Annotated[int, typer.Option(help="Labelled scenes of each of the 30 nouns.")] = 40,
    image_size: Annotated[int, typer.Option(help="Side of the images, in pixels.")] = 64,
) -> None:
    """Drawn scenes with captions as WebDataset shards: a small world to try everything on."""
    from pipeline.demo_data import write_demo_data

    manifest = write_demo_data(
        out, seed=seed, num_train=num_train, num_test_per_class=num_test_per_class, image_size=image_size
    )
    typer.echo(f"wrote {manifest}, {out}/train and {out}/test")


@app.command("query")
def query(
    folder: Annotated[Path, typer.Argument(help="The --out of another command.")],
    sql: Annotated[
        str | None, typer.Argument(help="A SELECT, or the name of a saved query.", show_default=False)
    ] = None,
    format: Annotated[str, typer.Option("--format", help="table, csv, json or parquet.")] = "table",
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write to.", show_default="the terminal")
    ] = None,
) -> None:
    """DuckDB over the views captions, scene_graphs, subcaptions, samples and lexicons; no SQL lists saved queries."""
    import sys

    from pipeline.query import run_query, saved_queries

    if sql is None:
        for name, text in saved_queries().items():
            typer.echo(f"{name:18} {text.splitlines()[0].removeprefix('-- ')}")
        return
    run_query(folder, sql, format=format, out=out, terminal=sys.stdout)


@app.command("preview")
def preview(
    folder: Annotated[Path, typer.Argument(help="The --out of augment-captions.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="HTML file.", show_default="FOLDER/preview.html")
    ] = None,
    num: Annotated[int, typer.Option(help="Captions to show.")] = 40,
    seed: Annotated[int, typer.Option(help="Which captions are drawn.")] = 0,
) -> None:
    """A static page of sampled captions with their graphs, positives and negatives."""
    from pipeline.preview import write_preview

    page = out or folder / "preview.html"
    typer.echo(f"wrote {page} ({write_preview(folder, page, num=num, seed=seed)} captions)")


@app.command("verify")
def verify_folder(folder: Annotated[Path, typer.Argument(help="The --out of another command.")]) -> None:
    """Check every file of FOLDER against its manifest."""
    from pipeline.verify import verify

    wrong = verify(folder)
    for line in wrong:
        typer.echo(line, err=True)
    if wrong:
        raise typer.Exit(1)
    typer.echo(f"{folder} is what its manifest says")


def main() -> None:
    """The console entry point."""
    run(app, "pipeline")


if __name__ == "__main__":
    main()
