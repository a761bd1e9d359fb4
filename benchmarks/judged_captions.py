"""The hand-checked captions: 200 held-out web captions whose relations were read and judged one by one.

The file holds no caption: for each its row in `cc3m/validation_first_8000.tsv`, the sha256 of its text, and each judged
relation as character positions with the judgement. Right means that a reader of the caption alone would say so: both
nouns are things the caption names, and the words between them say how they stand to each other, whole or in the part
that matters. A relation is wrong where a noun is mis-cut to another meaning, the wrong noun is taken, or the words do
not say it.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline.caption_parser.corpus import read_cc3m
from pipeline.scene_graphs.parser import CaptionParser
from pipeline.schema import SceneGraph

Place = tuple[int, int, int, int]
"""End of the subject, start and end of the relation's words, end of the object: the same however a noun is cut."""


@dataclass(frozen=True, kw_only=True)
class JudgedCaption:
    text: str
    right: frozenset[Place]
    wrong: frozenset[Place]


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """How one parser's relations fare on the judged captions."""

    num_captions: int
    num_with_relation: int
    num_right: int
    num_wrong: int
    num_unjudged: int
    num_missed: int

    @property
    def precision(self) -> float:
        """Of the judged relations it gives; the lower bound, all unjudged ones wrong, is `lower_precision`."""
        return self.num_right / max(1, self.num_right + self.num_wrong)

    @property
    def lower_precision(self) -> float:
        return self.num_right / max(1, self.num_right + self.num_wrong + self.num_unjudged)

    def __str__(self) -> str:
        return (
            f"{self.num_captions} hand-checked captions: {self.num_with_relation} with a relation, "
            f"{self.num_right} relations right, {self.num_wrong} wrong, {self.num_unjudged} unjudged "
            f"(precision {100 * self.precision:.1f} %, at least {100 * self.lower_precision:.1f} %), "
            f"{self.num_missed} right ones missed"
        )


def places(graph: SceneGraph) -> list[Place]:
    return [
        (graph.entities[each.subject].end, each.start, each.end, graph.entities[each.object].end)
        for each in graph.relations
    ]


def read_judged(path: Path, *, data: Path) -> list[JudgedCaption]:
    """The judged captions with their texts from the data; ValueError where a text is another than the judged one."""
    texts = {each.row: each.text for each in read_cc3m(data) if each.source == "cc3m_tsv"}
    found = []
    for item in json.loads(path.read_text("utf-8"))["captions"]:
        text = texts[str(item["row"])]
        if hashlib.sha256(text.encode()).hexdigest() != item["sha256"]:
            raise ValueError(f"row {item['row']} of the captions is not the one that was judged")
        judged: dict[bool, set[Place]] = {True: set(), False: set()}
        for *place, right in item["relations"]:
            judged[bool(right)].add(tuple(place))
        found.append(JudgedCaption(text=text, right=frozenset(judged[True]), wrong=frozenset(judged[False])))
    return found


def judge(captions: Iterable[JudgedCaption], parser: CaptionParser) -> Judgement:
    """Count a parser's relations against the judgements."""
    judged = list(captions)
    right = wrong = unjudged = missed = with_relation = 0
    for caption, graph in zip(judged, parser.parse(each.text for each in judged), strict=True):
        found = set(places(graph))
        with_relation += bool(found)
        right += len(found & caption.right)
        wrong += len(found & caption.wrong)
        unjudged += len(found - caption.right - caption.wrong)
        missed += len(caption.right - found)
    return Judgement(
        num_captions=len(judged), num_with_relation=with_relation, num_right=right, num_wrong=wrong,
        num_unjudged=unjudged, num_missed=missed,
    )  # fmt: skip
