"""Which caption words a lexicon term must not replace, resolved once while lexicons are built.

For each term: every word that some meaning in WordNet makes its synonym, hypernym or hyponym, and a few more that
would leave the caption true (parts and wholes, kinds of people, verbs of one moment, a preposition within a verb
phrase). Every meaning counts, not only the likely one: a term refused too often costs nothing, a negative that
is true teaches the model a wrong thing. Also the terms that are near a word: its co-hyponyms and antonyms.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from pipeline.lexicons.candidates import LISTS, Candidate
from pipeline.lexicons.dimensions import compatible_attributes, contrasting_attributes, possible_attributes
from pipeline.lexicons.inflection import verb_forms
from pipeline.lexicons.things import terms_of_kind
from pipeline.lexicons.wordnet import Part, Synset, WordNet

PERSON: Final = "person.n.01"
MALE: Final = "male.n.02"
FEMALE: Final = "female.n.02"
COLOUR: Final = "color.n.01"
CONTRASTING_HEADS: Final = LISTS.word_set("contrasting_heads.txt")
BARE: Final = "+"
"""Before a preposition's words: the preposition within a verb phrase, as "on" within "sitting on"."""
ON_SURFACES: Final = frozenset(("in", "on"))
"""Groups of prepositions that exclude each other, but not for the nouns of surfaces.txt: on the grass, in the grass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """Words of captions to sets of terms."""

    excluded: dict[str, set[str]] = field(default_factory=dict)
    """Terms that must not replace the word."""
    near: dict[str, set[str]] = field(default_factory=dict)
    """Terms that are like the word without being true of it."""
    possible: dict[str, set[str]] = field(default_factory=dict)
    """For nouns: attributes that may be true of what they name though no caption says so."""
    contrasts: dict[str, set[str]] = field(default_factory=dict)
    """For attributes: those that cannot be true of the same thing."""
    kind: dict[str, set[str]] = field(default_factory=dict)
    """For nouns: terms for things of their kind."""


def link_objects(wordnet: WordNet, terms: Iterable[Candidate], *, zipf: Callable[[str], float]) -> Links:
    """Links between nouns."""
    terms = list(terms)
    people = _People(wordnet)
    words_of = _TermWords()
    for candidate in terms:
        meanings = wordnet.senses(candidate.base, "n") or wordnet.senses(candidate.term, "n")
        words_of.add(candidate.term, [candidate.term, candidate.base, *candidate.term.split()])
        for meaning in meanings:
            related = {*wordnet.ancestors(meaning.name), *wordnet.descendants(meaning.name), *meaning.parts}
            words_of.add(candidate.term, wordnet.words(related))
        first = wordnet.synsets[candidate.synset]
        if PERSON in wordnet.ancestors(first.name):
            words_of.add(candidate.term, people.compatible_with(candidate.term, first.name))
    return Links(
        excluded=words_of.inverted(),
        near=_co_hyponyms(wordnet, terms, "n"),
        kind=terms_of_kind(wordnet, terms, zipf=zipf),
    )


def link_attributes(wordnet: WordNet, terms: Iterable[Candidate], *, zipf: Callable[[str], float]) -> Links:
    """Links between modifiers: adjectives, participles and materials."""
    terms = list(terms)
    words_of = _TermWords()
    for candidate in terms:
        words_of.add(
            candidate.term, [candidate.term, candidate.base, *candidate.term.replace("-", " ").split()]
        )
        words_of.add(candidate.term, compatible_attributes(candidate.term))
        for base in {candidate.base, *candidate.term.split(), *_hyphen_parts(candidate.term)}:
            words_of.add(candidate.term, _adjective_words(wordnet, base))
            words_of.add(candidate.term, _noun_words(wordnet, base))
        for verb in _verbs_behind(candidate, wordnet):
            words_of.add(candidate.term, _participles(_verb_words(wordnet, verb)))
    return Links(
        excluded=words_of.inverted(),
        near=_near_adjectives(wordnet, terms),
        possible=possible_attributes(wordnet, terms, zipf=zipf),
        contrasts=contrasting_attributes(terms),
    )


def link_relations(wordnet: WordNet, terms: Iterable[Candidate]) -> Links:
    """Links between verbs, verb phrases and prepositions."""
    terms = list(terms)
    verbs = compatible_verbs()
    words_of = _TermWords()
    for candidate in terms:
        if candidate.kind != "preposition":
            words_of.add(candidate.term, [candidate.term, candidate.base, *verbs.get(candidate.base, ())])
            words_of.add(candidate.term, _verb_words(wordnet, candidate.base))
            words_of.add(candidate.term, _verbs_of_one_body(candidate.base))
        words_of.add(candidate.term, _prepositions_that_allow(candidate))
    return Links(excluded=words_of.inverted(), near=_co_hyponyms(wordnet, terms, "v"))


def _verbs_of_one_body(verb: str) -> frozenset[str]:
    """The postures and activities that a verb leaves true: who sits may read."""
    bodies = LISTS.sections("motions.txt")
    if verb in bodies["posture"]:
        return frozenset(bodies["activity"])
    return frozenset() if verb in bodies["motion"] else frozenset(bodies["posture"])


def _prepositions_that_allow(candidate: Candidate) -> Iterable[str]:
    """The prepositions of captions that may be true together with a term, alone and with a noun ("in grass")."""
    groups = _preposition_groups()
    if candidate.kind == "verb":
        for preposition, implied in _implied_verbs():
            if candidate.term in implied:
                yield from (other for other, group in groups.items() if group == groups[preposition])
        return
    own = groups.get(
        candidate.term.partition(" ")[2] if candidate.kind == "verb_preposition" else candidate.term
    )
    if candidate.kind == "verb_preposition":
        yield from (other for other, group in groups.items() if group == own)
        return
    for preposition, group in groups.items():
        if own is not None and (group == own or group in compatible_prepositions().get(own, ())):
            yield preposition
            yield BARE + preposition
    if own in ON_SURFACES:
        for preposition, group in groups.items():
            if group in ON_SURFACES:
                yield from (f"{preposition} {noun}" for noun in LISTS.words("surfaces.txt"))


class _TermWords:
    """The words linked to each term, collected, then turned round."""

    def __init__(self) -> None:
        self._words: dict[str, set[str]] = defaultdict(set)

    def add(self, term: str, words: Iterable[str]) -> None:
        self._words[term].update(words)

    def inverted(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = defaultdict(set)
        for term, words in self._words.items():
            for word in words:
                found[word.lower()].add(term)
        return dict(found)


class _People:
    """Who may be who: a man may be a farmer, so "farmer" does not replace "man"; "woman" does."""

    def __init__(self, wordnet: WordNet) -> None:
        self._wordnet = wordnet
        self._words = wordnet.words(wordnet.descendants(PERSON))
        self._male = self._first_meaning(MALE, FEMALE)
        self._female = self._first_meaning(FEMALE, MALE)
        self._babies, self._grown = set(LISTS.words("babies.txt")), set(LISTS.words("grown_people.txt"))
        self._roles = {
            word.replace("_", " "): number
            for number, role in enumerate(LISTS.groups("visible_roles.txt"))
            for word in role
        }

    def _first_meaning(self, sex: str, other: str) -> set[str]:
        """Words whose first meaning is of one sex."""
        found = set()
        for word in self._wordnet.words(self._wordnet.descendants(sex)):
            meanings = self._wordnet.senses(word, "n")
            above = self._wordnet.ancestors(meanings[0].name) if meanings else frozenset()
            if sex in above and other not in above:
                found.add(word)
        return found

    def compatible_with(self, term: str, name: str) -> set[str]:
        """Every word for a person, but those of the other sex where the term names one."""
        above = self._wordnet.ancestors(name)
        excluded = self._female if MALE in above else self._male if FEMALE in above else set()
        return self._words - excluded - self._seen_to_differ(term)

    def _seen_to_differ(self, term: str) -> set[str]:
        """Words for people of whom a term is false at a glance, whatever their sex: babies and grown people, roles."""
        differing: set[str] = set()
        for one, other in ((self._babies, self._grown), (self._grown, self._babies)):
            differing |= other if term in one else set()
        if term in self._roles:
            differing |= {word for word, role in self._roles.items() if role != self._roles[term]}
        return differing


def _hyphen_parts(term: str) -> list[str]:
    parts = term.split("-")
    return parts if len(parts) > 1 and all(len(part) > 2 for part in parts) else []


def _adjective_words(wordnet: WordNet, base: str) -> set[str]:
    """Synonyms in the widest sense: the cluster of every meaning, its head, what is derived from it."""
    words: set[str] = set()
    for meaning in wordnet.senses(base, "a"):
        cluster = {meaning.name, *meaning.also, *meaning.similar}
        if meaning.name.split(".")[1] == "s" and not CONTRASTING_HEADS & set(meaning.similar):
            for head in meaning.similar:
                cluster.update(wordnet.synsets[head].similar)
        words |= wordnet.words(cluster)
        words.update(
            related for name in (meaning.name, *meaning.similar) for related in wordnet.synsets[name].related
        )
        if CONTRASTING_HEADS & set(meaning.similar):
            words -= {related for name in meaning.similar for related in wordnet.synsets[name].related}
    return words


def _noun_words(wordnet: WordNet, base: str) -> set[str]:
    """For materials and colours: the words of the noun's closure."""
    words: set[str] = set()
    for meaning in wordnet.senses(base, "n"):
        above = wordnet.ancestors(meaning.name)
        if meaning.file in ("noun.substance", "noun.plant", "noun.food", "noun.animal") or COLOUR in above:
            words |= wordnet.words({*above, *wordnet.descendants(meaning.name)})
    return words


def _verbs_behind(candidate: Candidate, wordnet: WordNet) -> list[str]:
    if candidate.kind in ("participle", "gerund"):
        return [candidate.base]
    return [word for word in wordnet.synsets[candidate.synset].related if wordnet.senses(word, "v")]


def _verb_words(wordnet: WordNet, verb: str) -> set[str]:
    words: set[str] = set()
    for meaning in wordnet.senses(verb, "v"):
        related = {*wordnet.ancestors(meaning.name), *wordnet.descendants(meaning.name)}
        words |= wordnet.words({*related, *meaning.verb_links, *meaning.also})
    return words


def _participles(verbs: Iterable[str]) -> set[str]:
    words = set()
    for verb in verbs:
        forms = verb_forms(verb)
        words |= {verb, forms.participle, forms.gerund}
    return words


@lru_cache(maxsize=1)
def _preposition_groups() -> dict[str, str]:
    return {term: group for term, group, _ in LISTS.rows("prepositions.csv")}


@lru_cache(maxsize=1)
def _implied_verbs() -> list[tuple[str, frozenset[str]]]:
    return [(term, frozenset(verbs.split())) for term, verbs in LISTS.rows("implied_by_prepositions.csv")]


@lru_cache(maxsize=1)
def compatible_verbs() -> dict[str, set[str]]:
    """For each verb, those that may be true of the same moment."""
    return _pairs("compatible_verbs.txt", within_lines=True)


@lru_cache(maxsize=1)
def compatible_prepositions() -> dict[str, set[str]]:
    """For each group of prepositions, the other groups that may hold at the same time."""
    return _pairs("compatible_prepositions.txt", within_lines=False)


def _pairs(name: str, *, within_lines: bool) -> dict[str, set[str]]:
    """Pairs of words, both ways round: those of one line, or each left of its colon with each right of it."""
    found: dict[str, set[str]] = defaultdict(set)
    for line in LISTS.lines(name):
        left, colon, right = line.partition(":")
        assert colon or within_lines, f"{name}: {line}"
        for one in left.split():
            for other in (right if colon else left).split():
                found[one].add(other)
                found[other].add(one)
    return dict(found)


def _co_hyponyms(wordnet: WordNet, terms: Iterable[Candidate], part: Part) -> dict[str, set[str]]:
    """For each word, the terms whose meaning shares a direct hypernym with the word's first meaning."""
    under: dict[str, set[str]] = defaultdict(set)
    for candidate in terms:
        if candidate.synset:
            for above in wordnet.synsets[candidate.synset].hypernyms:
                under[above].add(candidate.term)
    near: dict[str, set[str]] = {}
    for word in wordnet.lemmas(part):
        meanings: tuple[Synset, ...] = wordnet.senses(word, part)[:1]
        found = set().union(*(under.get(above, set()) for meaning in meanings for above in meaning.hypernyms))
        if found - {word}:
            near[word] = found - {word}
    return near


def _near_adjectives(wordnet: WordNet, terms: Iterable[Candidate]) -> dict[str, set[str]]:
    """For each adjective, the terms of its own cluster's contrasts: antonyms, and fellow colours, shapes, patterns."""
    of_synset: dict[str, set[str]] = defaultdict(set)
    for candidate in terms:
        of_synset[candidate.synset].add(candidate.term)
    near: dict[str, set[str]] = {}
    for word in wordnet.lemmas("a"):
        names: set[str] = set()
        for meaning in wordnet.senses(word, "a")[:1]:
            heads = {meaning.name, *meaning.similar}
            for head in heads:
                opposites = wordnet.synsets[head].antonyms
                names.update(opposites, *(wordnet.synsets[opposite].similar for opposite in opposites))
            for head in CONTRASTING_HEADS & heads:
                names.update(wordnet.synsets[head].similar)
        found = set().union(*(of_synset.get(name, set()) for name in names))
        if found - {word}:
            near[word] = found - {word}
    return near
