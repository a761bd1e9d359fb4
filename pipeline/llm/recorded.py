"""Replies of a language model that were recorded: lexicons are built with them again, without key or network.

A folder holds objects.jsonl, attributes.jsonl, relations.jsonl, any of them; a line is one reply: {"prompt": the
question, "reply": what the model answered}. Replies are hostile input here, too: `replies` reads them.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import UserError
from pipeline.llm.replies import parse_terms
from pipeline.storage import sha256_file


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedTerms:
    """What a folder of replies proposes."""

    terms: dict[str, list[str]]
    """By lexicon, each term once, in the order of the replies."""
    num_replies: int
    files: dict[str, str]
    """sha256 by file name."""


def read_recorded(folder: Path, *, lexicons: Sequence[str]) -> RecordedTerms:
    """The terms that recorded replies propose; UserError for a folder without replies, or a broken line."""
    terms: dict[str, list[str]] = {}
    files: dict[str, str] = {}
    num_replies = 0
    for lexicon in lexicons:
        file = folder / f"{lexicon}.jsonl"
        if file.is_file():
            replies = list(_read_replies(file))
            num_replies += len(replies)
            terms[lexicon] = list(dict.fromkeys(term for reply in replies for term in parse_terms(reply)))
            files[file.name] = sha256_file(file)
    if not files:
        wanted = ", ".join(f"{lexicon}.jsonl" for lexicon in lexicons)
        raise UserError(
            f"--llm-replies {folder} holds no replies: give a folder with one or more of {wanted}"
        )
    return RecordedTerms(terms=terms, num_replies=num_replies, files=files)


def _read_replies(file: Path) -> Iterator[str]:
    for number, line in enumerate(file.read_bytes().splitlines(), start=1):
        try:
            reply = json.loads(line)["reply"]
        except (ValueError, RecursionError, TypeError, KeyError):
            reply = None
        if not isinstance(reply, str):
            raise UserError(
                f'{file}, line {number}: not a recorded reply; a line is {{"prompt": TEXT, "reply": TEXT}}'
            )
        yield reply
