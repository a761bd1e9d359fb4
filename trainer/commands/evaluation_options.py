"""What the evaluating commands call the same and no options class holds. Beside `options`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from pipeline.errors import UserError
from trainer.evals.labelled import LabelledImages


def check_batch(batch_size: int) -> int:
    """The number; UserError below 1."""
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1, not {batch_size}")
    return batch_size


EvaluationBatch = Annotated[int, typer.Option("--batch-size", callback=check_batch, help="Images at a time.")]
Json = Annotated[Path | None, typer.Option("--json", "--out", help="Write the result to this file, too.")]
MAX_TOLD = 5


def tell_found(data: LabelledImages) -> None:
    """Says on stderr what was recognised where no manifest describes the images: layout, columns, classes."""
    if data.told:
        names = ", ".join(data.classnames[:3]) + (", ..." if len(data.classnames) > 3 else "")
        print(f"read as {data.told}; {len(data.classnames)} classes ({names})", file=sys.stderr)


def tell_left_out(faults: Sequence[str]) -> None:
    """Names the first samples that were left out, on stderr."""
    for fault in faults[:MAX_TOLD]:
        print(f"left out: {fault}", file=sys.stderr)
