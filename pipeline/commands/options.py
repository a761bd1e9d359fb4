"""What several commands call the same and no options class holds: name, type and help in one place."""

from pathlib import Path
from typing import Annotated

import typer

Input = Annotated[
    str,
    typer.Argument(
        help="File, folder, glob or brace pattern ('a/{00000..00009}.tar'); several joined with ::"
    ),
]
Out = Annotated[Path, typer.Option("--out", help="Output folder.", show_default=False)]
