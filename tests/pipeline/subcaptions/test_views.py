"""Text views: seeded, never empty, never an error."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.lexicons.loading import load_lexicons
from pipeline.subcaptions import views as eda

SYNONYMS = {"dog": ("hound",), "big": ("large", "great"), "sofa": ("couch",)}
WORDS = ["a", "big", "dog", "lies", "on", "a", "red", "sofa", "near", "the", "old", "door"]


def test_views_depend_on_seed_key_and_number_alone() -> None:
    def views(**changes: object) -> tuple[str, ...]:
        return eda.make_views(" ".join(WORDS), SYNONYMS, **{"num_views": 4, "seed": 0, "key": "k", **changes})  # type: ignore[arg-type]

    assert views() == views()
    assert views(num_views=2) == views()[:2]
    assert views() != views(seed=1)
    assert views() != views(key="other")


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60), st.integers(0, 5))
def test_any_string_gives_views(caption: str, seed: int) -> None:
    views = eda.make_views(caption, SYNONYMS, num_views=3, seed=seed, key=caption)
    assert len(views) == 3
    assert all(view for view in views) or not caption


@pytest.mark.parametrize("caption", ["", "!!!", "12 34", "🐶🐶"])
def test_captions_without_letters_give_themselves_back(caption: str) -> None:
    assert eda.make_views(caption, SYNONYMS, num_views=2, seed=0, key="k") == (caption, caption)


def test_synonyms_replace_known_words_only() -> None:
    for seed in range(30):
        changed = eda.replace_synonyms(WORDS, SYNONYMS, random.Random(seed))
        different = [(old, new) for old, new in zip(WORDS, changed, strict=True) if old != new]
        assert len(different) == 1
        assert different[0][1] in SYNONYMS[different[0][0]]


def test_insertion_keeps_the_words_in_order() -> None:
    changed = eda.insert_synonyms(WORDS, SYNONYMS, random.Random(0))
    assert len(changed) == len(WORDS) + 1
    rest = iter(changed)
    assert all(word in rest for word in WORDS)


def test_swap_keeps_the_words() -> None:
    changed = eda.swap_words(WORDS, SYNONYMS, random.Random(0))
    assert sorted(changed) == sorted(WORDS)
    assert changed != WORDS
    assert eda.swap_words(["dog"], SYNONYMS, random.Random(0)) == ["dog"]


def test_deletion_leaves_a_word() -> None:
    for seed in range(200):
        assert eda.delete_words(["dog"], SYNONYMS, random.Random(seed)) == ["dog"]


def test_committed_lexicons_have_synonyms() -> None:
    synonyms = load_lexicons().synonyms
    assert "couch" in synonyms.get("sofa", ()) or "sofa" in synonyms.get("couch", ())
    assert len(synonyms) > 1_500
