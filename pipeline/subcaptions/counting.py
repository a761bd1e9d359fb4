"""Scene graphs -> how often their words stand together: the counts behind `--draw plausible`.

Words alone are counted in positives, where a negative's words will stand beside them; pairs in the whole graph.
"""

import re
from collections.abc import Iterable
from typing import Final

from pipeline import schema
from pipeline.lexicons.pairs import ALONE, ANY, ATTRIBUTES, OBJECTS, RELATIONS, SUBJECTS, PairCounts
from pipeline.schema import Entity, Relation, SceneGraph
from pipeline.subcaptions.positives import choose_entity, choose_relation, describes, ends_of, relation_key

_WORD: Final = re.compile(r"@?[a-z]+(?:[-' ][a-z]+)*")


def count_pairs(graphs: Iterable[SceneGraph]) -> PairCounts:
    """The counts of some captions' graphs."""
    counts = PairCounts()
    for graph in graphs:
        if graph.status != schema.OK:
            continue
        chosen = choose_relation(graph)
        if chosen is None:
            _count_noun(counts, SUBJECTS, (ALONE, ANY), choose_entity(graph))
            _count_attributes(counts, choose_entity(graph), None)
        for relation in graph.relations:
            if relation.subject == relation.object:
                continue
            key = relation_key(relation)
            words = (key, ANY) if relation is chosen else (key,)
            first, second = ends_of(graph, relation)
            _count_noun(counts, SUBJECTS, words, first)
            _count_noun(counts, OBJECTS, words, second)
            if relation is chosen:
                _count(counts, RELATIONS, (ANY,), key)
                _count_attributes(counts, first, relation)
                _count_attributes(counts, second, relation)
    return counts


def _count_noun(counts: PairCounts, link: str, words: Iterable[str], noun: Entity) -> None:
    _count(counts, link, words, noun.lemma)
    last = noun.lemma.rpartition(" ")[2]
    if last != noun.lemma:  # of a "tennis player" what is true of players
        _count(counts, link, (word for word in words if word != ANY), last)


def _count_attributes(counts: PairCounts, noun: Entity, relation: Relation | None) -> None:
    for attribute in noun.attributes:
        if describes(attribute, relation, noun.start):
            words = (noun.lemma.rpartition(" ")[2], ANY)
            _count(counts, ATTRIBUTES, words, attribute.text.lower())


def _count(counts: PairCounts, link: str, words: Iterable[str], companion: str) -> None:
    if _WORD.fullmatch(companion):
        for word in words:
            if word in (ANY, ALONE) or _WORD.fullmatch(word):
                counts.links[link][word][companion] += 1
