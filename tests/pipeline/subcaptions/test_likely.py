"""Plausible draws: what captions put together comes often, rare terms still come, and nothing true is drawn."""

from collections import Counter

import pytest

from pipeline.errors import UserError
from pipeline.lexicons.loading import Lexicons, load_lexicons
from pipeline.lexicons.pairs import ALONE, ANY, ATTRIBUTES, OBJECTS, RELATIONS, SUBJECTS
from pipeline.scene_graphs.parser import CaptionParser
from pipeline.schema import Caption, Subcaption
from pipeline.subcaptions.balance import Balance, balance
from pipeline.subcaptions.counting import count_pairs
from pipeline.subcaptions.likely import RARE, TABLE, Place, likely_of
from pipeline.subcaptions.making import SubcaptionOptions, apply_edits, make_subcaption
from pipeline.subcaptions.term_pools import SINGULAR

CAPTIONS = ("a woman riding a brown horse", "a cat", "a red car parked on the street", "a dog near a river")


@pytest.fixture(scope="module")
def lexicons() -> Lexicons:
    return load_lexicons()


def make(caption: str, lexicons: Lexicons, **options: object) -> Subcaption:
    (graph,) = CaptionParser().parse([caption])
    row = Caption(key="k", caption=caption, image=None, source="")
    chosen = SubcaptionOptions(draw="plausible", num_views=0, **options)  # type: ignore[arg-type]
    return make_subcaption(row, graph, lexicons, chosen)


def test_what_is_counted() -> None:
    counts = count_pairs(CaptionParser().parse(CAPTIONS))
    assert counts.of(OBJECTS, "ride") == {"horse": 1}
    assert counts.of(SUBJECTS, "ride") == {"woman": 1}
    assert counts.of(SUBJECTS, ALONE) == {"cat": 1}
    assert counts.of(ATTRIBUTES, "horse") == {"brown": 1}
    assert counts.of(RELATIONS, ANY) == {"ride": 1, "parked on": 1, "@near": 1}


def test_what_stands_beside_a_word_is_drawn_most(lexicons: Lexicons) -> None:
    likely = likely_of(lexicons)
    place = likely.object_place(OBJECTS, "ride", likely.kind_of("bike"), SINGULAR)
    assert place is not None
    drawn = Counter(entry[2] for entry in place.close)
    assert len(place.close) == TABLE
    assert drawn["skateboard"] > 0
    vehicles = lexicons.objects.kind("bike")
    assert all(vehicles >> entry[0] & 1 for entry in (*place.close, *place.usual, *place.every))


def test_every_term_of_a_place_may_come() -> None:
    close, rare = [(0, "a", "a", "x:a")] * TABLE, [(row, "b", "b", "x:b") for row in range(1, 4)]
    place = Place(close=close, usual=close, every=rare, general=RARE)
    drawn = {place.draw(share | number << 10)[0] for share in range(TABLE) for number in range(3)}
    assert drawn == {0, 1, 2, 3}
    assert [entry[0] for entry in place.walk(1)][-3:] == [2, 3, 1]


@pytest.mark.parametrize("caption", CAPTIONS)
def test_edits_make_the_negative_and_all_differ(lexicons: Lexicons, caption: str) -> None:
    made = make(caption, lexicons, num_negatives=30)
    texts = [negative.text for negative in made.negatives]
    assert len({made.positive, *texts}) == len(texts) + 1
    assert all(apply_edits(made.positive, negative.edits) == negative.text for negative in made.negatives)
    assert (
        made == make(caption, lexicons, num_negatives=30) != make(caption, lexicons, num_negatives=30, seed=1)
    )


def test_a_synonym_is_never_drawn(lexicons: Lexicons) -> None:
    negatives = make("a woman riding a brown horse", lexicons, num_negatives=60).negatives
    words = {edit.replacement for negative in negatives for edit in negative.edits}
    assert not words & {"lady", "pony", "racehorse", "straddling", "mounting"}


def test_who_sits_may_read(lexicons: Lexicons) -> None:
    reading = lexicons.relations.excluded("sit")
    bases = {
        term.term.partition(" ")[0] for row, term in enumerate(lexicons.relations.terms) if reading >> row & 1
    }
    assert {"read", "hold", "watch", "knit", "eat"} & {
        term.term for term in lexicons.relations.terms
    } <= bases


def test_another_draw_is_refused() -> None:
    with pytest.raises(UserError, match="--draw 'odd': use one of even, plausible"):
        SubcaptionOptions(draw="odd")  # type: ignore[arg-type]


def everything_but(word: str) -> int:
    """The rows of four terms without the word's own."""
    return 0b1111 & ~(1 << "abcd".index(word)) if word in "abcd" else 0b1111


def test_words_come_as_often_as_they_go() -> None:
    words = {"a": 400, "b": 300, "c": 200, "d": 100}
    terms = {word: (row, words[word]) for row, word in enumerate("abcd")}
    found = balance(words, terms, everything_but)
    comes = dict.fromkeys(words, 0.0)
    for word, count in words.items():
        weights = {
            term: seen * found.weight[term]
            for term, (row, seen) in terms.items()
            if everything_but(word) >> row & 1
        }
        for term, weight in weights.items():
            comes[term] += count * found.share[word] * weight / sum(weights.values())
    for word, count in words.items():
        assert comes[word] == pytest.approx(count * found.share[word], rel=0.1)


def test_what_nothing_gives_back_is_not_taken_away() -> None:
    terms = {"a": (0, 50), "b": (1, 50)}
    found = balance({"a": 50, "b": 50, "people": 90}, terms, everything_but)
    assert found.share == {"people": 0, "a": 1, "b": 1}


def test_words_without_terms_are_not_balanced() -> None:
    assert balance({"people": 90}, {"a": (0, 0)}, everything_but) == Balance({}, {})


def test_one_noun_stays_where_the_other_alone_is_false(lexicons: Lexicons) -> None:
    eaten = objects_for("a man eating a sandwich", lexicons)
    assert any(text.startswith("man") for text in eaten)  # who eats a sandwich eats no apple
    assert any(text.endswith("sandwich") for text in eaten)
    held = objects_for("a man holding a cup", lexicons)
    assert held
    assert not any(text.startswith("man") for text in held)  # what he holds may be two things


def objects_for(caption: str, lexicons: Lexicons) -> list[str]:
    """The negatives whose nouns are replaced, of many draws."""
    (graph,) = CaptionParser().parse([caption])
    row = Caption(key="k", caption=caption, image=None, source="")
    return [
        each.text
        for seed in range(20)
        for each in make_subcaption(
            row, graph, lexicons, SubcaptionOptions(draw="plausible", num_views=0, seed=seed)
        ).negatives
        if each.kind == "object"
    ]


def test_people_become_people_or_stay(lexicons: Lexicons) -> None:
    objects = lexicons.objects
    people = {term.term for row, term in enumerate(objects.terms) if objects.kind("woman") >> row & 1}
    for text in objects_for("a man riding a horse", lexicons):
        assert text.split()[0] in people | {"man"}
    assert all(text.startswith("people") for text in objects_for("people riding horses", lexicons))


def test_a_caption_for_which_nothing_is_likely_has_a_negative_all_the_same(lexicons: Lexicons) -> None:
    (negative,) = make("person", lexicons).negatives
    assert negative.kind == "object"


def test_children_do_not_replace_people(lexicons: Lexicons) -> None:
    negatives = make("people hiking on the beach", lexicons, num_negatives=60).negatives
    assert not {edit.replacement for each in negatives for edit in each.edits} & {"kids", "children", "boys"}


def test_hair_does_not_replace_age(lexicons: Lexicons) -> None:
    negatives = make("a young woman in the park", lexicons, num_negatives=60).negatives
    assert not {edit.replacement for each in negatives for edit in each.edits} & {
        "blond",
        "busy",
        "colored",
        "muzzled",
    }


def test_a_cup_that_sits_may_stand(lexicons: Lexicons) -> None:
    negatives = make("a cup sitting on the table", lexicons, num_negatives=60).negatives
    verbs = {edit.replacement.split()[0] for each in negatives for edit in each.edits}
    assert not verbs & {"standing", "lying", "resting"}
