"""Whether a caption in Latin letters is English: the parser and the lexicons know no other language.

A caption is doubted where it has a word that other languages cannot do without, or a letter that English has not, and
then py3langid is asked (naive Bayes over byte sequences, offline, its model in the package). This is the one module
that imports it. Short captions stay: "La Mer" may be a title.
"""

import re
from functools import lru_cache
from typing import Any, Final

from pipeline.word_lists import WordLists

LANGUAGES: Final = ("en", "fr", "de", "pt", "es", "it")
MAX_ENGLISH: Final = 0.03
"""A caption is of another language where English is less likely than this, of the six."""
MAX_ENGLISH_OF_SHORT: Final = 0.005
"""The same for captions of fewer than LONG words, which may be names: "Rio de Janeiro city beach"."""
LONG: Final = 6
MIN_WORDS: Final = 4
"""Still shorter ones are not doubted."""
_LISTS: Final = WordLists.beside(__file__)
FOREIGN_WORDS: Final = _LISTS.word_set("foreign_function_words.txt")
ENGLISH_WORDS: Final = _LISTS.word_set("english_function_words.txt")
_WORD: Final = re.compile(r"[^\W\d_]+")


def is_foreign(caption: str) -> bool:
    """Whether a caption is French, German, Portuguese, Spanish or Italian beyond doubt."""
    words = _WORD.findall(caption.lower())
    if len(words) < MIN_WORDS or not ENGLISH_WORDS.isdisjoint(words):
        return False
    if caption.isascii() and FOREIGN_WORDS.isdisjoint(words):
        return False
    # Titles Written Like This and names would mislead it: it sees the words alone, in lower case.
    english = dict(_identifier().rank(" ".join(words)))["en"]
    return bool(english < (MAX_ENGLISH if len(words) >= LONG else MAX_ENGLISH_OF_SHORT))


@lru_cache(maxsize=1)
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # noqa: TID251  # takes a second: not for English

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(LANGUAGES)
    return identifier
