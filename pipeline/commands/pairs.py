"""`pipeline count-pairs`: how often captions put words together, for plausible draws."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from pipeline.captions.readers import InputOptions, open_source
from pipeline.commands.options import Input
from pipeline.console import from_options
from pipeline.lexicons.pairs import PairCounts, write_pairs
from pipeline.storage import write_atomically


@from_options()
def count_pairs(
    input: Input,
    out: Annotated[Path, typer.Option("--out", help="File to write, pairs.tsv.", show_default=False)],
    read: InputOptions,
) -> None:
    """How often captions put words together: what `build-lexicons --pairs` takes and plausible draws go by."""
    content = write_pairs(pairs_of(caption_texts(read)))
    with write_atomically(out) as file:
        file.write(content)
    typer.echo(f"wrote {out} ({len(content):,} bytes)")


def pairs_of(captions: Iterable[str]) -> PairCounts:
    """The counts of some captions, each text once."""
    from pipeline.scene_graphs.parser import CaptionParser  # loads spaCy, for captions alone
    from pipeline.subcaptions.counting import count_pairs as count

    return count(CaptionParser().parse(dict.fromkeys(captions)))


def caption_texts(input: InputOptions) -> Iterator[str]:
    """The captions of an input; what was wrong with it is told at the end."""
    source = open_source(input)
    typer.echo(source.describe(), err=True)
    faults: list[str] = []
    for file in source.files:
        for row in source.rows(file, faults=faults):
            yield row.caption
    for fault in faults[:10]:
        typer.echo(f"warning: {fault}", err=True)
