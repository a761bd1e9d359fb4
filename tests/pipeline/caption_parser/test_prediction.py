"""The bundled parser run in numpy against the same pipeline run by spaCy."""

from typing import Any

import numpy as np
import pytest
from spacy.attrs import NORM, PREFIX, SHAPE, SUFFIX  # type: ignore[import-not-found]  # noqa: TID251

from pipeline.caption_parser import word_table
from pipeline.caption_parser.corpus import read_cc3m
from pipeline.caption_parser.network import DOUBLE, SINGLE, Network, interior
from pipeline.caption_parser.prediction import Prediction, split_blocks
from pipeline.caption_parser.tokens import Tokens, adjoining_words
from pipeline.caption_parser.transitions import doubtful
from pipeline.caption_parser.word_table import WordTable
from pipeline.scene_graphs.building import build_graph
from pipeline.scene_graphs.identity import BUNDLED_FOLDER
from pipeline.scene_graphs.parser import CaptionParser, load_pipeline, to_tree
from tests.places import REAL_DATA

NLP, _ = load_pipeline(str(BUNDLED_FOLDER))
PREDICTION = Prediction(NLP)
CAPTIONS = [
    "", "dog", "  a   dog\t", "a man riding a horse", "Two men aren't there!", "person at awards 2012 .",
    "the kitchen has a stove, a sink and a window that looks out on a garden full of flowers in the sun .",
    "a dog runs . a cat sits on the mat in front of the house where the old woman lives . people",
    "shelves 🐕 #tag @me http://example.org/x?y=z 3,000 km", "to be or not to be , that is what he asked her to say",
]  # fmt: skip


def differences(captions: list[str]) -> list[str]:
    """The captions that the two analyse differently."""
    found = []
    for doc, analysis in zip(NLP.pipe(captions), PREDICTION.analyse(captions), strict=True):
        expected = (
            doc.text, [t.text for t in doc], [t.idx for t in doc], [t.lemma_.lower() for t in doc],
            [t.tag_ for t in doc], [t.dep_ for t in doc], [t.head.i for t in doc],
        )  # fmt: skip
        if tuple(analysis) != expected:
            found.append(doc.text)
    return found


def test_tags_trees_and_lemmas_are_those_of_spacy() -> None:
    assert differences(CAPTIONS) == []
    assert differences([f"{one} {other}" for one in CAPTIONS for other in CAPTIONS]) == []


@pytest.mark.data
@pytest.mark.skipif(not REAL_DATA.exists(), reason="the real data is not beside the project")
def test_analyses_of_real_captions_do_not_depend_on_their_neighbours() -> None:
    captions = [each.text for each in read_cc3m(REAL_DATA)][:600]
    together = list(PREDICTION.analyse(captions))
    for size in (1, 7, 64, 191):
        parts = [captions[start : start + size] for start in range(0, len(captions), size)]
        assert [each for part in parts for each in PREDICTION.analyse(part)] == together


@pytest.mark.data
@pytest.mark.skipif(not REAL_DATA.exists(), reason="the real data is not beside the project")
def test_tags_trees_and_lemmas_of_real_captions_are_those_of_spacy() -> None:
    captions = [each.text for each in read_cc3m(REAL_DATA)][:6_000]
    assert len(differences(captions)) <= 3  # rounding may decide between two scores that are as good as equal


def test_words_are_those_of_spacy() -> None:
    odd = [
        "8 a.m. 8 a .m. 10 a.m 10a.m.",
        "don't do n't",
        "a\u00a0dog",
        "  two",
        "¯\\ (ツ) _/¯",
        "i 'm that 's, c ++",
        "let 's",
    ]
    tokens = Tokens(NLP)
    pairs = [f"{first} {second} . {first} {second}" for first, second in sorted(adjoining_words(NLP))]
    for text in [*CAPTIONS, *odd, *pairs, *pairs]:
        doc, found = NLP.make_doc(text), tokens.cut(text)
        assert (found.words, found.starts) == ([token.text for token in doc], [token.idx for token in doc])
        if found.words:
            features = doc.to_array([NORM, PREFIX, SUFFIX, SHAPE])
            np.testing.assert_array_equal(np.concatenate(found.features), features)


def test_graphs_are_those_of_the_same_pipeline_run_by_spacy() -> None:
    by_spacy = [build_graph(to_tree(doc)) for doc in NLP.pipe(CAPTIONS[1:6])]
    for spec in ("bundled", str(BUNDLED_FOLDER)):
        assert list(CaptionParser(spec).parse(CAPTIONS[1:6])) == by_spacy


def test_blocks_are_small_and_keep_the_order() -> None:
    lengths = [3] * 500 + [9_000, 5, 8_190, 3]
    blocks = list(split_blocks(range(len(lengths)), lengths))
    assert [index for block in blocks for index in block] == list(range(len(lengths)))
    assert [len(block) for block in blocks] == [192, 192, 116, 1, 1, 1, 1]
    assert list(split_blocks([], [])) == []


def test_analyses_do_not_depend_on_their_neighbours() -> None:
    together = list(PREDICTION.analyse(CAPTIONS))
    assert together == [next(PREDICTION.analyse([caption])) for caption in CAPTIONS]
    assert list(PREDICTION.analyse([])) == []


def test_scores_of_single_precision_are_far_better_than_the_lead_that_makes_a_decision_sure() -> None:
    single, double = (Network(NLP, precision=precision) for precision in (SINGLE, DOUBLE))
    assert (single.lead, double.lead) == (1e-3, 0.0)
    words, lengths = features(600), np.full(60, 10)
    exact = double.vectors(double.table.find(words), lengths)
    rough = single.vectors(single.table.find(words), lengths)
    assert rough.dtype == SINGLE
    assert exact.dtype == DOUBLE
    assert np.abs(exact - rough).max() < single.lead / 100


def test_what_is_in_doubt_is_decided_in_double_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = list(PREDICTION.analyse(CAPTIONS))
    prediction = Prediction(NLP)
    # A network whose rounding sways everything: its decisions are worth nothing, and none is sure.
    monkeypatch.setattr(prediction._network, "lead", 1e9)
    monkeypatch.setattr(prediction._network, "_tag_weights", -prediction._network._tag_weights)
    assert list(prediction.analyse(CAPTIONS)) == expected


def test_only_a_close_decision_is_in_doubt() -> None:
    scores = np.array([[0.0, 1.0, 0.9995], [2.0, 1.0, 1.9], [3.0, -np.inf, -np.inf], [5.0, 5.0, 0.0]])
    assert doubtful(scores, scores.argmax(axis=1), lead=1e-3).tolist() == [True, False, False, True]
    assert doubtful(scores, scores.argmax(axis=1), lead=0.2).tolist() == [True, True, False, True]


def make_table() -> WordTable:
    return Network(NLP, precision=SINGLE).table


def features(num_words: int, first: int = 0) -> Any:
    return np.arange(first * 4, (first + num_words) * 4, dtype=np.uint64).reshape(num_words, 4)


def test_word_vectors_do_not_depend_on_their_neighbours_but_for_rounding() -> None:
    together, one_by_one = make_table(), make_table()
    rows = together.find(features(300))
    for word in range(299, -1, -1):
        (row,) = one_by_one.find(features(1, first=word))
        assert np.allclose(one_by_one.vectors[row], together.vectors[rows[word]], rtol=0, atol=1e-5)
        ours = one_by_one.products[3 * row : 3 * row + 3]
        assert np.allclose(ours, together.products[3 * rows[word] :][:3], rtol=0, atol=1e-5)
    assert np.array_equal(rows, together.find(features(300)))
    assert not together.vectors[0].any()


def test_a_full_word_table_starts_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_table, "MAX_WORDS", 100)
    table = make_table()
    first = table.vectors[table.find(features(150))].copy()
    assert sorted(table.find(features(5, first=500))) == [1, 2, 3, 4, 5]
    assert np.array_equal(table.vectors[table.find(features(150))], first)


def test_interior_leaves_a_margin_around_each_run() -> None:
    assert interior(np.array([2, 1]), 2).tolist() == [2, 3, 8]
