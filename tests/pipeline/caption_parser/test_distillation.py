"""The recipe's training on a few sentences, with a teacher of random weights."""

from typing import Any

import numpy as np
import pytest
import spacy  # noqa: TID251
from spacy.language import Language  # noqa: TID251
from spacy.tokens import Doc  # noqa: TID251
from spacy.training import Example  # noqa: TID251
from thinc.api import fix_random_seed, use_ops

from pipeline.caption_parser import distillation
from pipeline.caption_parser.distillation import TrainingTexts, batches, learn_moves, learn_tags, rate, train
from pipeline.caption_parser.labels import LabelledText
from pipeline.caption_parser.student import TrainOptions, build_student

TEXTS = [
    "a dog runs",
    "the dog sees a cat on the mat",
    "two men",
    "a red hat",
    "cats sit on mats near the dog",
] * 4
LABELLED = LabelledText(
    words=("a", "dog", "runs"), spaces=(True, True, False), tags=("DT", "NN", "VBZ"), heads=(1, 2, 2),
    deps=("det", "nsubj", "ROOT"),
)  # fmt: skip
QUICK = TrainOptions(
    min_label_share=0.0,
    max_epochs=4.0,
    batch_words=20,
    tagger_steps=2,
    warmup_steps=2,
    evaluate_every=2,
    patience=2,
)


@pytest.fixture(scope="module")
def teacher() -> Language:
    """A pipeline built as en_core_web_sm is: tagger and parser with a tok2vec each."""
    fix_random_seed(1)
    nlp = spacy.blank("en")
    nlp.vocab.lookups.add_table("lexeme_norm")
    tok2vec = {
        "@architectures": "spacy.HashEmbedCNN.v2", "width": 96, "depth": 4, "embed_size": 2000, "window_size": 1,
        "maxout_pieces": 3, "subword_features": True, "pretrained_vectors": None,
    }  # fmt: skip
    nlp.add_pipe("tagger", config={"model": {"@architectures": "spacy.Tagger.v2", "tok2vec": tok2vec}})
    nlp.add_pipe("parser", config={"min_action_freq": 1, "model": {
        "@architectures": "spacy.TransitionBasedParser.v2", "state_type": "parser", "extra_state_tokens": False,
        "hidden_width": 96, "maxout_pieces": 2, "use_upper": True, "tok2vec": tok2vec,
    }})  # fmt: skip
    doc = Doc(
        nlp.vocab, words=list(LABELLED.words), spaces=list(LABELLED.spaces), tags=list(LABELLED.tags),
        heads=list(LABELLED.heads), deps=list(LABELLED.deps),
    )  # fmt: skip
    with use_ops("numpy", use_blis=False):
        nlp.initialize(lambda: [Example(Doc(nlp.vocab, words=list(LABELLED.words)), doc)])
    generator = np.random.default_rng(0)
    for name, layer, scale in (
        ("tagger", "softmax", 0.5),
        ("parser", "lower", 0.1),
        ("parser", "upper", 0.5),
    ):
        node: Any = nlp.get_pipe(name).model.get_ref(layer)  # type: ignore[attr-defined]
        for parameter in node.param_names:
            shape = node.get_param(parameter).shape
            node.set_param(parameter, generator.normal(scale=scale, size=shape).astype(np.float32))
    return nlp


def make_student(teacher: Language, options: TrainOptions = QUICK) -> Language:
    fix_random_seed(options.seed)
    with use_ops("numpy", use_blis=False):
        return build_student(teacher, texts=[LABELLED], options=options)


def heads_and_labels(nlp: Language, text: str) -> list[tuple[int, str]]:
    return [(token.head.i, token.dep_) for token in nlp(text)]


def test_student_starts_as_its_teachers_equal(teacher: Language) -> None:
    student = make_student(teacher)
    assert [heads_and_labels(student, text) for text in TEXTS] == [
        heads_and_labels(teacher, text) for text in TEXTS
    ]


def test_smaller_student_has_the_asked_for_size(teacher: Language) -> None:
    student = make_student(teacher, TrainOptions(min_label_share=0.0, depth=2, hidden=32))
    lower = student.get_pipe("parser").model.get_ref("lower")  # type: ignore[attr-defined]
    assert lower.get_param("W").shape == (8, 32, 2, 32)
    assert len(heads_and_labels(student, TEXTS[0])) == 3


@pytest.mark.parametrize("bad", [{"depth": 5}, {"depth": 0}, {"hidden": 97}])
def test_sizes_that_the_teacher_lacks_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"to (4|96)"):
        TrainOptions(**bad)


def test_two_trainings_give_the_same_bytes_and_lessen_the_loss(teacher: Language) -> None:
    texts = TrainingTexts(train=[(text, 1) for text in TEXTS], dev={"one": [LABELLED]})
    results = []
    for _ in range(2):
        student = make_student(teacher)
        with use_ops("numpy", use_blis=False):
            results.append((train(student, teacher, texts, options=QUICK), student.to_bytes()))
    assert results[0] == results[1]
    assert results[0][1] != make_student(teacher).to_bytes()


def test_training_stops_when_dev_gets_no_better(teacher: Language, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([0.1, 0.3, 0.2, 0.2, 0.9])
    monkeypatch.setattr(
        distillation, "agreement", lambda *_: dict.fromkeys(("tag", "uas", "las", "all"), next(scores))
    )
    texts = TrainingTexts(train=[(text, 1) for text in TEXTS], dev={"one": [LABELLED]})
    found = train(make_student(teacher), teacher, texts, options=QUICK)
    assert (found["step"], found["stopped_at"], found["score"]) == (4, 8, 0.3)


def test_gradients_are_those_of_the_losses(teacher: Language, monkeypatch: pytest.MonkeyPatch) -> None:
    student = make_student(teacher)
    docs = [student.make_doc(text) for text in TEXTS[:4]]
    lengths = np.array([len(doc) for doc in docs])
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(int(lengths.sum()), 96)).astype(np.float32)
    step = (generator.normal(size=vectors.shape) * 2e-4).astype(np.float32)

    states: list[Any] = []  # the same for all, else the student could take another way
    visit = distillation.visit

    def visit_once(*arguments: Any) -> Any:
        if not states:
            states.append(visit(*arguments))
        return states[0]

    monkeypatch.setattr(distillation, "visit", visit_once)

    def learn(values: Any) -> tuple[tuple[float, Any], tuple[float, Any]]:
        tagger: Any = student.get_pipe("tagger")
        moves = learn_moves(student.get_pipe("parser"), teacher.get_pipe("parser"), docs, values, lengths)
        return moves, learn_tags(tagger, teacher.get_pipe("tagger"), docs, values, weight=1.0)

    softmax = student.get_pipe("tagger").model.get_ref("softmax")  # type: ignore[attr-defined]
    softmax.set_param("W", generator.normal(size=softmax.get_param("W").shape).astype(np.float32))
    for middle, before, behind in zip(
        learn(vectors), learn(vectors - step), learn(vectors + step), strict=True
    ):
        slope = float((middle[1] * step).sum())
        assert behind[0] - before[0] == pytest.approx(2 * slope, rel=0.1, abs=1e-5)


def test_rate_warms_up_and_falls() -> None:
    options = TrainOptions(tagger_steps=10, warmup_steps=10, learn_rate=1.0, tagger_rate=0.5)
    rates = [rate(step, 110, options=options) for step in range(1, 111)]
    assert rates[:10] == [0.5] * 10
    assert rates[10:20] == sorted(rates[10:20])
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert rates[-1] == pytest.approx(0.05)


def test_batches_show_each_text_as_often_as_its_weight() -> None:
    options = TrainOptions(max_epochs=2.0, batch_words=5)
    drawn = list(batches([("a b c", 1), ("d e", 3)], options=options))
    assert sorted(text for batch in drawn for text in batch) == ["a b c"] * 2 + ["d e"] * 6
    assert drawn == list(batches([("a b c", 1), ("d e", 3)], options=options))
    assert all(sum(len(text.split()) for text in batch) >= 5 for batch in drawn[:-1])
