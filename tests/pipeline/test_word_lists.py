"""The word lists: how one is read, and that every one of them is read by its room and says what it means."""

from pathlib import Path

import pytest

import pipeline
from pipeline.word_lists import WordLists, read_block_list

FILES = sorted(Path(pipeline.__file__).parent.glob("*/word_lists/*"))


@pytest.fixture
def lists(tmp_path: Path) -> WordLists:
    (tmp_path / "word_lists").mkdir()
    return WordLists.beside(str(tmp_path / "module.py"))


def test_words_stand_apart_by_spaces_and_comments_are_left_out(lists: WordLists) -> None:
    (lists.folder / "colours.txt").write_text("# Colours, the usual ones.\n\nred green # of grass\nblue\n")
    assert lists.words("colours.txt") == ["red", "green", "blue"]
    assert lists.word_set("colours.txt") == {"blue", "green", "red"}
    assert lists.groups("colours.txt") == [["red", "green"], ["blue"]]


def test_commas_part_words_that_hold_spaces(lists: WordLists) -> None:
    (lists.folder / "compounds.txt").write_text("tank top, tennis ball,\nfire hydrant\n")
    assert lists.words("compounds.txt") == ["tank top", "tennis ball", "fire hydrant"]


def test_sections_and_rows(lists: WordLists) -> None:
    (lists.folder / "adjectives.txt").write_text("odd\n== hue\nred green\n== size\nbig\n")
    (lists.folder / "forms.csv").write_text("# Forms.\nword,form\nox, oxen\n")
    assert lists.sections("adjectives.txt") == {"": ["odd"], "hue": ["red", "green"], "size": ["big"]}
    assert lists.rows("forms.csv") == [["ox", "oxen"]]


def test_block_lists_are_read_in_lower_case(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("Gun knife\n")
    (tmp_path / "yours.txt").write_text("# nothing\n")
    assert read_block_list([tmp_path / "mine.txt", tmp_path / "yours.txt"]) == {"gun", "knife"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parts[-3]}/{file.name}")
def test_every_list_is_read_by_its_room_and_no_word_stands_in_it_twice(file: Path) -> None:
    room = file.parents[1]
    sources = "".join(module.read_text("utf-8") for module in sorted(room.glob("*.py")))
    assert f'"{file.name}"' in sources or file.name.startswith("blocked_")
    if file.suffix == ".txt" and room.name != "lexicons":
        words = WordLists(file.parent).words(file.name)
        by_language = any(line.startswith("== ") for line in file.read_text("utf-8").splitlines())
        assert len(words) == len(set(words)) > 1 or by_language
        assert file.read_text("utf-8").startswith("# ")
