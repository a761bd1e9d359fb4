"""Which class is meant, by a target and by a caption."""

import pytest

from pipeline.errors import UserError
from trainer.classes import find_class, names_class, shared_names

NAMES = ("golden retriever", "missile", "sunglasses", "missile", "flat-coated retriever", "tabby")


def test_a_class_is_found_by_its_very_name() -> None:
    assert [find_class(name, NAMES, of="pets") for name in ("golden retriever", "tabby")] == [0, 5]


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("Retriever", "6 classes of pets: golden retriever, flat-coated retriever, ..."),
        ("sunglases", "6 classes of pets: sunglasses, ..."),
        (
            "qqq",
            "6 classes of pets: golden retriever, missile, sunglasses, missile, flat-coated retriever, ...",
        ),
        ("missile", "'missile' is the name of several classes of pets"),
    ],
)
def test_others_are_told_what_is_near(target: str, said: str) -> None:
    with pytest.raises(UserError) as told:
        find_class(target, NAMES, of="pets")
    assert said in str(told.value)


def test_names_of_several_classes_are_found() -> None:
    assert shared_names(NAMES) == ("missile",)


@pytest.mark.parametrize(
    ("caption", "name", "named"),
    [
        ("a BANANA.", "banana", True),
        ("bananas", "banana", False),
        ("a banana-split", "banana", True),
        ("a fire  truck", "fire truck", True),
        ("fire and truck", "fire truck", False),
        ("a c++ book", "c++", True),
    ],
)
def test_a_caption_names_a_class_by_its_whole_words(caption: str, name: str, named: bool) -> None:
    assert names_class(caption, name) is named
