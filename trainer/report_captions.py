"""Some of the samples that a defence learned from, for its page: picture, caption, positive, negatives."""

import base64
import io
from collections.abc import Iterator
from html import escape
from itertools import islice
from pathlib import Path
from typing import Any, Final

from PIL import Image

from pipeline.errors import UserError
from trainer.data import RawSample, Skipped, find_shards, read_shard
from trainer.images import BrokenImage, decode
from trainer.records import clean_text, has_triple, positive_of

NUM: Final = 6
LOOKED_AT: Final = 600
"""The samples shown are spread over the first so many of the first shard that have sub-captions."""
SIDE: Final = 96


def sampled_captions(shards: str) -> list[str]:
    """A heading and a table, as markup; UserError where no sample of the first shard has sub-captions."""
    first = find_shards(shards)[0]
    samples = list(_spread(first))
    if not samples:
        raise UserError(f"{first} has no sub-captions: make the shards with `pipeline augment-captions`")
    lines = [
        "<h2>Counterfactual captions</h2><p>Some of the pairs: the positive says of the image what its caption says, "
        "each negative says what it does not show.</p>",
        '<div class="wide"><table class="facts"><tr><th>image</th><th>caption</th><th>positive</th>'
        "<th>negatives</th></tr>",
        *map(_row, samples),
        "</table></div>",
    ]
    return ["".join(lines)]


def _spread(shard: Path) -> Iterator[RawSample]:
    usable = (sample for sample in read_shard(shard, skipped=Skipped()) if has_triple(sample.record))
    found = list(islice(usable, LOOKED_AT))
    return islice(found, 0, None, max(1, -(-len(found) // NUM)))


def _row(sample: RawSample) -> str:
    cells = (
        _picture(sample.image),
        escape(sample.caption),
        escape(positive_of(sample.record)),
        "<br>".join(map(escape, _one_of_each_kind(sample.record))),
    )
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _one_of_each_kind(record: dict[str, Any]) -> list[str]:
    found: dict[str, str] = {}
    for negative in record["negatives"]:
        told = negative if isinstance(negative, dict) else {"text": negative}
        kind, text = clean_text(told.get("kind")), clean_text(told.get("text"))
        if text:
            found.setdefault(kind, f"{text} ({kind})" if kind else text)
    return list(found.values())


def _picture(data: bytes) -> str:
    try:
        image: Image.Image = decode(data)
    except BrokenImage:
        return ""
    image.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    image.save(file, "PNG")
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}">'
