"""`pipeline build-lexicons`: the terms that replace others."""

from dataclasses import asdict, replace
from typing import Annotated

import typer

from pipeline.captions.readers import InputOptions, ReadOptions
from pipeline.commands.options import Out
from pipeline.commands.pairs import caption_texts, pairs_of
from pipeline.console import from_options
from pipeline.lexicons import building
from pipeline.llm.asking import LlmOptions, estimate


@from_options(omit=("llm", "timeout_seconds", "poll_seconds"))
def build_lexicons(
    out: Out,
    captions: Annotated[
        str | None,
        typer.Option(
            help="Captions whose vocabulary sets the bands and the pairs: INPUT as for augment-captions."
        ),
    ] = None,
    *,
    reading: ReadOptions,
    options: building.LexiconOptions,
    model: LlmOptions | None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print calls, tokens and price; ask nothing.")
    ] = False,
) -> None:
    """The three lexicons of replacement terms: WordNet alone, or with an LLM. The bundled ones need no building."""
    options = replace(options, llm=model)
    if dry_run:
        if model is None:
            raise typer.BadParameter("--dry-run wants --llm-model: WordNet and recorded replies cost nothing")
        for name, value in estimate(model, building.requests_of(options)).items():
            typer.echo(f"{name:14} {'no price known' if value is None else value}")
        return
    texts = pairs = None
    if captions is not None:
        texts = list(caption_texts(InputOptions(input=captions, **asdict(reading))))
        pairs = pairs_of(texts) if options.pairs is None else None
    manifest = building.build_lexicons(options, texts, pairs)
    size = f"{options.size:,}"
    typer.echo(f"wrote {out}: {size} objects, {size} attributes, {size} relations")
    typer.echo(f"WordNet {manifest.get('wordnet', '')}{'' if manifest.get('llm') else ', no LLM asked'}")
