"""Captions -> scene graphs: the stage after `captions`, before `subcaptions`; it alone loads spaCy pipelines.

A caption is tagged and parsed by a spaCy pipeline (the bundled one, an installed package, or a folder) and turned
into a graph by a rule set: "default" (`rules.py`), or "sng" (`reference_rules.py`). Every string gives a graph
or a status word; nothing is raised for a caption.
"""

import importlib.util
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from pipeline.caption_parser import morphology  # first: it keeps thinc from importing torch

# isort: split
import spacy  # noqa: TID251 - this is spaCy's one module beside those of `caption_parser/`
from spacy.attrs import DEP, HEAD, IDX, LEMMA, LENGTH, TAG  # type: ignore[import-not-found]  # noqa: TID251
from spacy.language import Language  # noqa: TID251
from spacy.strings import StringStore  # noqa: TID251
from spacy.tokenizer import Tokenizer  # type: ignore[import-not-found]  # noqa: TID251
from spacy.tokens import Doc  # noqa: TID251
from spacy.util import registry  # noqa: TID251
from thinc.api import use_ops

from pipeline import schema
from pipeline.caption_parser.prediction import Analysis, Prediction
from pipeline.engine import without_garbage_collection
from pipeline.errors import UserError, first_line
from pipeline.scene_graphs import words as known_words
from pipeline.scene_graphs.building import build_graph, join_graphs
from pipeline.scene_graphs.dependency_trees import Tree
from pipeline.scene_graphs.identity import BUNDLED, BUNDLED_FOLDER, check_rules, identify
from pipeline.scene_graphs.language import is_foreign
from pipeline.scene_graphs.reference_rules import load_reference, reference_graph
from pipeline.schema import SceneGraph

STORED_TOKENIZER: Final = "cleanerclip.StoredTokenizer.v1"
BATCH_SIZE: Final = 2_048
"""Captions between two clean-ups of spaCy's memory."""
BATCH_CHARACTERS: Final = 400_000
"""Characters of a batch's captions, three times the usual: long ones make smaller batches, for memory's sake."""
SPACY_BATCH_SIZE: Final = 128
"""Sentences that go through a spaCy component together: more fall out of the processor's cache."""

SENTENCE_END: Final = re.compile(r"(?<=[^\W\d])(?:\s*([.!?]+)|\s+[:;|])\s+(?=\w)")
"""Punctuation that ends a sentence, between a letter and a word; a title's colon stands apart."""
LONE_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")


class CaptionParser:
    """Parses captions with one spaCy pipeline and one rule set.

    `spec` is "bundled", the name of an installed spaCy pipeline, or the path of one. Raises UserError for a spec
    that names no spaCy pipeline with a dependency parser, and for unknown rules.
    """

    def __init__(self, spec: str = BUNDLED, *, rules: str = "default") -> None:
        check_rules(rules)
        self.spec = spec
        self.rules = rules
        self._nlp, self._folder = load_pipeline(spec)
        # The recipe's pipelines run without spaCy's loop, unless the reference's rules ask for spaCy's documents.
        fast = rules == "default" and morphology.FACTORY in self._nlp.pipe_names
        self._prediction = Prediction(self._nlp) if fast else None
        self._reference = load_reference() if rules == "sng" else None

    def parse(self, captions: Iterable[str]) -> Iterator[SceneGraph]:
        """One graph per caption, in order. Equal captions of a batch are parsed once."""
        for batch in split_batches(captions):
            graphs = self._parse_batch(list(dict.fromkeys(batch)))
            yield from (graphs[caption] for caption in batch)

    def parse_tree(self, caption: str) -> list[Tree]:
        """The dependency trees of a caption, one per sentence: what `--explain` shows."""
        with self._nlp.memory_zone():
            return list(self._trees([text for _, text in self._sentences(caption)]))

    def identity(self) -> dict[str, str]:
        """What a manifest keeps of this parser: name, version, sha256 of its files, rules."""
        meta = self._nlp.meta
        name = BUNDLED if self.spec == BUNDLED else f"{meta['lang']}_{meta['name']}"
        return identify(name, str(meta["version"]), self._folder, self.rules)

    def _parse_batch(self, captions: Sequence[str]) -> dict[str, SceneGraph]:
        """The graphs of distinct captions."""
        graphs = {}
        texts: list[tuple[str, tuple[str, int]]] = []
        for caption in captions:
            status = caption_status(caption)
            if status != schema.OK:
                graphs[caption] = SceneGraph(status=status)
                continue
            # A lone surrogate cannot be encoded; any other character of the same length can stand for it.
            readable = LONE_SURROGATE.sub("\ufffd", caption)
            if self.rules == "default" and caption.isupper() and len(caption.lower()) == len(caption):
                readable = readable.lower()  # "A MAN WALKING" is read as names
            texts += [(text, (caption, offset)) for offset, text in self._sentences(readable)]
        found: dict[str, list[SceneGraph]] = {}
        with self._nlp.memory_zone(), without_garbage_collection():
            sentences = self._graphs([text for text, _ in texts], [offset for _, (_, offset) in texts])
            for graph, (_, (caption, _)) in zip(sentences, texts, strict=True):
                found.setdefault(caption, []).append(graph)
        for caption, parts in found.items():
            graphs[caption] = join_graphs(parts)
        return graphs

    def _sentences(self, caption: str) -> list[tuple[int, str]]:
        """The sentences with their offsets; SceneGraphParser's rules see the caption as a whole, as they always do."""
        return split_sentences(caption) if self.rules == "default" else [(0, caption)]

    def _graphs(self, texts: Sequence[str], offsets: Sequence[int]) -> Iterator[SceneGraph]:
        """The graph of each sentence; `offsets` are the sentences' places in their captions."""
        if self.rules == "sng":
            for doc in self._nlp.pipe(texts, batch_size=SPACY_BATCH_SIZE):
                yield reference_graph(self._reference, doc)
            return
        for tree, offset in zip(self._trees(texts), offsets, strict=True):
            yield build_graph(tree, offset=offset)

    def _trees(self, texts: Sequence[str]) -> Iterator[Tree]:
        if self._prediction is None:
            return map(to_tree, self._nlp.pipe(texts, batch_size=SPACY_BATCH_SIZE))
        return map(analysed_tree, self._prediction.analyse(texts))


def split_batches(captions: Iterable[str]) -> Iterator[list[str]]:
    """Runs of captions with at most BATCH_SIZE, ended by the one that reaches BATCH_CHARACTERS."""
    batch: list[str] = []
    num_characters = 0
    for caption in captions:
        batch.append(caption)
        num_characters += len(caption)
        if len(batch) == BATCH_SIZE or num_characters >= BATCH_CHARACTERS:
            yield batch
            batch, num_characters = [], 0
    if batch:
        yield batch


@registry.tokenizers(STORED_TOKENIZER)  # type: ignore[untyped-decorator,unused-ignore]
def _stored_tokenizer() -> Callable[[Language], Tokenizer]:
    """Without the language's rules: those of the folder replace them, and to read 1,300 of them twice takes 0.1 s."""
    return lambda nlp: Tokenizer(nlp.vocab)


def load_pipeline(spec: str) -> tuple[Language, Path]:
    """The spaCy pipeline of a spec and the folder it came from; UserError where there is none."""
    folder = BUNDLED_FOLDER if spec == BUNDLED else Path(spec)
    if not folder.exists() and (not re.fullmatch(r"\w+", spec) or importlib.util.find_spec(spec) is None):
        raise UserError(
            f"Parser {spec!r} is neither a folder nor an installed spaCy pipeline: use {BUNDLED!r}, "
            f"a path, or install it, for example with `python -m spacy download en_core_web_sm`."
        )
    try:
        # numpy's own matrix product is about three times as fast here as the one thinc brings.
        with use_ops("numpy", use_blis=False):
            nlp = spacy.load(
                folder if folder.exists() else spec,
                exclude=["ner", "textcat", "entity_linker"],
                config={"nlp.tokenizer": {"@tokenizers": STORED_TOKENIZER}} if spec == BUNDLED else {},
            )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise UserError(f"Parser {spec!r} cannot be loaded: {first_line(error)}") from error
    if "parser" not in nlp.pipe_names:
        raise UserError(
            f"Parser {spec!r} has no dependency parser; it has {', '.join(nlp.pipe_names) or 'nothing'}."
        )
    return nlp, Path(nlp.path) if nlp.path else folder


def caption_status(caption: str) -> str:
    """`schema.OK` where the caption is worth parsing, else the status that says why not."""
    if not caption.strip():
        return schema.NO_CAPTION
    if len(caption) > schema.MAX_CAPTION_CHARACTERS:
        return schema.TOO_LONG
    num_letters = num_latin = 0
    for character in caption:
        if character.isalpha():
            num_letters += 1
            num_latin += character < "\u0250" or unicodedata.name(character, "").startswith("LATIN")
    if num_letters == 0:
        return schema.NO_LETTERS
    return schema.OK if num_latin * 2 >= num_letters and not is_foreign(caption) else schema.NOT_ENGLISH


def split_sentences(caption: str) -> list[tuple[int, str]]:
    """The sentences of a caption with their character offsets; abbreviations and initials do not end one."""
    pieces = []
    start = 0
    for match in SENTENCE_END.finditer(caption):
        word = re.split(r"\W+", caption[start : match.start()])[-1].lower()
        if len(word) < 2 or word in known_words.ABBREVIATIONS:
            continue
        pieces.append((start, caption[start : match.end(1) if match[1] else match.end()].rstrip()))
        start = match.end()
    pieces.append((start, caption[start:]))
    return pieces


def to_tree(doc: Doc) -> Tree:
    """The parsed caption without spaCy: what the rules read."""
    text = doc.text
    name = _name_symbol
    strings = doc.vocab.strings
    # One array is several times as fast as asking each token for each of its properties.
    table = doc.to_array([IDX, LENGTH, TAG, DEP, HEAD, LEMMA]).tolist() if len(doc) else []
    tags, labels = [], []
    for _, _, tag, label, _, _ in table:
        tags.append(name(tag, strings))
        labels.append(name(label, strings))
    return Tree(
        text=text,
        words=[text[row[0] : row[0] + row[1]] for row in table],
        lemmas=[strings[row[5]].lower() for row in table],
        tags=tags,
        labels=labels,
        heads=[index + (row[4] if row[4] < HALF else row[4] - 2 * HALF) for index, row in enumerate(table)],
        starts=[row[0] for row in table],
    )


def analysed_tree(analysis: Analysis) -> Tree:
    """The tree of a sentence that the bundled parser analysed without spaCy's documents."""
    text, words, starts, lemmas, tags, labels, heads = analysis
    return Tree(text=text, words=words, lemmas=lemmas, tags=tags, labels=labels, heads=heads, starts=starts)


HALF: Final = 2**63
_symbols: dict[int, str] = {}


def _name_symbol(symbol: int, strings: StringStore) -> str:
    """The name of a tag or a label; there are few, so each is looked up once. A hash has one name in any vocabulary."""
    found = _symbols.get(symbol)
    if found is None:
        found = _symbols[symbol] = strings[symbol]
    return found
