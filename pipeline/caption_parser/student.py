"""The untrained parser, made from the teacher, and the trained one without the outputs it does not need.

Used by the recipe (`train.py`) alone.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import spacy  # noqa: TID251 - the bundled parser's own package
from spacy.language import Language  # noqa: TID251
from spacy.tokens import Doc  # noqa: TID251
from spacy.training import Example  # noqa: TID251

from pipeline.caption_parser.labels import LabelledText


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """What steers one training."""

    seed: int = 0
    width: int = 96
    """Of the token vectors; the teacher's own, whose tables are copied."""
    depth: int = 4
    """Convolutions kept of the teacher's four."""
    epochs: float = 1.0
    batch_words: int = 1_500
    learn_rate: float = 5e-4
    warmup_steps: int = 200
    tagger_steps: int = 200
    """Steps at first in which only the tagger learns: its random weights would else undo what is copied."""
    dropout: float = 0.0
    num_evaluations: int = 12
    """Evaluations on dev, evenly over the training; the best weights are kept."""
    min_label_share: float = 1e-4
    """Transitions that fewer of the training tokens take are dropped at the end."""
    teacher_weights: bool = True
    """Start from the teacher's parser; False starts from random weights."""

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        if not 1 <= self.depth <= 4:
            raise ValueError(f"depth is {self.depth}: 1 to 4 convolutions")


def build_student(
    teacher: Language, options: TrainOptions, *, parser_labels: dict[Any, dict[str, int]] | None = None
) -> Language:
    """An untrained pipeline with the teacher's tokenizer and labels; its parser starts from the teacher's weights.

    With `parser_labels` the parser has these transitions alone, and its weights are left for `prune` to fill.
    """
    nlp = spacy.blank("en")
    tokenizer: Any = nlp.tokenizer
    teacher_tokenizer: Any = teacher.tokenizer
    tokenizer.from_bytes(teacher_tokenizer.to_bytes())
    nlp.vocab.lookups.set_table("lexeme_norm", teacher.vocab.lookups.get_table("lexeme_norm"))
    nlp.add_pipe("tok2vec", config={"model": {
        "@architectures": "spacy.HashEmbedCNN.v2", "width": options.width, "depth": options.depth,
        "embed_size": 2000, "window_size": 1, "maxout_pieces": 3, "subword_features": True,
        "pretrained_vectors": None,
    }})  # fmt: skip
    listener = {
        "@architectures": "spacy.Tok2VecListener.v1",
        "width": options.width,
        "upstream": "tok2vec",
    }
    nlp.add_pipe("tagger", config={"model": {
        "@architectures": "spacy.Tagger.v2", "nO": None, "normalize": False, "tok2vec": listener,
    }})  # fmt: skip
    nlp.add_pipe("parser", config={"model": {
        "@architectures": "spacy.TransitionBasedParser.v2", "state_type": "parser", "extra_state_tokens": False,
        "hidden_width": options.width, "maxout_pieces": 2, "use_upper": True, "nO": None, "tok2vec": listener,
    }})  # fmt: skip
    example = Doc(nlp.vocab, words=["A", "dog"], tags=["DT", "NN"], heads=[1, 1], deps=["det", "ROOT"])
    examples = [Example(Doc(nlp.vocab, words=["A", "dog"]), example)]
    nlp.get_pipe("tok2vec").initialize(lambda: examples, nlp=nlp)  # type: ignore[attr-defined]
    for name in ("tagger", "parser"):
        labels = teacher.get_pipe(name).label_data  # type: ignore[attr-defined]
        if name == "parser" and parser_labels is not None:
            labels = parser_labels
        nlp.get_pipe(name).initialize(lambda: examples, nlp=nlp, labels=labels)  # type: ignore[attr-defined]
    nlp.vocab.lex_attr_getters[spacy.attrs.NORM] = spacy.util.add_lookups(  # type: ignore[attr-defined]
        nlp.vocab.lex_attr_getters[spacy.attrs.NORM],  # type: ignore[attr-defined]
        nlp.vocab.lookups.get_table("lexeme_norm"),
    )
    if options.teacher_weights and parser_labels is None:
        copy_teacher(teacher, nlp)
    return nlp


def prune(
    nlp: Language, teacher: Language, *, texts: Sequence[LabelledText], options: TrainOptions
) -> Language:
    """The trained pipeline without the transitions that captions hardly ever need: half of the parser's outputs.

    Scoring the outputs is most of the parser's own time. A transition goes where fewer than `min_label_share` of the
    training tokens take it; the weights of the others are copied, so that nothing else changes.
    """
    parser: Any = nlp.get_pipe("parser")
    counts = Counter(
        ("L" if head > index else "R") + f"-{label}"
        for text in texts
        for index, (head, label) in enumerate(zip(text.heads, text.deps, strict=True))
        if head != index
    )
    least = options.min_label_share * sum(counts.values())
    names = iter(parser.move_names)
    kept: dict[Any, dict[str, int]] = {}
    for action, labels in parser.label_data.items():
        named = [(label, next(names)) for label in sorted(labels, key=lambda each: -labels[each])]
        kept[action] = {
            label: labels[label]
            for label, name in named
            if name[1:2] != "-" or name == "B-ROOT" or counts[name] >= least
        }
    small = build_student(teacher, options, parser_labels=kept)
    for name in ("tok2vec", "tagger"):
        source: Any = nlp.get_pipe(name)
        target: Any = small.get_pipe(name)
        for from_node, to_node in zip(
            parameter_nodes(source.model), parameter_nodes(target.model), strict=True
        ):
            copy_parameters(from_node, to_node)
    pruned: Any = small.get_pipe("parser")
    copy_parameters(parser.model.get_ref("tok2vec").layers[-1], pruned.model.get_ref("tok2vec").layers[-1])
    copy_parameters(parser.model.get_ref("lower"), pruned.model.get_ref("lower"))
    rows = [parser.move_names.index(name) for name in pruned.move_names]
    for name in ("W", "b"):
        pruned.model.get_ref("upper").set_param(
            name, parser.model.get_ref("upper").get_param(name)[rows].copy()
        )
    return small


def copy_teacher(teacher: Language, student: Language) -> None:
    """Copy the teacher's parser into the student: its tok2vec as deep as the student's, and its two layers above.

    Raises AssertionError where the two have different transitions: their output layers would not match.
    """
    source: Any = teacher.get_pipe("parser")
    target: Any = student.get_pipe("parser")
    assert source.move_names == target.move_names
    shared: Any = student.get_pipe("tok2vec")
    source_nodes = parameter_nodes(source.model.get_ref("tok2vec").layers[0])
    for from_node, to_node in zip(source_nodes, parameter_nodes(shared.model), strict=False):
        copy_parameters(from_node, to_node)
    copy_parameters(source.model.get_ref("tok2vec").layers[-1], target.model.get_ref("tok2vec").layers[-1])
    copy_parameters(source.model.get_ref("lower"), target.model.get_ref("lower"))
    copy_parameters(source.model.get_ref("upper"), target.model.get_ref("upper"))


def parameter_nodes(model: Any) -> list[Any]:
    """The nodes of a thinc model that hold weights, in the order of the data's way through them."""
    return [node for node in model.walk(order="dfs_pre") if node.param_names]


def copy_parameters(source: Any, target: Any) -> None:
    """Copy one node's weights, and a hash table's seed; AssertionError where the shapes differ."""
    if "seed" in source.attrs:
        target.attrs["seed"] = source.attrs["seed"]
    for name in source.param_names:
        assert source.get_param(name).shape == target.get_param(name).shape, (source.name, name)
        target.set_param(name, source.get_param(name).copy())
