"""`pipeline count-pairs`: how often captions put words together, for plausible draws."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from pipeline.captions.readers import InputOptions
from pipeline.commands.lexicons import caption_texts
from pipeline.commands.options import Input
from pipeline.console import from_options
from pipeline.lexicons.pairs import PairCounts, write_pairs
from pipeline.scene_graphs.parser import CaptionParser
from pipeline.storage import write_atomically
from pipeline.subcaptions.counting import count_pairs as count


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
    return count(CaptionParser().parse(dict.fromkeys(captions)))
