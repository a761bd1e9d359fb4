"""`pipeline build-lexicons`: the terms that replace others."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.commands.options import CaptionColumn, Format, Out, input_options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.captions.readers import InputOptions


def build_lexicons(
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
    llm_replies: Annotated[
        Path | None,
        typer.Option(help="Folder of a model's recorded replies: its terms without key or network."),
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
    from pipeline.lexicons import building
    from pipeline.llm.asking import PROMPTS, LlmOptions, estimate

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
    options = building.LexiconOptions(
        out=out,
        size=size,
        wordnet=wordnet,
        block=tuple(block or ()),
        llm=llm,
        llm_replies=llm_replies,
        llm_terms=llm_terms,
        seed=seed,
    )
    if dry_run:
        if llm is None:
            raise typer.BadParameter("--dry-run wants --llm-model: WordNet and recorded replies cost nothing")
        for name, value in estimate(llm, building.requests_of(options)).items():
            typer.echo(f"{name:14} {'no price known' if value is None else value}")
        return
    rows = None if captions is None else _caption_texts(input_options(captions, format, caption_column))
    manifest = building.build_lexicons(options, rows)
    typer.echo(f"wrote {out}: {size:,} objects, {size:,} attributes, {size:,} relations")
    typer.echo(f"WordNet {manifest.get('wordnet', '')}{'' if manifest.get('llm') else ', no LLM asked'}")


def _caption_texts(input: "InputOptions") -> "Iterator[str]":
    from pipeline.captions.readers import open_source

    source = open_source(input)
    faults: list[str] = []
    for file in source.files:
        for row in source.rows(file, faults=faults):
            yield row.caption
    for fault in faults[:10]:
        typer.echo(f"warning: {fault}", err=True)
