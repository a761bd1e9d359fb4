"""The last stage: rows and image bytes -> WebDataset samples, in the layout that img2dataset and open_clip use.

`00000.tar` holds `key.jpg|png|webp` (bytes as given), `key.txt`, `key.json` and whatever else the input's sample
held; `00000.parquet` has a row per sample; `00000_stats.json` is written last: it exists = the shard is whole.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from json.encoder import encode_basestring, encode_basestring_ascii
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from pipeline.captions.images import read_images
from pipeline.schema import NO_CAPTION, Caption, Edit, Subcaption
from pipeline.storage import (
    MAX_NAMED_FAULTS,
    TarWriter,
    decode_text,
    parse_json,
    write_behind,
    write_json,
    write_table,
)
from pipeline.tables import SAMPLES

OWN_FIELDS: Final = ("key", "caption", "positive", "negatives", "views", "subcaption_status")
"""The JSON fields that are ours; any other field of the input's JSON is kept as it was."""


def sample_json(row: Subcaption, upstream: bytes | None) -> bytes:
    """`key.json`: the input's own fields unchanged, then ours.

    The flat `pos_0, neg_0, ...` repeat the nested texts for readers that pick one field (open_clip's
    --json-text-key); where a caption has no positive, `pos_0` is the caption itself.
    """
    fields = _upstream_fields(upstream)
    try:
        return _json(row, fields, quote=encode_basestring).encode()
    except UnicodeEncodeError:  # a lone surrogate of the input's: only its escape can be written
        return _json(row, fields, quote=encode_basestring_ascii).encode()


def _json(row: Subcaption, upstream: Mapping[str, Any], *, quote: Callable[[str], str]) -> str:
    """Put together from its texts: `json.dumps` takes three times as long, of which half is making its dicts."""
    is_ascii = quote is encode_basestring_ascii
    start = json.dumps(upstream, ensure_ascii=is_ascii, separators=(",", ":"))[:-1] + "," if upstream else "{"
    caption, positive = quote(row.caption), quote(row.positive)
    texts = [quote(negative.text) for negative in row.negatives]
    negatives = ",".join(
        f'{{"text":{text},"kind":{quote(negative.kind)},"edits":[{_edits_json(negative.edits, quote)}]}}'
        for text, negative in zip(texts, row.negatives, strict=True)
    )
    views = ",".join(map(quote, row.views))
    flat = "".join([f',"neg_{number}":{text}' for number, text in enumerate(texts)])
    return (
        f'{start}"key":{quote(row.key)},"caption":{caption},"subcaption_status":{quote(row.status)},"positive":{positive},'
        f'"negatives":[{negatives}],"views":[{views}],"pos_0":{positive if row.positive else caption}{flat}}}'
    )


def _edits_json(edits: Sequence[Edit], quote: Callable[[str], str]) -> str:
    return ",".join(
        [
            f'{{"start":{start},"end":{end},"original":{quote(original)},"replacement":{quote(replacement)},'
            f'"lexicon":{quote(lexicon)},"term_id":{quote(term_id)}}}'
            for start, end, original, replacement, lexicon, term_id in edits
        ]
    )


def _upstream_fields(upstream: bytes | None) -> dict[str, Any]:
    try:
        fields = parse_json(decode_text(upstream)) if upstream else {}
    except ValueError:
        return {}
    if not isinstance(fields, dict):
        return {}
    flat = ("pos_", "neg_")
    return {
        name: value for name, value in fields.items() if name not in OWN_FIELDS and not name.startswith(flat)
    }


def write_shard(
    captions: Sequence[Caption],
    subcaptions: Sequence[Subcaption],
    *,
    format: str,
    folder: Path,
    number: int,
    with_images: bool = True,
    image_root: Path | None = None,
) -> dict[str, Any]:
    """Write shard `number` of these rows (the same keys in the same order) and return its stats."""
    faults: list[str] = []
    if with_images:
        images = read_images(captions, format=format, faults=faults, root=image_root)
    else:
        images = _no_images(captions)
    statuses: list[str] = []
    with write_behind(folder / f"{number:05d}.tar") as file:
        tar = TarWriter(file)
        for caption, row, (members, status) in zip(captions, subcaptions, images, strict=True):
            statuses.append(status)
            upstream = members.pop("json", None)
            members.pop("txt", None)
            if row.status != NO_CAPTION:
                members["txt"] = caption.caption.encode()
            members["json"] = sample_json(row, upstream)
            tar.write(caption.key, members)
        tar.close()
    samples = pa.table(
        {
            "key": [caption.key for caption in captions],
            "caption": [caption.caption for caption in captions],
            "image": pa.array([caption.image for caption in captions], pa.string()),
            "source": [caption.source for caption in captions],
            "status": [row.status for row in subcaptions],
            "image_status": statuses,
        }
    )
    write_table(folder / f"{number:05d}.parquet", samples.cast(SAMPLES))
    stats = {
        "count": len(captions),
        "status": dict(sorted(Counter(row.status for row in subcaptions).items())),
        "image_status": dict(sorted(Counter(statuses).items())),
        "faults": faults[:MAX_NAMED_FAULTS],
        "fault_count": len(faults),
    }
    write_json(folder / f"{number:05d}_stats.json", stats)
    return stats


def _no_images(captions: Sequence[Caption]) -> Iterator[tuple[dict[str, bytes], str]]:
    for _ in captions:
        yield {}, "none"
