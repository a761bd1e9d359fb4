"""`pipeline parse-captions --explain`: a caption's tree, its graph, and the rule behind each relation; text or SVG.

For a reader at the terminal or in a browser, after `scene_graphs` and beside the flow: nothing reads what is made here.
"""

from collections.abc import Iterator, Sequence
from html import escape
from typing import Final

from pipeline.scene_graphs.dependency_trees import Tree
from pipeline.scene_graphs.parser import CaptionParser
from pipeline.scene_graphs.rules import RULES
from pipeline.schema import Entity, SceneGraph

CHARACTER_WIDTH: Final = 8.4
"""Pixels of one character of the SVG's monospaced font at 14 px."""
WORD_GAP: Final = 22
LEVEL_HEIGHT: Final = 26
"""Pixels between the arcs of neighbouring words and of those one word further apart."""
MARGIN: Final = 24
ROW_HEIGHT: Final = 22
STYLE: Final = """
text { font: 14px ui-monospace, Menlo, Consolas, monospace; fill: #1b1f24; }
.tag { font-size: 11px; fill: #57606a; text-anchor: middle; }
.word { text-anchor: middle; }
.label { font-size: 11px; fill: #0550ae; text-anchor: middle; }
.rule { fill: #57606a; }
path { fill: none; stroke: #8c959f; stroke-width: 1.2; }
"""


def explain_text(caption: str, parser: CaptionParser) -> str:
    """The caption's tree, entities and relations as text for a terminal; each relation with its rule."""
    (graph,) = parser.parse([caption])
    lines = [caption.strip() or "(empty caption)", ""]
    if graph.status not in ("ok", "no_entity"):
        return "\n".join([*lines, f"no graph: {graph.status}"])
    for tree in parser.parse_tree(caption):
        lines += [*tree_lines(tree), ""]
    return "\n".join([*lines, *graph_lines(graph)])


def tree_lines(tree: Tree) -> Iterator[str]:
    """The dependency tree, one word a line, children under their head in the order of the words."""
    roots = [index for index, head in enumerate(tree.heads) if head == index]
    pending = [(root, "", "") for root in reversed(roots)]
    while pending:
        index, first, rest = pending.pop()
        yield f"{first}{tree.words[index]}  {tree.tags[index]} {tree.labels[index]}"
        children = tree.children[index]
        last = children[-1] if children else None
        for child in reversed(children):
            branch, below = ("└─ ", "   ") if child == last else ("├─ ", "│  ")
            pending.append((child, rest + branch, rest + below))


def graph_lines(graph: SceneGraph) -> list[str]:
    """Entities with their attributes, then relations with the rules that made them."""
    if not graph.entities:
        return ["no noun was found"]
    lines = ["entities"]
    lines += [f"  {number}  {entity_text(entity)}" for number, entity in enumerate(graph.entities)]
    if not graph.relations:
        return [*lines, "relations", "  none"]
    rows = relation_rows(graph)
    width = max(len(row) for row, _ in rows)
    lines += ["relations", *(f"  {row.ljust(width)}  {rule}" for row, rule in rows)]
    used = [rule for rule in RULES if any(relation.rule == rule.name for relation in graph.relations)]
    return [*lines, *(f"{rule.name}: here SceneGraphParser {rule.repairs}" for rule in used)]


def entity_text(entity: Entity) -> str:
    """ "dog (black, small)"."""
    attributes = ", ".join(attribute.text for attribute in entity.attributes)
    return f"{entity.head} ({attributes})" if attributes else entity.head


def relation_rows(graph: SceneGraph) -> list[tuple[str, str]]:
    """(relation as "man --riding--> horse", rule) of each relation."""
    return [
        (
            f"{graph.entities[relation.subject].head} --{relation.text}--> {graph.entities[relation.object].head}",
            relation.rule,
        )
        for relation in graph.relations
    ]


# ---------------------------------------------------------------- drawing
def explain_svg(caption: str, parser: CaptionParser) -> str:
    """A picture of the caption's tree as arcs over its words, and below it the graph; one SVG document."""
    (graph,) = parser.parse([caption])
    trees = parser.parse_tree(caption) if graph.status in ("ok", "no_entity") else []
    parts: list[str] = []
    top, width = float(MARGIN), 320.0
    for tree in trees:
        drawing, size = draw_tree(tree, top=top)
        parts += drawing
        width, top = max(width, size[0]), top + size[1] + MARGIN
    lines = graph_lines(graph) if trees else [f"no graph: {graph.status}"]
    for line in lines:
        top += ROW_HEIGHT
        width = max(width, 2 * MARGIN + CHARACTER_WIDTH * len(line))
        parts.append(
            f'<text x="{MARGIN}" y="{top:.0f}" xml:space="preserve">{escape(printable(line))}</text>'
        )
    height = top + MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}"'
        f' height="{height:.0f}" role="img">\n<title>{escape(printable(caption))}</title>\n<style>{STYLE}</style>\n'
        f'<rect width="100%" height="100%" fill="#ffffff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def printable(text: str) -> str:
    """The text without the characters that XML forbids."""
    return "".join(character if character.isprintable() else " " for character in text)


def word_centres(words: Sequence[str], tags: Sequence[str]) -> tuple[list[float], float]:
    """The middle of each word in pixels, and the width of the row."""
    centres = []
    left = float(MARGIN)
    for word, tag in zip(words, tags, strict=True):
        width = CHARACTER_WIDTH * max(len(word), len(tag), 4)
        centres.append(left + width / 2)
        left += width + WORD_GAP
    return centres, left - WORD_GAP + MARGIN


def draw_tree(tree: Tree, *, top: float) -> tuple[list[str], tuple[float, float]]:
    """The SVG elements of one tree whose upper edge is at `top`, and its (width, height)."""
    centres, width = word_centres(tree.words, tree.tags)
    arcs = [(index, head) for index, head in enumerate(tree.heads) if head != index]
    levels = arc_levels(arcs)
    base = top + LEVEL_HEIGHT * (max(levels.values(), default=0) + 1)
    parts = []
    for index, head in arcs:
        height = LEVEL_HEIGHT * levels[index]
        start, end = centres[head], centres[index]
        middle, peak = (start + end) / 2, base - height
        label = escape(tree.labels[index])
        parts.append(
            f'<path d="M{start:.0f},{base:.0f} C{start:.0f},{peak:.0f} {end:.0f},{peak:.0f} {end:.0f},{base:.0f}"/>'
            f'<text class="label" x="{middle:.0f}" y="{base - 0.75 * height - 3:.0f}">{label}</text>'
        )
        parts.append(
            f'<path d="M{end - 3:.0f},{base - 5:.0f} L{end:.0f},{base:.0f} L{end + 3:.0f},{base - 5:.0f}"/>'
        )
    for centre, word, tag in zip(centres, tree.words, tree.tags, strict=True):
        parts.append(
            f'<text class="word" x="{centre:.0f}" y="{base + 18:.0f}">{escape(printable(word))}</text>'
        )
        parts.append(f'<text class="tag" x="{centre:.0f}" y="{base + 34:.0f}">{escape(tag)}</text>')
    return parts, (width, base + 34 - top)


def arc_levels(arcs: Sequence[tuple[int, int]]) -> dict[int, int]:
    """How high each word's arc must rise to clear the arcs inside it, by the word it ends at."""
    levels: dict[int, int] = {}
    spans: list[tuple[int, int, int]] = []
    for index, head in sorted(arcs, key=lambda arc: (abs(arc[0] - arc[1]), arc)):
        first, last = min(index, head), max(index, head)
        inside = [level for left, right, level in spans if first <= left and right <= last]
        levels[index] = max(inside, default=0) + 1
        spans.append((first, last, levels[index]))
    return levels
