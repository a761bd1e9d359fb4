"""What a language model answered -> terms. A reply is hostile input: only plain words leave this file."""

import json
import re
import unicodedata
from typing import Final

MAX_TERM_CHARACTERS: Final = 60
_TERM: Final = re.compile(r"[a-z]{2,20}(?:[ -][a-z]{1,20}){0,3}")
_STRING: Final = re.compile(r'"((?:[^"\\]|\\.)*)"\s*[,\]]')
_BULLET: Final = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s*")


def parse_terms(reply: str) -> list[str]:
    """The terms of a reply: JSON, JSON that was cut off, or lines. Whatever is no plain word or phrase is dropped."""
    return [term for term in map(_clean, _strings(reply)) if term is not None]


def _strings(reply: str) -> list[str]:
    text = reply.strip().removeprefix("```json").removeprefix("```").removesuffix("```").strip()
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        if text.startswith(("{", "[")):
            return _STRING.findall(text)
        return [_BULLET.sub("", line) for line in text.splitlines()]
    if isinstance(value, dict):
        value = next((each for each in value.values() if isinstance(each, list)), [])
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def _clean(text: str) -> str | None:
    """The text as a term, or None: no markup, no control characters, no sentence, nothing long."""
    if len(text) > MAX_TERM_CHARACTERS or any(
        unicodedata.category(character)[0] == "C" for character in text
    ):
        return None
    term = unicodedata.normalize("NFKC", text).strip().lower()
    return term if _TERM.fullmatch(term) else None


def printable(message: str) -> str:
    """A server's words as one short printable line."""
    return "".join(character if character.isprintable() else " " for character in message)[:200]
