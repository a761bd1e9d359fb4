"""Which words may become lexicon terms: WordNet's records sifted by the word lists beside this file.

objects     nouns whose first meaning is a thing one can touch, without proper names and general words
attributes  adjectives that can be checked by looking, participles, materials, shades of colours
relations   transitive verbs, verbs with a preposition, prepositions
WordNet says what a word means, not whether it shows in a photograph; the lists hold that judgement.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

from pipeline.lexicons.inflection import is_plural, verb_forms
from pipeline.lexicons.wordnet import Part, Synset, WordNet
from pipeline.word_lists import WordLists

LISTS: Final = WordLists.beside(__file__)
CONCRETE_FILES: Final = frozenset(
    f"noun.{name}" for name in ("animal", "artifact", "body", "food", "object", "person", "plant")
)
TRANSITIVE_FRAMES: Final = frozenset((8, 9, 10, 11, 15, 16, 17, 20, 21, 24, 25, 30, 31))
"""WordNet's verb frames with a direct object."""
GENERAL_MEANINGS: Final = LISTS.word_set("general_meanings.txt")
BANNED_MEANINGS: Final = LISTS.word_set("banned_meanings.txt")
MIN_ZIPF: Final = 2.25
"""Rarer nouns (fewer than about one in six million words) are jargon more often than not."""
_COMMON_ADJECTIVE_RATIO: Final = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A word that may become a term."""

    term: str
    kind: str
    """noun; adjective, participle, gerund, material, shade; verb, verb_preposition, preposition."""
    synset: str
    """The meaning that made it a candidate; "" where WordNet has none (prepositions)."""
    base: str
    """The WordNet lemma behind it: "crumple" for "crumpled", "sit" for "sit on", else the term."""
    source: str = "wordnet"
    """wordnet; list, for a closed class that WordNet lacks; llm, for a term that a model proposed; wordnet+llm or
    list+llm, for one that a model proposed, too."""


def object_candidates(wordnet: WordNet, *, zipf: Callable[[str], float]) -> list[Candidate]:
    """Nouns for things, sorted by term."""
    persons, body_parts = set(LISTS.words("persons.txt")), set(LISTS.words("body_parts.txt"))
    compounds = [word.replace("_", " ") for word in LISTS.words("noun_compounds.txt")]
    found: dict[str, Candidate] = {}
    for lemma in wordnet.lemmas("n"):
        meaning = _thing_meaning(wordnet, lemma)
        if meaning is None or not _plain(lemma) or zipf(lemma) < MIN_ZIPF or is_plural(lemma):
            continue
        chosen = {"noun.person": persons, "noun.body": body_parts}.get(meaning.file)
        if chosen is None or lemma in chosen:
            found[lemma] = Candidate(term=lemma, kind="noun", synset=meaning.name, base=lemma)
    for listed in sorted({*compounds, *persons, *body_parts}):
        for term in (listed.replace("-", " "), listed):
            meaning = _listed_meaning(wordnet, term)
            if meaning is not None:
                found.setdefault(term, Candidate(term=term, kind="noun", synset=meaning.name, base=term))
                break
    for noun in LISTS.words("caption_nouns.txt"):
        term = noun.replace("_", " ")
        meaning = next(iter(wordnet.senses(term, "n")), None)
        if meaning is not None and meaning.file != "noun.Tops":  # a person, before a person's body
            meaning = _listed_meaning(wordnet, term) or meaning
        if meaning is not None:
            found.setdefault(term, Candidate(term=term, kind="noun", synset=meaning.name, base=term))
    return _unique(found.values())


def _plain(lemma: str) -> bool:
    return len(lemma) > 2 and lemma.isascii() and lemma.isalpha()


def _thing_meaning(wordnet: WordNet, lemma: str) -> Synset | None:
    """The first meaning of a noun where it is a thing, the noun is mostly a thing and mostly a noun."""
    meanings = wordnet.senses(lemma, "n")
    if not meanings or meanings[0].file not in CONCRETE_FILES or meanings[0].instance_of:
        return None
    first = meanings[0]
    if lemma not in first.lemmas or first.name in GENERAL_MEANINGS:  # a proper name has capitals
        return None
    if wordnet.ancestors(first.name) & BANNED_MEANINGS:
        return None
    things = sum(tagged(meaning, lemma) for meaning in meanings if meaning.file in CONCRETE_FILES)
    total = sum(tagged(meaning, lemma) for meaning in meanings)
    if total and things < 0.6 * total:
        return None
    for part in ("v", "a"):
        other = sum(tagged(meaning, lemma) for meaning in wordnet.senses(lemma, part))
        if other > 3 and other > _COMMON_ADJECTIVE_RATIO * total:
            return None
    return first


def _listed_meaning(wordnet: WordNet, term: str) -> Synset | None:
    """The first concrete meaning of a noun from a list."""
    for meaning in wordnet.senses(term, "n"):
        if meaning.file in CONCRETE_FILES and not meaning.instance_of:
            return meaning
    return None


def tagged(meaning: Synset, lemma: str) -> int:
    """How often WordNet's own texts use `lemma` in this meaning."""
    return sum(
        count for name, count in zip(meaning.lemmas, meaning.counts, strict=True) if name.lower() == lemma
    )


def attribute_candidates(wordnet: WordNet) -> list[Candidate]:
    """Words that stand before a noun and can be checked by looking, sorted by term."""
    made = [
        *_adjectives(wordnet),
        *_verb_adjectives(wordnet, "participles.txt", "participle"),
        *_verb_adjectives(wordnet, "gerunds.txt", "gerund"),
        *_materials(wordnet),
        *_shades(wordnet),
    ]
    return _unique(made)


def _adjectives(wordnet: WordNet) -> Iterable[Candidate]:
    for word in LISTS.words("adjectives.txt"):
        meanings = wordnet.senses(word, "a") or wordnet.senses(word.replace("-", " "), "a")
        base = word
        if not meanings:  # "one-legged", "fenceless": the noun behind it, where there is one
            base = next((noun for noun in _noun_behind(word) if wordnet.senses(noun, "n")), word)
            meanings = wordnet.senses(base, "n")
        if meanings:
            yield Candidate(term=word, kind="adjective", synset=meanings[0].name, base=base)


def _noun_behind(word: str) -> list[str]:
    """The nouns an adjective in -ed, -less, -y or -ing may come from: "leg" for "one-legged"."""
    last = word.rpartition("-")[2]
    stems = [last]
    for ending in ("ed", "less", "y", "ing", "d"):
        if last.endswith(ending):
            stem = last.removesuffix(ending)
            stems.extend([stem, stem + "e", stem[:-1]] if len(stem) > 3 else [stem, stem + "e"])
    return stems


def _verb_adjectives(wordnet: WordNet, name: str, kind: str) -> Iterable[Candidate]:
    for verb in LISTS.words(name):
        meanings = wordnet.senses(verb, "v")
        if meanings:
            forms = verb_forms(verb)
            term = forms.participle if kind == "participle" else forms.gerund
            yield Candidate(term=term, kind=kind, synset=meanings[0].name, base=verb)


def _materials(wordnet: WordNet) -> Iterable[Candidate]:
    for word in LISTS.words("materials.txt"):
        meanings = [meaning for meaning in wordnet.senses(word, "n") if not meaning.instance_of]
        if meanings:
            stuff = [
                meaning
                for meaning in meanings
                if meaning.file in ("noun.substance", "noun.plant", "noun.food")
            ]
            yield Candidate(term=word, kind="material", synset=(stuff or meanings)[0].name, base=word)


def _shades(wordnet: WordNet) -> Iterable[Candidate]:
    for line in LISTS.lines("modifiers.txt"):
        left, colours = (side.split() for side in line.split(":"))
        pairs = left[-2:] == ["+", "and"]
        for colour in colours:
            meanings = wordnet.senses(colour, "a")
            for other in left[:-2] if pairs else left:
                term = f"{other} and {colour}" if pairs else f"{other} {colour}"
                if meanings and (not pairs or other < colour or other not in colours):
                    yield Candidate(term=term, kind="shade", synset=meanings[0].name, base=colour)


def relation_candidates(wordnet: WordNet) -> list[Candidate]:
    """Verbs, verbs with a preposition and prepositions, sorted by term."""
    made = [*_transitive_verbs(wordnet), *_verb_prepositions(wordnet)]
    made.extend(
        Candidate(term=term, kind="preposition", synset="", base=group, source="list")
        for term, group, replaces in LISTS.rows("prepositions.csv")
        if replaces == "yes"
    )
    return _unique(made)


def _transitive_verbs(wordnet: WordNet) -> Iterable[Candidate]:
    for verb in LISTS.words("transitive_verbs.txt"):
        for meaning in wordnet.senses(verb, "v"):
            if TRANSITIVE_FRAMES & set(meaning.frames):
                yield Candidate(term=verb, kind="verb", synset=meaning.name, base=verb)
                break


def _verb_prepositions(wordnet: WordNet) -> Iterable[Candidate]:
    for verbs, prepositions in LISTS.rows("verb_prepositions.csv"):
        for verb in verbs.split():
            meanings = wordnet.senses(verb, "v")
            for preposition in prepositions.split() if meanings else ():
                term = f"{verb} {preposition.replace('-', ' ')}"
                yield Candidate(term=term, kind="verb_preposition", synset=meanings[0].name, base=verb)


def proposed_candidates(wordnet: WordNet, lexicon: str, terms: Iterable[str]) -> list[Candidate]:
    """The terms a model proposed that WordNet knows in the right meaning, sorted; the others are dropped.

    Without WordNet's relations nobody could tell which captions a term would leave true.
    """
    prepositions = {term for term, _, _ in LISTS.rows("prepositions.csv")}
    people = set(LISTS.words("persons.txt"))
    found = []
    for term in terms:
        kind, base = lexicon.removesuffix("s"), term
        if lexicon == "objects":
            meaning = _listed_meaning(wordnet, term)
            kind = "noun"
            if meaning is None or (meaning.file == "noun.person" and term not in people) or is_plural(term):
                continue
        elif lexicon == "attributes":
            meaning, kind = next(iter(wordnet.senses(term, "a")), None), "adjective"
        else:
            base, _, preposition = term.partition(" ")
            meanings = wordnet.senses(base, "v")
            if preposition:
                meaning, kind = (
                    (meanings[0] if meanings and preposition in prepositions else None),
                    "verb_preposition",
                )
            else:
                meaning, kind = next((m for m in meanings if TRANSITIVE_FRAMES & set(m.frames)), None), "verb"
        if meaning is not None and meaning.name not in GENERAL_MEANINGS:
            found.append(Candidate(term=term, kind=kind, synset=meaning.name, base=base, source="llm"))
    return _unique(found)


def merge(known: Iterable[Candidate], proposed: Iterable[Candidate]) -> list[Candidate]:
    """All candidates, sorted by term; one that was known before and proposed, too, says both sources."""
    proposed = list(proposed)
    letters = {_letters(each) for each in proposed}
    both = [
        replace(each, source=f"{each.source}+llm") if _letters(each) in letters else each for each in known
    ]
    return _unique([*both, *proposed])


def _unique(candidates: Iterable[Candidate]) -> list[Candidate]:
    """One candidate per term, hyphens or not, the first made; sorted by term."""
    by_letters: dict[str, Candidate] = {}
    for candidate in candidates:
        by_letters.setdefault(_letters(candidate), candidate)
    return sorted(by_letters.values(), key=lambda candidate: candidate.term)


def _letters(candidate: Candidate) -> str:
    """The term without hyphens: what makes two candidates one."""
    return candidate.term.replace("-", " ")


PARTS: Final[dict[str, Part]] = {"noun": "n", "adjective": "a", "material": "n", "shade": "a"}
"""The part of speech of a candidate's synset; verbs for every other kind."""
