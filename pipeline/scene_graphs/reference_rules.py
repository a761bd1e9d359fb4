"""SceneGraphParser 0.1.0's rules, unchanged, on a document that spaCy has parsed: what `--rules sng` asks for.

Called by `parser.py`; the only user of sng_parser. The graphs are its own, in our records: a test compares them.
"""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pipeline.caption_parser  # noqa: F401 - first: it keeps thinc from importing torch

# isort: split
from spacy.tokens import Doc  # noqa: TID251

from pipeline import schema
from pipeline.schema import Attribute, Entity, Relation, SceneGraph


def load_reference() -> Any:
    """SceneGraphParser's rules without its model: its `nlp` hands back the document it is given.

    Its constructor loads a spaCy model by name; the rules need none, so the object is made without it.
    """
    import sng_parser  # noqa: TID251  # this is SceneGraphParser's one module; few ask for its rules

    database = importlib.import_module("sng_parser.database")
    backends = sng_parser.Parser._backend_registry
    if "spacy" not in backends:
        importlib.import_module("sng_parser.backends")
    for path in sorted((Path(sng_parser.__file__).parent / "_data").glob("*.txt")):
        # Its own reader leaves the files open; it reads what stands in its cache no more.
        words = frozenset(path.read_text("utf-8").splitlines())
        database._caches.setdefault(path.name, words - {""})
    rules = object.__new__(backends["spacy"])
    rules.nlp = lambda doc: doc
    return rules


def reference_graph(rules: Any, doc: Doc) -> SceneGraph:
    """SceneGraphParser's graph of a document as our records: same entities, same relations, in its order.

    Determiners, which it counts as modifiers, are left out. Offsets come from the tokens its rules read.
    """
    found = rules.parse(doc)
    entities = tuple(reference_entity(entity, doc) for entity in found["entities"])
    chunks = [entity["span_bounds"] for entity in found["entities"]]
    relations = []
    for relation in found["relations"]:
        first, last = locate_words(relation, chunks, doc)
        relations.append(
            Relation(
                subject=relation["subject"], object=relation["object"], text=relation["relation"],
                lemma=relation["lemma_relation"].lower(), tag=doc[first].tag_, start=doc[first].idx,
                end=doc[last].idx + len(doc[last]), rule="sng",
            )
        )  # fmt: skip
    status = schema.OK if entities else schema.NO_ENTITY
    return SceneGraph(entities=entities, relations=tuple(relations), status=status)


def reference_entity(entity: dict[str, Any], doc: Doc) -> Entity:
    """One of SceneGraphParser's entities; its head is the chunk's last word with the compounds before it."""
    start, end = entity["span_bounds"]
    root = doc[start:end].root
    compounds = [child for child in root.children if child.dep_ == "compound"]
    first = min([root, *compounds], key=lambda token: token.i)
    attributes = []
    for child in root.children:
        if child.dep_ == "nummod":
            attributes.append(child)
        elif child.dep_ == "amod":
            attributes += [child, *(other for other in child.children if other.dep_ == "conj")]
    return Entity(
        head=entity["head"], lemma=entity["lemma_head"].lower(), tag=root.tag_, start=first.idx,
        end=root.idx + len(root),
        attributes=tuple(
            Attribute(
                text=token.text, lemma=token.lemma_.lower(), tag=token.tag_, start=token.idx, end=token.idx + len(token)
            )
            for token in attributes
        ),
    )  # fmt: skip


def locate_words(relation: dict[str, Any], chunks: Sequence[tuple[int, int]], doc: Doc) -> tuple[int, int]:
    """First and last token of a relation's words: the run that reads like its text and stands nearest its object."""
    words = relation["relation"].split()
    anchor = chunks[relation["object"]][0]
    runs = [
        start
        for start in range(len(doc) - len(words) + 1)
        if [token.text for token in doc[start : start + len(words)]] == words
    ]
    if runs:
        first = min(runs, key=lambda start: (abs(start - anchor), start))
        return first, first + len(words) - 1
    # Its two words may stand apart ("stand quietly next to"), and a text may hold several tokens.
    places = [token.i for token in doc if token.text in words] or [anchor]
    return places[0], places[-1]
