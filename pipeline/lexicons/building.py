"""Builds the three lexicons: candidates from WordNet, bands by frequency, forms, links; then writes them.

Runs once per lexicon version, behind `pipeline build-lexicons`. The same WordNet, word lists and seed give the same
bytes. What it writes is read by `loading`.
"""

import csv
import hashlib
import importlib.metadata
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final

from pipeline.errors import UserError
from pipeline.lexicons.candidates import (
    LISTS,
    PARTS,
    Candidate,
    attribute_candidates,
    merge,
    object_candidates,
    proposed_candidates,
    relation_candidates,
)
from pipeline.lexicons.inflection import plural, verb_forms
from pipeline.lexicons.links import Links, link_attributes, link_objects, link_relations
from pipeline.lexicons.loading import (
    BANDS,
    ID_PREFIX,
    LEXICONS,
    LINKS_FILE,
    MANIFEST_FILE,
    Term,
    default_folder,
    write_links,
    write_terms,
)
from pipeline.lexicons.pairs import PAIRS_FILE, PairCounts, read_pairs, write_pairs
from pipeline.lexicons.wordnet import WordNet, read_wordnet
from pipeline.llm.asking import LlmOptions, Request, Usage, ask, plan_requests
from pipeline.llm.recorded import read_recorded
from pipeline.storage import write_atomically, write_json
from pipeline.word_lists import read_block_list

_WORD: Final = re.compile(r"[a-z]+(?:[-'][a-z]+)*")
MAX_SYNONYMS: Final = 6
REVIEW_FILE: Final = "review.csv"
_REVIEW_COLUMNS: Final = ("lexicon", "term", "verdict", "note")


@dataclass(frozen=True, slots=True, kw_only=True)
class LexiconOptions:
    """What `pipeline build-lexicons` is told."""

    out: Path
    """Output folder."""
    size: int = 3_000
    """Terms per lexicon."""
    wordnet: str = "auto"
    """'auto', or a folder or tar archive with WordNet's files."""
    block: tuple[Path, ...] = ()
    """File of words that must not become terms; may be given again."""
    llm: LlmOptions | None = None
    """A language model to ask for further terms; None takes WordNet's alone."""
    llm_replies: Path | None = None
    """Folder of a model's recorded replies, in the place of asking one: no key, no network."""
    llm_terms: int = 3_000
    """About so many terms a model is asked for, per lexicon."""
    pairs: Path | None = None
    """File of `pipeline count-pairs`: what captions put together. Default: counted in --captions, or as committed."""
    seed: int = 0
    """Chooses among candidates where a band has more than it needs."""

    def __post_init__(self) -> None:
        if self.size < len(BANDS) or self.size % len(BANDS):
            raise UserError(
                f"--size {self.size}: give a multiple of {len(BANDS)}, as many terms go into each band"
            )
        if self.llm is not None and self.llm_replies is not None:
            raise UserError("--llm-replies takes the place of asking: give it or --llm-model, not both")
        if self.pairs is not None and not self.pairs.is_file():
            raise UserError(f"--pairs {self.pairs} is no file: give one made by `pipeline count-pairs`")
        for file in self.block:
            if not file.is_file():
                raise UserError(f"--block {file} is no file: give a text file of words")


def build_lexicons(
    options: LexiconOptions, captions: Iterable[str] | None = None, pairs: PairCounts | None = None
) -> dict[str, Any]:
    """Build and write the lexicons; gives the manifest.

    With `captions`, bands follow how often a term occurs in them, and the terms they use are marked. `pairs` say what
    captions have most often, and go along for plausible draws; None takes those of the committed lexicons.
    """
    if pairs is None:
        pairs = read_pairs(options.pairs or default_folder() / PAIRS_FILE)
    wordnet = read_wordnet(options.wordnet)
    frequency = _Frequency(captions)
    blocked = read_block_list([LISTS.folder / "blocked_everywhere.txt", *options.block])
    reviewed = read_review(options.out)
    found = {
        "objects": object_candidates(wordnet, zipf=_zipf),
        "attributes": attribute_candidates(wordnet),
        "relations": relation_candidates(wordnet),
    }
    terms: dict[str, tuple[Term, ...]] = {}
    links: dict[str, dict[str, dict[str, set[str]]]] = {}
    proposals, described = _propose(options)
    for name, proposed in proposals.items():
        found[name] = merge(found[name], proposed_candidates(wordnet, name, proposed))
    linking: tuple[Callable[[WordNet, list[Candidate]], Links], ...] = (
        partial(link_objects, zipf=_zipf),
        partial(link_attributes, zipf=_zipf),
        link_relations,
    )
    for name, link in zip(LEXICONS, linking, strict=True):
        own = read_block_list([LISTS.folder / f"blocked_{name}.txt"]) | reviewed[name]
        kept = [
            each
            for each in found[name]
            if each.term not in own and not blocked & {each.term, *each.term.split()}
        ]
        banded = choose(
            kept,
            size=options.size,
            frequency=frequency,
            seen=partial(_seen, pairs, name),
            seed=f"{options.seed}:{name}",
        )
        terms[name] = tuple(_term(name, candidate, band, wordnet, frequency) for candidate, band in banded)
        linked = link(wordnet, [candidate for candidate, _ in banded])
        links[name] = {
            "excluded": linked.excluded,
            "near": _contrasting(linked),
            "possible": linked.possible,
            "contrasts": linked.contrasts,
            "kind": linked.kind,
        }
    files = {f"{name}.csv": write_terms(terms[name], name) for name in LEXICONS}
    files |= {LINKS_FILE: write_links(links, terms), PAIRS_FILE: write_pairs(pairs)}
    return _write(
        options, terms, files, wordnet=wordnet.version, captions=frequency.num_captions, llm=described
    )


def _seen(pairs: PairCounts, lexicon: str, candidate: Candidate) -> int:
    return pairs.count(lexicon, candidate.term)


def _propose(options: LexiconOptions) -> tuple[dict[str, list[str]], dict[str, Any] | None]:
    """The terms that a language model proposes, by lexicon, and what the manifest says of it; none without one."""
    if options.llm_replies is not None:
        recorded = read_recorded(options.llm_replies, lexicons=LEXICONS)
        return recorded.terms, {
            "replies": recorded.num_replies,
            "files": recorded.files,
            "proposed": {name: len(terms) for name, terms in sorted(recorded.terms.items())},
        }
    if options.llm is None:
        return {}, None
    usage = ask(options.llm, requests_of(options))
    return usage.terms, _describe(options.llm, usage)


def read_review(folder: Path) -> dict[str, frozenset[str]]:
    """The terms that a reader dropped, by lexicon: rows of `review.csv` in the folder the lexicons are written to.

    The file is made empty where it is missing and never written again: it is the reader's. Its columns: lexicon,
    term, verdict ("drop", or anything else for a term that stays), note.
    """
    file = folder / REVIEW_FILE
    if not file.exists():
        with write_atomically(file) as empty:
            empty.write((",".join(_REVIEW_COLUMNS) + "\n").encode())
    dropped: dict[str, set[str]] = {name: set() for name in LEXICONS}
    with file.open(encoding="utf-8-sig", newline="") as opened:
        for number, row in enumerate(csv.DictReader(opened), start=2):
            if row.get("lexicon") not in LEXICONS or not row.get("term"):
                raise UserError(
                    f"{file}, line {number}: give {', '.join(_REVIEW_COLUMNS)}; lexicon: {', '.join(LEXICONS)}"
                )
            if (row.get("verdict") or "").strip().lower() == "drop":
                dropped[row["lexicon"]].add(row["term"].strip().lower())
    return {name: frozenset(terms) for name, terms in dropped.items()}


def requests_of(options: LexiconOptions) -> list[Request]:
    """What a language model would be asked: for `llm.estimate`, which `--dry-run` prints."""
    return plan_requests(terms_per_lexicon=options.llm_terms)


def choose(
    candidates: list[Candidate],
    *,
    size: int,
    frequency: Callable[[Candidate], tuple[float, float]],
    seen: Callable[[Candidate], int] = lambda _: 0,
    seed: str,
) -> list[tuple[Candidate, int]]:
    """`size` candidates with their bands, sorted by term.

    The candidates, from the most to the least frequent, are cut into five equal bands; each gives a fifth of the
    terms: what a language model alone proposed first, then what captions were `seen` to have most often, the rest
    drawn by a hash of the term and the seed.
    """
    if len(candidates) < size:
        raise UserError(
            f"--size {size}: this WordNet and these word lists give {len(candidates)} terms at most"
        )
    ranked = sorted(
        candidates, key=lambda candidate: (*(-value for value in frequency(candidate)), candidate.term)
    )
    chosen: list[tuple[Candidate, int]] = []
    for band in range(len(BANDS)):
        start, end = (len(ranked) * edge // len(BANDS) for edge in (band, band + 1))
        drawn = sorted(
            ranked[start:end],
            key=lambda each: (each.source != "llm", -seen(each), _draw(seed, each.term)),
        )
        chosen.extend((candidate, band) for candidate in drawn[: size // len(BANDS)])
    return sorted(chosen, key=lambda pair: pair[0].term)


def _draw(seed: str, term: str) -> bytes:
    return hashlib.blake2b(f"{seed}:{term}".encode(), digest_size=8).digest()


def _zipf(word: str) -> float:
    from wordfreq import zipf_frequency

    return float(zipf_frequency(word, "en"))


class _Frequency:
    """How often a candidate is written: in the user's captions first, in English at large second."""

    def __init__(self, captions: Iterable[str] | None) -> None:
        self.num_captions: int | None = None
        self._counts: Counter[str] = Counter()
        if captions is not None:
            self.num_captions = 0
            for caption in captions:
                self.num_captions += 1
                words = _WORD.findall(caption.lower())
                for length in (1, 2, 3, 4):
                    grams = zip(*(words[start:] for start in range(length)), strict=False)
                    self._counts.update({" ".join(gram) for gram in grams})

    def __call__(self, candidate: Candidate) -> tuple[float, float]:
        return (
            float(self.count(candidate)),
            _zipf(candidate.term if candidate.synset == "" else _rarest(candidate)),
        )

    def count(self, candidate: Candidate) -> int:
        """In how many captions any form of the candidate occurs."""
        return max(self._counts[form] for form in _forms(candidate) if form)


@lru_cache(maxsize=1)
def _mass_nouns() -> frozenset[str]:
    return frozenset(word.replace("-", " ") for word in LISTS.words("mass_nouns.txt"))


def _rarest(candidate: Candidate) -> str:
    """The word a candidate's frequency is that of: the verb of a verb phrase, the least frequent word otherwise."""
    if candidate.kind == "verb_preposition":
        return candidate.base
    return min(candidate.term.split(), key=_zipf)


def _forms(candidate: Candidate) -> tuple[str, ...]:
    if candidate.kind == "noun":
        return (candidate.term, "" if candidate.term in _mass_nouns() else plural(candidate.term))
    if candidate.kind in ("verb", "verb_preposition"):
        forms = verb_forms(candidate.term)
        return (candidate.term, forms.third_person, forms.gerund, forms.past, forms.participle)
    return (candidate.term,)


def _term(name: str, candidate: Candidate, band: int, wordnet: WordNet, frequency: _Frequency) -> Term:
    forms = _forms(candidate)
    if name == "relations" and len(forms) == 1:
        forms = (candidate.term,) * 5
    return Term(
        term_id=f"{ID_PREFIX[name]}:{candidate.term.replace(' ', '-')}",
        term=candidate.term,
        kind=candidate.kind,
        band=band,
        source=candidate.source,
        synset=candidate.synset,
        in_captions=frequency.count(candidate) > 0,
        forms=forms,
        synonyms=_synonyms(candidate, wordnet),
    )


def _synonyms(candidate: Candidate, wordnet: WordNet) -> tuple[str, ...]:
    """Other words of the term's own meaning, as common as one can read them: for easy data augmentation."""
    if candidate.term != candidate.base or not candidate.synset:
        return ()
    part = PARTS.get(candidate.kind, "v")
    if wordnet.synsets[candidate.synset].part != part:
        return ()
    others = (
        lemma
        for lemma in wordnet.synsets[candidate.synset].lemmas
        if lemma.islower() and lemma != candidate.term
    )
    return tuple(sorted({lemma for lemma in others if _zipf(lemma) >= 2.5}))[:MAX_SYNONYMS]


def _contrasting(links: Links) -> dict[str, set[str]]:
    """The near terms of each word without those that must not replace it."""
    return {word: terms - links.excluded.get(word, set()) for word, terms in links.near.items()}


def _write(
    options: LexiconOptions,
    terms: Mapping[str, tuple[Term, ...]],
    files: Mapping[str, bytes],
    *,
    wordnet: str,
    captions: int | None,
    llm: dict[str, Any] | None,
) -> dict[str, Any]:
    (options.out / MANIFEST_FILE).unlink(missing_ok=True)
    for name, content in files.items():
        with write_atomically(options.out / name) as file:
            file.write(content)
    manifest = {
        "size": options.size,
        "seed": options.seed,
        "wordnet": wordnet,
        "captions": captions,
        "llm": llm,
        "packages": {name: importlib.metadata.version(name) for name in ("nltk", "wordfreq", "lemminflect")},
        "bands": list(BANDS),
        "counts": {
            name: {
                column: dict(sorted(Counter(str(getattr(term, column)) for term in terms[name]).items()))
                for column in ("kind", "source")
            }
            for name in LEXICONS
        },
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    }
    write_json(options.out / MANIFEST_FILE, manifest)
    return manifest


def _describe(options: LlmOptions, usage: Usage) -> dict[str, Any]:
    """What a manifest says of the language model; never the key, never the server's address."""
    asked = {"calls": usage.calls, "cached": usage.cached, "stopped": usage.stopped}
    tokens = {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}
    proposed = {name: len(terms) for name, terms in sorted(usage.terms.items())}
    return {"model": options.model, "proposed": proposed, **asked, **tokens}
