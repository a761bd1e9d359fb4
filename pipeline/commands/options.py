"""Options that several commands share: name, type and help in one place. Read by the other files of this package."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pipeline.captions.readers import InputOptions

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


def input_options(input: str, format: str | None, caption_column: str | None) -> "InputOptions":
    """What --format and --caption-column say of INPUT."""
    from pipeline.captions.readers import InputOptions

    return InputOptions(input=input, format=format, caption_column=caption_column)
