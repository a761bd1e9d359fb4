"""Inflected forms of lexicon terms, made once while lexicons are built: plural, verb forms, a or an.

Only building calls lemminflect; augmenting reads the forms from the lexicon files and needs `article` alone.
"""

import re
from dataclasses import dataclass
from typing import Final

_SOUNDS_LIKE_CONSONANT = re.compile(
    r"(?:eu|ewe|uni(?!n)|use|usu|ure|uro|uku|ute|uti|oui|one\b|one-|once)", re.IGNORECASE
)
_SOUNDS_LIKE_VOWEL = re.compile(r"(?:hour|heir|honou?r|honest|herb|[aefhilmnorsx]-)", re.IGNORECASE)
_CLOTHES_IN_THE_PLURAL = frozenset(
    re.findall(
        r"\S+",
        "pants trousers shorts jeans glasses sunglasses goggles binoculars scissors tongs pliers tweezers shears tights "
        "pajamas pyjamas overalls leggings clothes bloomers breeches briefs boxers trunks khakis slacks sweats headphones "
        "earphones spectacles eyeglasses suspenders handcuffs stairs bagpipes maracas castanets stilts suds mussels",
    )
)
"""Nouns that stand in the plural for one thing: they replace plurals as they are."""
_IRREGULAR: Final = {
    ("ox", "NNS"): "oxen",
    ("fish", "NNS"): "fish",
    ("bison", "NNS"): "bison",
    ("hoof", "NNS"): "hooves",
    ("scarf", "NNS"): "scarves",
    ("lie", "VBN"): "lain",
    ("ski", "VBN"): "skied",
}
"""Where lemminflect is wrong, or rarer than what captions write."""


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


def plural(noun: str) -> str:
    """The plural of a noun or noun compound: "wolves", "fire hydrants"."""
    before, space, last = noun.rpartition(" ")
    if last in _CLOTHES_IN_THE_PLURAL:
        return noun
    return before + space + _inflect(last, "NNS")


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
