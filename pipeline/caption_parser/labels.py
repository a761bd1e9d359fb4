"""The teacher's labels: tags, heads and dependency labels of captions, cached on disk as spaCy's DocBin.

Used by the recipe and the benchmarks only. Labelling is the slow part of the recipe (about 650 captions a second and
core), so it runs in processes and each text is labelled once.
"""

import multiprocessing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import spacy  # noqa: TID251 - the bundled parser's own package
from spacy.language import Language  # noqa: TID251
from spacy.tokens import DocBin  # noqa: TID251

CHUNK: Final = 4_000
"""Texts a process labels between two clean-ups of its memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledText:
    """One labelled text, small enough to keep hundreds of thousands in memory."""

    words: tuple[str, ...]
    spaces: tuple[bool, ...]
    tags: tuple[str, ...]
    heads: tuple[int, ...]
    deps: tuple[str, ...]


def load_teacher(path: Path) -> Language:
    """The teacher without the components whose output is not learnt."""
    return spacy.load(path, exclude=["attribute_ruler", "lemmatizer", "ner"])


def label(texts: Sequence[str], *, teacher: Path, cache: Path, workers: int) -> list[LabelledText]:
    """The texts labelled by the teacher, in order; `cache` is read where it exists, else written."""
    if not cache.exists():
        chunks = [texts[start : start + CHUNK] for start in range(0, len(texts), CHUNK)]
        bins = DocBin(attrs=["ORTH", "SPACY", "TAG", "HEAD", "DEP"])
        context = multiprocessing.get_context("spawn")
        with context.Pool(workers, initializer=_start_worker, initargs=(teacher,)) as pool:
            for part in pool.imap(_label_chunk, chunks):
                bins.merge(DocBin().from_bytes(part))
        cache.parent.mkdir(parents=True, exist_ok=True)
        bins.to_disk(cache)
    return list(read_labels(cache))


def read_labels(cache: Path) -> Iterator[LabelledText]:
    """The labelled texts of one cache file."""
    strings = spacy.blank("en").vocab
    intern: dict[str, str] = {}
    for doc in DocBin().from_disk(cache).get_docs(strings):
        words = tuple(intern.setdefault(token.text, token.text) for token in doc)
        yield LabelledText(
            words=words,
            spaces=tuple(bool(token.whitespace_) for token in doc),
            tags=tuple(intern.setdefault(token.tag_, token.tag_) for token in doc),
            heads=tuple(token.head.i for token in doc),
            deps=tuple(intern.setdefault(token.dep_, token.dep_) for token in doc),
        )


_worker_teacher: Language | None = None


def _start_worker(path: Path) -> None:
    global _worker_teacher  # noqa: PLW0603 - one loaded pipeline per worker process
    _worker_teacher = load_teacher(path)


def _label_chunk(texts: Sequence[str]) -> bytes:
    assert _worker_teacher is not None
    bins = DocBin(attrs=["ORTH", "SPACY", "TAG", "HEAD", "DEP"])
    with _worker_teacher.memory_zone():
        for doc in _worker_teacher.pipe(texts, batch_size=500):
            bins.add(doc)
    return bins.to_bytes()
