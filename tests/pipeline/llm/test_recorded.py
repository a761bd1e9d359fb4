"""Recorded replies: what is read, and what is refused."""

import json
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.llm.recorded import read_recorded

LEXICONS = ("objects", "attributes", "relations")


def write(file: Path, *replies: str) -> None:
    file.write_text("".join(json.dumps({"prompt": "?", "reply": reply}) + "\n" for reply in replies))


def test_terms_are_those_of_the_replies_each_once(tmp_path: Path) -> None:
    write(tmp_path / "objects.jsonl", '{"terms": ["Lamp", "dog", "<b>"]}', "- dog\n- tea pot")
    found = read_recorded(tmp_path, lexicons=LEXICONS)
    assert found.terms == {"objects": ["lamp", "dog", "tea pot"]}
    assert found.num_replies == 2
    assert list(found.files) == ["objects.jsonl"]


def test_a_folder_without_replies_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"objects\.jsonl, attributes\.jsonl, relations\.jsonl"):
        read_recorded(tmp_path, lexicons=LEXICONS)


@pytest.mark.parametrize("line", ["", "no JSON", "[]", "7", '{"prompt": "?"}', '{"reply": 7}', "[" * 100_000])
def test_a_broken_line_is_named(tmp_path: Path, line: str) -> None:
    write(tmp_path / "relations.jsonl", "[]")
    with (tmp_path / "relations.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(UserError, match="line 2"):
        read_recorded(tmp_path, lexicons=LEXICONS)
