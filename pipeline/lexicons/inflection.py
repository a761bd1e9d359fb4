"""Inflected forms of lexicon terms, made once while lexicons are built: plural, verb forms, a or an.

Only building calls lemminflect; augmenting reads the forms from the lexicon files and needs `article` alone.
"""

import re
from dataclasses import dataclass
from typing import Final

from pipeline.word_lists import WordLists

_LISTS: Final = WordLists.beside(__file__)
_NO_SINGULAR: Final = _LISTS.word_set("no_singular.txt")
_SAME_IN_THE_PLURAL: Final = _LISTS.word_set("same_in_the_plural.txt")
_IRREGULAR: Final = {(word, tag): form for word, tag, form in _LISTS.rows("irregular_forms.csv")}

_SOUNDS_LIKE_CONSONANT = re.compile(
    r"(?:eu|ewe|uni(?!n)|use|usu|ure|uro|uku|ute|uti|oui|one\b|one-|once)", re.IGNORECASE
)
_SOUNDS_LIKE_VOWEL = re.compile(r"(?:hour|heir|honou?r|honest|herb|[aefhilmnorsx]-)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerbForms:
    """The forms of a verb phrase; whatever follows the verb stands in each of them."""

    third_person: str
    gerund: str
    past: str
    participle: str


def article(phrase: str) -> str:
    """ "a" or "an", by the sound that begins `phrase`."""
    if _SOUNDS_LIKE_VOWEL.match(phrase):
        return "an"
    if _SOUNDS_LIKE_CONSONANT.match(phrase):
        return "a"
    return "an" if phrase[:1].lower() in "aeiou" else "a"


def is_plural(noun: str) -> bool:
    """Whether a noun is the plural of another ("chips"), and not one that has no singular ("pants")."""
    from lemminflect import getLemma

    last = noun.rpartition(" ")[2]
    if last.endswith(("ss", "us", "is")) or last in _NO_SINGULAR:
        return False
    lemmas = [lemma for lemma in getLemma(last, upos="NOUN") if lemma != last]
    return bool(lemmas) if last.endswith("s") else any(plural(lemma) == last for lemma in lemmas)


def plural(noun: str) -> str:
    """The plural of a noun or noun compound: "wolves", "fire hydrants"."""
    if " of " in noun:
        first, preposition, rest = noun.partition(" of ")
        return plural(first) + preposition + rest
    before, space, last = noun.rpartition(" ")
    if last.endswith("fish"):
        return noun
    if last in _NO_SINGULAR:
        return noun
    form = _inflect(last, "NNS")
    if form == last and last not in _SAME_IN_THE_PLURAL:  # lemminflect has it for a mass noun
        form = last + ("es" if last.endswith(("s", "x", "z", "ch", "sh")) else "s")
    return before + space + form


def verb_forms(phrase: str) -> VerbForms:
    """The forms of a verb with whatever follows it: "sits on", "sitting on", "sat on"."""
    verb, space, rest = phrase.partition(" ")
    tail = space + rest
    return VerbForms(
        third_person=_inflect(verb, "VBZ") + tail,
        gerund=_inflect(verb, "VBG") + tail,
        past=_inflect(verb, "VBD") + tail,
        participle=_inflect(verb, "VBN") + tail,
    )


def _inflect(word: str, tag: str) -> str:
    from lemminflect import getInflection

    if (word, tag) in _IRREGULAR:
        return _IRREGULAR[word, tag]

    forms = getInflection(word, tag=tag)
    if not forms:
        forms = getInflection(word, tag=tag, inflect_oov=True)
    return str(forms[0])
