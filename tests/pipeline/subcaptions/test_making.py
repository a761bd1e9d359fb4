"""What every positive and negative promises, on hand-made scene graphs."""

import dataclasses
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import schema
from pipeline.errors import UserError
from pipeline.lexicons.loading import Lexicons, load_lexicons
from pipeline.schema import Attribute, Caption, Edit, Entity, Relation, SceneGraph, Subcaption
from pipeline.subcaptions.making import HARDNESSES, SubcaptionOptions, apply_edits, make_subcaption
from pipeline.subcaptions.positives import choose_relation


@pytest.fixture(scope="module")
def lexicons() -> Lexicons:
    return load_lexicons()


def entity(caption: str, head: str, *attributes: str, lemma: str | None = None, tag: str = "NN") -> Entity:
    start = caption.index(head)
    found = (
        Attribute(
            text=word,
            lemma=word.lower(),
            tag="JJ",
            start=caption.index(word),
            end=caption.index(word) + len(word),
        )
        for word in attributes
    )
    return Entity(
        head=head,
        lemma=lemma or head.lower(),
        tag=tag,
        start=start,
        end=start + len(head),
        attributes=tuple(found),
    )


def relation(caption: str, text: str, lemma: str, tag: str, *, rule: str = "preposition") -> Relation:
    start = caption.index(text)
    return Relation(
        subject=0, object=1, text=text, lemma=lemma, tag=tag, start=start, end=start + len(text), rule=rule
    )


def make(caption: str, graph: SceneGraph, lexicons: Lexicons, **options: object) -> Subcaption:
    row = Caption(key="k", caption=caption, image=None, source="s")
    return make_subcaption(row, graph, lexicons, SubcaptionOptions(**options))  # type: ignore[arg-type]


DOG = "A black dog is chasing two big cats near an old stop sign."
DOG_GRAPH = SceneGraph(
    entities=(
        entity(DOG, "dog", "black"),
        entity(DOG, "cats", "big", lemma="cat", tag="NNS"),
        entity(DOG, "stop sign", "old"),
    ),
    relations=(relation(DOG, "chasing", "chase", "VBG", rule="verb_object"),),
)


def test_positive_is_the_template(lexicons: Lexicons) -> None:
    made = make(DOG, DOG_GRAPH, lexicons)
    assert made.positive == "black dog chasing big cats"
    assert made.status == schema.OK
    assert len(made.negatives) == 10
    assert len(made.views) == 4


def test_without_a_relation_the_first_noun_stands_alone(lexicons: Lexicons) -> None:
    caption = "a picture of an apple"
    made = make(caption, SceneGraph(entities=(entity(caption, "apple"),)), lexicons)
    assert made.positive == "apple"
    assert {negative.kind for negative in made.negatives} == {"object"}


@pytest.mark.parametrize("hardness", HARDNESSES)
def test_edits_make_the_negative(lexicons: Lexicons, hardness: str) -> None:
    made = make(DOG, DOG_GRAPH, lexicons, num_negatives=60, hardness=hardness)
    ids = {
        term.term_id
        for lexicon in (lexicons.objects, lexicons.attributes, lexicons.relations)
        for term in lexicon.terms
    }
    for negative in made.negatives:
        assert apply_edits(made.positive, negative.edits) == negative.text != made.positive
        for edit in negative.edits:
            assert made.positive[edit.start : edit.end] == edit.original
            assert edit.term_id in ids
            assert edit.lexicon == negative.kind + "s"


def test_one_kind_is_changed_wholly(lexicons: Lexicons) -> None:
    made = make(DOG, DOG_GRAPH, lexicons, num_negatives=60)
    originals = {"attribute": ["black", "big"], "object": ["dog", "cats"], "relation": ["chasing"]}
    for negative in made.negatives:
        assert [edit.original for edit in negative.edits] == originals[negative.kind]
    assert {negative.kind for negative in made.negatives} == set(originals)


def test_negatives_differ_and_name_nothing_of_the_caption(lexicons: Lexicons) -> None:
    made = make(DOG, DOG_GRAPH, lexicons, num_negatives=300)
    assert len({negative.text for negative in made.negatives}) == len(made.negatives)
    rows = {term.term_id: row for row, term in enumerate(lexicons.objects.terms)}
    taken = (
        lexicons.objects.excluded("dog")
        | lexicons.objects.excluded("cat")
        | lexicons.objects.excluded("sign")
    )
    for negative in made.negatives:
        for edit in negative.edits if negative.kind == "object" else ():
            assert not taken >> rows[edit.term_id] & 1


def test_forms_agree(lexicons: Lexicons) -> None:
    made = make(DOG, DOG_GRAPH, lexicons, num_negatives=200)
    objects = {term.term_id: term for term in lexicons.objects.terms}
    for negative in made.negatives:
        if negative.kind == "object":
            subject, thing = negative.edits
            assert subject.replacement == objects[subject.term_id].forms[0]
            assert thing.replacement == objects[thing.term_id].forms[1] != ""
        elif negative.kind == "relation":
            assert negative.edits[0].replacement.endswith("ing")


@pytest.mark.parametrize(
    ("text", "lemma", "tag", "form"),
    [("chases", "chase", "VBZ", 1), ("chased", "chase", "VBD", 3), ("chase", "chase", "VBP", 0)],
)
def test_verbs_keep_tense_and_person(lexicons: Lexicons, text: str, lemma: str, tag: str, form: int) -> None:
    noun = "dog" if tag == "VBZ" else "dogs"
    caption = f"{noun} {text} cat"
    graph = SceneGraph(
        entities=(
            entity(caption, noun, lemma="dog", tag="NN" if noun == "dog" else "NNS"),
            entity(caption, "cat"),
        ),
        relations=(relation(caption, text, lemma, tag, rule="verb_object"),),
    )
    terms = {term.term_id: term for term in lexicons.relations.terms}
    for negative in make(caption, graph, lexicons, num_negatives=50).negatives:
        for edit in negative.edits if negative.kind == "relation" else ():
            assert edit.replacement == terms[edit.term_id].forms[form]


@pytest.mark.parametrize(
    ("noun", "tag", "text", "right"),
    [
        ("dogs", "NNS", "chases", "dogs chase cat"),
        ("dog", "NN", "chase", "dog chases cat"),
        ("dogs", "NNS", "is", "dogs are cat"),
        ("dog", "NN", "carry", "dog carries cat"),
        ("sheep", "NN", "graze", "sheep graze cat"),
    ],
)
def test_verbs_agree_with_their_noun(lexicons: Lexicons, noun: str, tag: str, text: str, right: str) -> None:
    """As where the caption's verb belonged to another noun: "a bunch of bananas hangs"."""
    caption = f"{noun} {text} cat"
    lemma = {"chases": "chase", "is": "be"}.get(text, text)
    graph = SceneGraph(
        entities=(
            entity(caption, noun, lemma="dog" if noun == "dogs" else noun, tag=tag),
            entity(caption, "cat"),
        ),
        relations=(
            relation(caption, text, lemma, "VBZ" if text.endswith("s") else "VBP", rule="verb_object"),
        ),
    )
    assert make(caption, graph, lexicons).positive == right


def test_infinitives_make_no_positive_and_rule_out_what_their_verb_does(lexicons: Lexicons) -> None:
    caption = "dog holding ball to chase cat"
    graph = SceneGraph(
        entities=(entity(caption, "dog"), entity(caption, "ball"), entity(caption, "cat")),
        relations=(
            relation(caption, "to chase", "to chase", "TO", rule="verb_object")._replace(object=2),
            relation(caption, "holding", "hold", "VBG", rule="verb_object"),
        ),
    )
    made = make(caption, graph, lexicons, num_negatives=400)
    assert made.positive == "dog holding ball"
    terms = {term.term_id: row for row, term in enumerate(lexicons.relations.terms)}
    changed = [n for n in made.negatives if n.kind == "relation"]
    assert changed
    excluded = lexicons.relations.excluded("chase")
    assert all(not excluded >> terms[negative.edits[0].term_id] & 1 for negative in changed)
    only = SceneGraph(entities=graph.entities, relations=graph.relations[:1])
    assert make(caption, only, lexicons).positive == "dog"


def test_prepositions_stay_with_their_verb(lexicons: Lexicons) -> None:
    caption = "dog sitting on sofa"
    graph = SceneGraph(
        entities=(entity(caption, "dog"), entity(caption, "sofa")),
        relations=(relation(caption, "sitting on", "sit on", "VBG"),),
    )
    changed = [n for n in make(caption, graph, lexicons, num_negatives=40).negatives if n.kind == "relation"]
    assert changed
    assert all(negative.edits[0].replacement.endswith(" on") for negative in changed)


@pytest.mark.parametrize(
    ("caption", "head", "original", "right"),
    [("Dogs bark", "Dogs", "dogs", str.islower), ("RED DOG", "DOG", "DOG", str.isupper)],
)
def test_capitals_follow_the_original(
    lexicons: Lexicons, caption: str, head: str, original: str, right: Callable[[str], bool]
) -> None:
    made = make(caption, SceneGraph(entities=(entity(caption, head, lemma="dog"),)), lexicons)
    assert made.positive == original
    assert all(right(negative.text) for negative in made.negatives)


def test_names_keep_their_capital(lexicons: Lexicons) -> None:
    caption = "Rex"
    made = make(caption, SceneGraph(entities=(entity(caption, "Rex", tag="NNP"),)), lexicons)
    assert made.positive == "Rex"
    assert all(negative.text[0].isupper() for negative in made.negatives)


def test_articles_are_mended_with_an_edit_of_their_own(lexicons: Lexicons) -> None:
    caption = "man posing as a pirate"
    graph = SceneGraph(
        entities=(entity(caption, "man"), entity(caption, "pirate")),
        relations=(relation(caption, "posing as a", "pose as", "VBG"),),
    )
    made = make(caption, graph, lexicons, num_negatives=200)
    mended = [negative for negative in made.negatives if Edit(start=14, end=15, **_ARTICLE) in negative.edits]
    assert mended
    for negative in mended:
        assert apply_edits(made.positive, negative.edits) == negative.text
        assert negative.edits[-1].replacement[0] in "aeiouh"


_ARTICLE = {"original": "a", "replacement": "an", "lexicon": "", "term_id": ""}


@pytest.mark.parametrize("status", [s for s in schema.GRAPH_STATUSES if s != schema.OK])
def test_statuses_pass_through(lexicons: Lexicons, status: str) -> None:
    made = make("text", SceneGraph(status=status), lexicons)
    assert (made.status, made.positive, made.negatives) == (status, "", ())


def test_nothing_left_to_say_is_a_status(lexicons: Lexicons) -> None:
    caption = "an entity"
    made = make(caption, SceneGraph(entities=(entity(caption, "entity"),)), lexicons)
    assert (made.status, made.negatives) == (schema.NO_NEGATIVE, ())
    assert made.positive == "entity"


def test_as_many_as_there_are(lexicons: Lexicons) -> None:
    caption = "an artifact"
    made = make(caption, SceneGraph(entities=(entity(caption, "artifact"),)), lexicons, num_negatives=2_999)
    assert 300 < len(made.negatives) < 2_000
    assert len({negative.text for negative in made.negatives}) == len(made.negatives)


def test_seed_and_key_alone_decide(lexicons: Lexicons) -> None:
    first = make(DOG, DOG_GRAPH, lexicons)
    assert first == make(DOG, DOG_GRAPH, lexicons)
    assert first != make(DOG, DOG_GRAPH, lexicons, seed=1)
    assert first.negatives[:3] == make(DOG, DOG_GRAPH, lexicons, num_negatives=3).negatives


def test_bands_are_drawn_evenly(lexicons: Lexicons) -> None:
    bands = {term.term_id: term.band for term in lexicons.objects.terms}
    counts = [0] * 5
    for seed in range(300):
        for negative in make(
            "dog", SceneGraph(entities=(entity("dog", "dog"),)), lexicons, seed=seed
        ).negatives:
            counts[bands[negative.edits[0].term_id]] += 1
    assert all(abs(count / sum(counts) - 0.2) < 0.03 for count in counts)


def test_near_negatives_are_fellows(lexicons: Lexicons) -> None:
    near = lexicons.objects.near("dog")
    rows = {term.term_id: row for row, term in enumerate(lexicons.objects.terms)}
    made = make(
        "dog", SceneGraph(entities=(entity("dog", "dog"),)), lexicons, hardness="near", num_negatives=2
    )
    assert all(near >> rows[negative.edits[0].term_id] & 1 for negative in made.negatives)


def test_verbs_are_preferred_to_prepositions() -> None:
    caption = "dog of man near house chasing cat"
    preposition = relation(caption, "near", "near", "IN")
    verb = relation(caption, "chasing", "chase", "VBG")
    of = relation(caption, "of", "of", "IN")
    for order in ((preposition, verb, of), (of, preposition, verb)):
        graph = SceneGraph(entities=DOG_GRAPH.entities, relations=order)
        assert choose_relation(graph) == verb
        assert choose_relation(dataclasses.replace(graph, relations=order[:1] + order[1:2])) != of


@settings(max_examples=60, deadline=None)
@given(
    st.text(min_size=1, max_size=12), st.text(min_size=1, max_size=12), st.sampled_from(["NN", "NNS", "NNP"])
)
def test_any_words_give_sound_edits(first: str, second: str, tag: str) -> None:
    caption = f"{first} on {second}"
    graph = SceneGraph(
        entities=(entity(caption, first, tag=tag), entity(caption, second, tag=tag)),
        relations=(relation(caption, "on", "on", "IN"),),
    )
    made = make(caption, graph, load_cached())
    for negative in made.negatives:
        assert apply_edits(made.positive, negative.edits) == negative.text
        assert all(made.positive[edit.start : edit.end] == edit.original for edit in negative.edits)


def load_cached(_cache: list[Lexicons] = []) -> Lexicons:  # noqa: B006 - a cache on purpose
    if not _cache:
        _cache.append(load_lexicons())
    return _cache[0]


@pytest.mark.parametrize(
    "wrong",
    [{"num_negatives": -1}, {"num_views": -1}, {"hardness": "impossible"}],
    ids=["negatives", "views", "hardness"],
)
def test_wrong_options_get_one_line(wrong: dict[str, object]) -> None:
    with pytest.raises(UserError, match="--"):
        SubcaptionOptions(**wrong)  # type: ignore[arg-type]
