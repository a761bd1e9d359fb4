"""Which terms the elements of a caption rule out, as bits: what `positives` gives to each plan.

Captions name few things, over and over: these three remember what the last ones ruled out.
"""

import re
from functools import lru_cache
from typing import Final

from pipeline.lexicons.loading import Lexicon

PEOPLE: Final = frozenset(
    re.findall(
        r"\w+",
        "people everybody everyone someone somebody others crowd group family couple team women male males female"
        " females adult adults",
    )
)
"""Words that WordNet does not have as people, who may be anybody."""


@lru_cache(maxsize=50_000)
def excluded_by_entity(objects: Lexicon, lemma: str, head: str) -> int:
    """Terms that an entity of the caption rules out."""
    excluded = objects.excluded(lemma)
    if lemma in PEOPLE:
        excluded |= objects.excluded("person")
    if head != lemma:
        excluded |= objects.excluded(head.lower())
    if " " in lemma:
        excluded |= objects.excluded(lemma.rpartition(" ")[2])
    return excluded


@lru_cache(maxsize=50_000)
def excluded_by_attribute(attributes: Lexicon, text: str, lemma: str) -> int:
    """Terms that an attribute of the caption rules out."""
    return attributes.excluded(text.lower()) | attributes.excluded(lemma)


@lru_cache(maxsize=50_000)
def excluded_by_relation(relations: Lexicon, lemma: str, text: str, tag: str) -> int:
    """Terms that a relation of the caption rules out."""
    if tag in ("TO", "MD"):  # "to brush" rules out what "brush" does
        lemma = lemma.partition(" ")[2] or lemma
    excluded = relations.excluded(lemma) | relations.excluded(text.lower())
    verb, _, rest = lemma.partition(" ")
    if tag[:1] in ("V", "T", "M"):
        excluded |= relations.excluded(verb)
        if rest:  # "sitting on" says "on", "standing in front of" says "in front of" and "of"
            excluded |= relations.excluded("+" + rest) | relations.excluded("+" + rest.rpartition(" ")[2])
    elif rest:
        excluded |= relations.excluded(verb) | relations.excluded(lemma.rpartition(" ")[2])
    return excluded
