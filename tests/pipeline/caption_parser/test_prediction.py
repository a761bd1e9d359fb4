"""The bundled parser run in numpy against the same pipeline run by spaCy."""

from typing import Any

import numpy as np
import pytest

from pipeline.caption_parser import word_table
from pipeline.caption_parser.corpus import read_cc3m
from pipeline.caption_parser.prediction import Prediction, interior, split_blocks
from pipeline.caption_parser.word_table import WordTable
from pipeline.scene_graphs.building import build_graph
from pipeline.scene_graphs.parser import BUNDLED_FOLDER, CaptionParser, load_pipeline, to_tree
from tests.places import REAL_DATA

NLP, FOLDER = load_pipeline(str(BUNDLED_FOLDER))
PREDICTION = Prediction(NLP, folder=FOLDER)
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
def test_tags_trees_and_lemmas_of_real_captions_are_those_of_spacy() -> None:
    captions = [each.text for each in read_cc3m(REAL_DATA)][:6_000]
    assert len(differences(captions)) <= 3  # rounding may decide between two scores that are as good as equal


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


def make_table() -> WordTable:
    layers = NLP.get_pipe("tok2vec").model.layers[0].layers[1:]  # type: ignore[attr-defined]
    return WordTable(layers, np.ones((3, 96, 2), dtype=np.float32))


def features(num_words: int, first: int = 0) -> Any:
    return np.arange(first * 4, (first + num_words) * 4, dtype=np.uint64).reshape(num_words, 4)


def test_word_vectors_do_not_depend_on_their_neighbours() -> None:
    together, one_by_one = make_table(), make_table()
    rows = together.find(features(300))
    for word in range(299, -1, -1):
        (row,) = one_by_one.find(features(1, first=word))
        assert np.array_equal(one_by_one.vectors[row], together.vectors[rows[word]])
        assert np.array_equal(
            one_by_one.products[3 * row : 3 * row + 3], together.products[3 * rows[word] :][:3]
        )
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
