"""A static HTML page of sampled captions with graph, positive and negatives, to look at what was made.

One file, no script, nothing loaded from elsewhere; every text is escaped, since captions come from strangers.
"""

import base64
import random
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.page import write_page
from pipeline.storage import IMAGE_EXTENSIONS, read_table, read_tar

MAX_IMAGE_BYTES = 300_000
STYLE = """
article { border-top: 1px solid var(--line); padding: 1rem 0; display: flex; gap: 1.2rem; flex-wrap: wrap; }
article > div { flex: 1 1 18rem; min-width: 0; }
img { width: 9rem; height: 9rem; object-fit: contain; background: var(--line); flex: none; }
h2 { font-size: 1rem; font-weight: 600; margin: 0 0 .3rem; }
article p, ul { margin: .2rem 0; color: var(--ink); } ul { padding-left: 1.2rem; }
li { list-style: none; padding-left: 5.5rem; text-indent: -5.5rem; }
article .key, .kind { color: var(--soft); font-size: .8rem; }
.kind { display: inline-block; width: 5.5rem; text-indent: 0; }
article b { color: var(--ink); }
.entity { background: var(--mark-a); } .attribute { background: var(--mark-b); }
.relation { background: var(--mark-c); }
del { color: var(--bad); } ins { color: var(--best); text-decoration: none; font-weight: 600; }
"""


def write_preview(folder: Path, out: Path, *, num: int = 40, seed: int = 0) -> int:
    """Write a page of `num` rows of `folder`, drawn with `seed`, to `out`; returns how many there are."""
    parts = sorted((folder / "subcaptions").glob("*.parquet"))
    if not parts:
        raise UserError(f"{folder} holds no subcaptions; run `pipeline augment-captions` first")
    if num < 1:
        raise UserError(f"a preview of {num} captions: at least 1")
    articles = []
    for part, numbers in _sample(parts, num, seed).items():
        rows = read_table(part).take(numbers).to_pylist()
        graphs = read_table(folder / "scene_graphs" / part.name).take(numbers).to_pylist()
        images = _images(folder / "shards" / part.with_suffix(".tar").name, {row["key"] for row in rows})
        articles += [
            "".join(_article(row, graph, images.get(row["key"])))
            for row, graph in zip(rows, graphs, strict=True)
        ]
    told = (
        '<p>In the caption: <span class="entity">things</span>, <span class="attribute">attributes</span>, '
        '<span class="relation">relations</span>. In a negative: what was <del>taken out</del> and '
        "<ins>put in</ins>.</p>"
    )
    write_page(out, f"{len(articles)} captions of {folder}", [told, *articles], style=STYLE)
    return len(articles)


def _sample(parts: Sequence[Path], num: int, seed: int) -> dict[Path, list[int]]:
    """Row numbers per part, ascending, drawn evenly over all rows."""
    places = [(part, row) for part in parts for row in range(read_table(part).num_rows)]
    chosen = sorted(random.Random(f"{seed}:preview").sample(range(len(places)), min(num, len(places))))
    found: dict[Path, list[int]] = {}
    for place in chosen:
        part, row = places[place]
        found.setdefault(part, []).append(row)
    return found


def _images(shard: Path, keys: set[str]) -> dict[str, str]:
    """Data URIs of the small images of these samples."""
    found: dict[str, str] = {}
    if not shard.exists():
        return found
    for sample in read_tar(shard, wanted=frozenset(IMAGE_EXTENSIONS), faults=[]):
        for extension, data in sample.members.items():
            if sample.key in keys and len(data) <= MAX_IMAGE_BYTES:
                kind = "jpeg" if extension == "jpg" else extension
                found[sample.key] = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return found


def _article(row: Mapping[str, Any], graph: Mapping[str, Any], image: str | None) -> Iterator[str]:
    yield "<article>"
    if image is not None:
        yield f'<img src="{image}" alt="">'
    yield f"<div><h2>{_marked(row['caption'], graph)}</h2>"
    heads = [entity["head"] for entity in graph["entities"]]
    for relation in graph["relations"]:
        triple = (heads[relation["subject"]], relation["text"], heads[relation["object"]])
        yield f'<p class="key">{" &rarr; ".join(escape(text) for text in triple)} ({escape(relation["rule"])})</p>'
    yield f"<p><b>{escape(row['positive']) or '&mdash;'}</b></p><ul>"
    for negative in row["negatives"]:
        kind, edited = escape(negative["kind"]), _edited(row["positive"], negative["edits"])
        yield f'<li><span class="kind">{kind}</span> {edited}</li>'
    yield f'</ul><p class="key">{escape(row["key"])} &middot; {escape(row["status"])}</p></div></article>'


def _marked(caption: str, graph: Mapping[str, Any]) -> str:
    """The caption with its elements marked; where two overlap, the later one is left unmarked."""
    spans = [(e["start"], e["end"], "entity") for e in graph["entities"]]
    spans += [(a["start"], a["end"], "attribute") for e in graph["entities"] for a in e["attributes"]]
    spans += [(r["start"], r["end"], "relation") for r in graph["relations"]]
    pieces, at = [], 0
    for start, end, kind in sorted(spans):
        if start < at:
            continue
        pieces += [escape(caption[at:start]), f'<span class="{kind}">{escape(caption[start:end])}</span>']
        at = end
    return "".join([*pieces, escape(caption[at:])])


def _edited(positive: str, edits: Sequence[Mapping[str, Any]]) -> str:
    pieces, at = [], 0
    for edit in sorted(edits, key=lambda edit: int(edit["start"])):
        pieces.append(escape(positive[at : edit["start"]]))
        pieces.append(f"<del>{escape(edit['original'])}</del> <ins>{escape(edit['replacement'])}</ins>")
        at = edit["end"]
    return "".join([*pieces, escape(positive[at:])])
