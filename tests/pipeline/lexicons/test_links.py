"""Which terms may be true together with what a caption says: the tables behind it, and what they rule out."""

from typing import get_args

import pytest

from pipeline.lexicons.candidates import LISTS, Candidate
from pipeline.lexicons.dimensions import Kind, contrasting_attributes, dimensions_of
from pipeline.lexicons.links import compatible_prepositions, compatible_verbs
from pipeline.lexicons.loading import Lexicon, Lexicons, load_lexicons


@pytest.fixture(scope="module")
def lexicons() -> Lexicons:
    return load_lexicons()


def terms(lexicon: Lexicon, rows: int) -> set[str]:
    return {term.term for row, term in enumerate(lexicon.terms) if rows >> row & 1}


def test_prepositions_that_may_hold_together_are_groups_and_go_both_ways() -> None:
    groups = {group for _, group, _ in LISTS.rows("prepositions.csv")}
    pairs = compatible_prepositions()
    assert set(pairs) <= groups
    for group, others in pairs.items():
        assert group not in others
        assert all(group in pairs[other] for other in others)


@pytest.mark.parametrize(
    ("said", "may_be_true", "cannot"),
    [
        ("at", ["at the bottom of", "in front of", "on", "behind"], ["without", "far from"]),
        ("near", ["behind", "in front of", "beyond"], ["in", "on", "into"]),
        ("on", ["across", "against", "upon", "at the top of"], ["under", "in", "behind", "off"]),
        ("in", ["throughout", "inside", "through"], ["on", "off", "outside", "behind"]),
        ("+on", ["atop", "along"], ["under"]),
        ("on grass", ["in", "inside"], ["under", "off"]),
        ("in front of", ["opposite", "outside"], ["behind", "on"]),
    ],
)
def test_only_prepositions_that_exclude_each_other_replace(
    lexicons: Lexicons, said: str, may_be_true: list[str], cannot: list[str]
) -> None:
    excluded = terms(lexicons.relations, lexicons.relations.excluded(said))
    assert excluded >= set(may_be_true) & {term.term for term in lexicons.relations.terms}
    assert not excluded & set(cannot)


@pytest.mark.parametrize(
    ("verb", "may_be_true", "cannot"),
    [
        ("walk", ["climb", "stumble", "emerge"], ["sit", "swim", "sleep"]),
        ("run", ["jump", "leap"], ["sit", "walk"]),
        ("sit", ["smile", "ride", "talk"], ["stand", "run"]),
        ("smile", ["stand", "dance"], ["sleep"]),
    ],
)
def test_verbs_of_one_moment(verb: str, may_be_true: list[str], cannot: list[str]) -> None:
    assert compatible_verbs()[verb].issuperset(may_be_true)
    assert not compatible_verbs()[verb] & set(cannot)


def test_every_dimension_is_made_of_kinds_and_dimensions() -> None:
    rows = LISTS.rows("attribute_dimensions.csv")
    names = {name for name, *_ in rows}
    assert len(names) == len(rows)
    for _, possible, excludes, _, _ in rows:
        assert set(possible.split()) <= set(get_args(Kind))
        assert set(excludes.split()) <= names
    for file in ("adjectives.txt", "participles.txt", "gerunds.txt", "materials.txt"):
        assert set(LISTS.sections(file)) <= names | {"compound"}
    for name, _, excludes, _, _ in rows:
        for other in excludes.split():
            back = next(others for each, _, others, _, _ in rows if each == other)
            assert name in back.split(), f"{name} excludes {other}, not the other way round"


def test_every_attribute_of_our_lists_has_a_dimension(lexicons: Lexicons) -> None:
    """Not those that a language model alone gave: until somebody sorts them, they may be true of anything."""
    bases = {"participle": "ed", "gerund": "ing"}
    for term in lexicons.attributes.terms:
        if term.kind not in bases and term.source != "llm":
            candidate = Candidate(term=term.term, kind=term.kind, synset=term.synset, base=term.term)
            assert "unsorted" not in dimensions_of(candidate), term.term


@pytest.mark.parametrize(
    ("noun", "possible", "impossible"),
    [
        ("dog", {"wet", "small", "sleeping"}, {"wooden", "grilled", "uniformed"}),
        ("man", {"bearded", "old", "tired"}, {"wooden", "grilled", "forested", "green"}),
        ("table", {"wooden", "round", "dusty"}, {"juicy"}),
        ("blorple", {"wet", "small", "wooden"}, set()),
    ],
)
def test_what_a_caption_may_leave_unsaid(
    lexicons: Lexicons, noun: str, possible: set[str], impossible: set[str]
) -> None:
    known = {term.term for term in lexicons.attributes.terms}
    found = terms(lexicons.attributes, lexicons.attributes.possible(noun))
    assert possible & known <= found
    assert not impossible & found


@pytest.mark.parametrize(
    ("word", "contrast", "alike"),
    [
        ("brown", "green", "tan"),
        ("wooden", "marble", "oak"),
        ("wet", "parched", "soaked"),
        ("big", "tiny", "huge"),
    ],
)
def test_contrasts_are_of_the_same_dimension(
    lexicons: Lexicons, word: str, contrast: str, alike: str
) -> None:
    attributes = lexicons.attributes
    contrasts = terms(attributes, attributes.contrasts(word) & ~attributes.excluded(word))
    assert contrast in contrasts
    assert alike not in contrasts


def test_no_colour_replaces_another_of_its_family() -> None:
    families = LISTS.groups("compatible_attributes.txt")
    assert all(len(set(family)) == len(family) > 1 for family in families)
    candidates = [Candidate(term=word, kind="adjective", synset="", base=word) for word in ("red", "green")]
    assert contrasting_attributes(candidates)["red"] >= {"green"}
