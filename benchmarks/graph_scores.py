"""Scores of scene graphs against FACTUAL's hand-made graphs, and agreement between two parsers' graphs.

A graph is a set of tuples: `(subject, relation, object)` for a relation, `(object, "is", attribute)` for an attribute,
`(object,)` for an entity that stands in no other tuple, as FACTUAL writes them. Two tuples are equal when their
normalised words are equal; no synonyms. Both sides are normalised from the words as written by one lemmatizer, so no
parser gains by its own: articles go, numbers become digits ("two" -> "2"), the last word of a noun becomes singular,
verb forms become their verb, a possessive 's reads "have". F1 is micro-averaged over the captions.
"""

import re
from collections.abc import Iterable, Set
from dataclasses import dataclass
from functools import cache

from pipeline.caption_parser.morphology import CaptionMorphology
from pipeline.scene_graphs.identity import BUNDLED_FOLDER
from pipeline.schema import SceneGraph

Words = tuple[str, ...]

NUMBERS = {
    word: str(value)
    for value, word in enumerate(re.findall(r"\w+", "one two three four five six seven eight nine ten"), 1)
}
ARTICLES = frozenset({"a", "an", "the"})
NO_VERBS = frozenset(
    re.findall(r"\w+", "in on of at to by for with from over under near behind above inside into left right")
)


@cache
def morphology() -> CaptionMorphology:
    return CaptionMorphology().from_disk(BUNDLED_FOLDER / "caption_morphology")


def words_of(text: str) -> list[str]:
    """The words without articles, numbers as digits, hyphens as spaces."""
    words = re.findall(r"[^\W_]+|'s", text.lower().replace("’", "'"))
    return [NUMBERS.get(word, word) for word in words if word not in ARTICLES]


@cache
def noun(text: str) -> str:
    """ "traffic lights" -> "traffic light"."""
    words = words_of(text)
    return " ".join([*words[:-1], morphology().lemma(words[-1], "NNS")]) if words else ""


@cache
def relation(text: str) -> str:
    """ "are standing next to" -> "stand next to"; a lone "is" stays "be"."""
    found = []
    for word in words_of(text):
        if word == "'s":
            found.append("have")
            continue
        tag = "VBG" if word.endswith("ing") else "VBZ" if word.endswith("s") else "VBN"
        form = morphology().lemma(word, tag)
        known = (
            form != word
            and word not in NO_VERBS
            and (form in verbs() or word in morphology().irregular["verb"])
        )
        found.append(form if known else word)
    while len(found) > 1 and found[0] in ("be", "to"):
        found = found[1:]
    return " ".join(found)


@cache
def verbs() -> frozenset[str]:
    return frozenset(morphology().verbs)


def attribute(text: str) -> str:
    return " ".join(words_of(text))


def gold_tuples(scene_graph: str) -> set[Words]:
    """The tuples of one FACTUAL cell: "( stove , is , white ) , ( stove , in , kitchen )"."""
    found: set[Words] = set()
    for part in re.findall(r"\(\s(.*?)\s\)(?=\s,\s\(|\s*$)", scene_graph):
        cells = [cell.strip() for cell in part.split(" , ")]
        if len(cells) == 1:
            found.add((noun(cells[0]),))
        elif len(cells) == 3 and cells[1] == "is":
            found.add((noun(cells[0]), "is", attribute(cells[2])))
        elif len(cells) == 3:
            found.add((noun(cells[0]), relation(cells[1]), noun(cells[2])))
    return found


def graph_tuples(graph: SceneGraph) -> set[Words]:
    """The tuples of one of our graphs."""
    names = [noun(entity.head) for entity in graph.entities]
    found: set[Words] = {
        (names[each.subject], relation(each.text), names[each.object]) for each in graph.relations
    }
    for name, entity in zip(names, graph.entities, strict=True):
        found |= {(name, "is", attribute(each.text)) for each in entity.attributes}
    used = {word for words in found for word in (words[0], words[2] if words[1] != "is" else "")}
    return found | {(name,) for name in names if name not in used}


def triples(graph: SceneGraph) -> set[Words]:
    """The relations alone, as written: how far two parsers agree on the same caption with the same rules."""
    return {
        (graph.entities[each.subject].head, each.text, graph.entities[each.object].head)
        for each in graph.relations
    }


@dataclass(frozen=True, kw_only=True)
class Score:
    """Counts over captions: tuples of the gold graphs, of the predicted ones, and of both."""

    num_gold: int
    num_predicted: int
    num_both: int

    @property
    def precision(self) -> float:
        return self.num_both / max(1, self.num_predicted)

    @property
    def recall(self) -> float:
        return self.num_both / max(1, self.num_gold)

    @property
    def f1(self) -> float:
        return 2 * self.num_both / max(1, self.num_gold + self.num_predicted)


def score(pairs: Iterable[tuple[Set[Words], Set[Words]]]) -> Score:
    """The micro-averaged score of (gold, predicted) pairs."""
    gold_count = predicted_count = both = 0
    for gold, predicted in pairs:
        gold_count += len(gold)
        predicted_count += len(predicted)
        both += len(gold & predicted)
    return Score(num_gold=gold_count, num_predicted=predicted_count, num_both=both)


def only(tuples: Set[Words], kind: str) -> set[Words]:
    """The tuples of one kind: relation, attribute, or entity (one that stands alone)."""
    if kind == "entity":
        return {words for words in tuples if len(words) == 1}
    return {words for words in tuples if len(words) == 3 and (words[1] == "is") == (kind == "attribute")}


def with_entities(tuples: Set[Words]) -> set[Words]:
    """The tuples and each entity in them alone: what SPICE counts."""
    named = {(words[0],) for words in tuples} | {
        (words[2],) for words in tuples if len(words) == 3 and words[1] != "is"
    }
    return set(tuples) | named
