"""A static HTML page of sampled captions with graph, positive and negatives, to look at what was made; or JSON.

One file, no script, nothing loaded from elsewhere; every text is escaped, since captions come from strangers.
"""

import base64
import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.page import paragraph, table, write_page
from pipeline.storage import (
    IMAGE_EXTENSIONS,
    is_file,
    read_bytes,
    read_json,
    read_table,
    read_tar,
    write_json,
)

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
    """Write a page of `num` rows of `folder`, drawn with `seed`, to `out`; returns how many there are.

    `out` ends in .html, or in .json for the same rows as a list.
    """
    if out.suffix not in (".html", ".json"):
        raise UserError(f"a preview is written as .html or .json, not {out.name!r}")
    parts = sorted((folder / "subcaptions").glob("*.parquet"))
    if not parts:
        raise UserError(f"{folder} holds no subcaptions; run `pipeline augment-captions` first")
    if num < 1:
        raise UserError(f"a preview of {num} captions: at least 1")
    articles: list[str] = []
    records: list[dict[str, Any]] = []
    for part, numbers in _sample(parts, num, seed).items():
        rows = read_table(part).take(numbers).to_pylist()
        graphs = read_table(folder / "scene_graphs" / part.name).take(numbers).to_pylist()
        if out.suffix == ".json":
            of_graph = ("entities", "relations")
            records += [
                row | {name: graph[name] for name in of_graph}
                for row, graph in zip(rows, graphs, strict=True)
            ]
            continue
        images = _images(folder / "shards" / part.with_suffix(".tar").name, {row["key"] for row in rows})
        articles += [
            "".join(_article(row, graph, images.get(row["key"])))
            for row, graph in zip(rows, graphs, strict=True)
        ]
    if out.suffix == ".json":
        write_json(out, records)
        return len(records)
    told = (
        '<p>In the caption: <span class="entity">things</span>, <span class="attribute">attributes</span>, '
        '<span class="relation">relations</span>. In a negative: what was <del>taken out</del> and '
        "<ins>put in</ins>.</p>"
    )
    parts_of_page = [told, *articles, *_provenance(folder, seed=seed)]
    write_page(out, f"{len(articles)} captions of {folder}", parts_of_page, style=STYLE)
    return len(articles)


def _provenance(folder: Path, *, seed: int) -> list[str]:
    """What the folder was made with and of, as its manifest says; nothing where it is not finished."""
    path = folder / "manifest.json"
    if not is_file(path):
        return ["<h2>Provenance</h2>", paragraph("The folder is not finished: it has no manifest yet.")]
    manifest = read_json(path)
    rows = manifest.get("rows", {})
    facts = [
        ("manifest sha256", hashlib.sha256(read_bytes(path)).hexdigest()),
        ("made by", str(manifest.get("tool", ""))),
        ("with", _words(manifest.get("versions", {}))),
        *(
            ("input", f"{each.get('path')}, sha256 {each.get('sha256')}")
            for each in manifest.get("inputs", [])[:5]
        ),
        *((name.replace("_", " "), _words(told)) for name, told in manifest.get("stages", {}).items()),
        ("rows", f"{rows.get('in')}, of which {rows.get('ok')} ok"),
        ("these captions", f"drawn with seed {seed}"),
    ]
    more = len(manifest.get("inputs", [])) - 5
    facts += [("and", f"{more} more inputs")] if more > 0 else []
    return ["<h2>Provenance</h2>", table((), facts, kind="facts")]


def _words(told: object) -> str:
    """A record in words: `name value, name value`, what is in it in brackets."""
    if not isinstance(told, Mapping):
        return {True: "yes", False: "no"}[told] if isinstance(told, bool) else str(told)
    return ", ".join(
        f"{name} ({_words(value)})" if isinstance(value, Mapping) else f"{name} {value}"
        for name, value in told.items()
    )


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
