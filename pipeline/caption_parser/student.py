"""The parser before its training: the teacher's, cut to the size that the options say.

Used by the recipe (`train.py`) alone; `distillation.py` trains it.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import spacy  # noqa: TID251 - the bundled parser's own package
from spacy.language import Language  # noqa: TID251
from spacy.tokens import Doc  # noqa: TID251
from spacy.training import Example  # noqa: TID251

from pipeline.caption_parser.labels import LabelledText

WIDTH: Final = 96
"""Of the token vectors; the teacher's own, whose tables are copied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """What steers one training."""

    seed: int = 0
    depth: int = 4
    """Convolutions kept of the teacher's four."""
    hidden: int = 96
    """Units kept of the teacher's 96 in the parser's hidden layer, and of the token vectors it reads."""
    min_label_share: float = 1e-4
    """Transitions that fewer of the training tokens take are left out."""
    max_epochs: float = 0.8
    """Passes over the weighted training texts, if training is not stopped earlier."""
    batch_words: int = 1_500
    learn_rate: float = 6e-4
    warmup_steps: int = 100
    tagger_steps: int = 300
    """Steps at first in which only the tagger learns: its zero weights would else undo what is copied."""
    tagger_rate: float = 2e-3
    tag_weight: float = 0.15
    """Of the tagger's loss against the parser's."""
    evaluate_every: int = 300
    """Steps between two evaluations on dev."""
    patience: int = 6
    """Evaluations without a better score after which training stops."""

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        if not 1 <= self.depth <= 4:
            raise ValueError(f"depth is {self.depth}: 1 to 4 convolutions")
        if not 8 <= self.hidden <= 96:
            raise ValueError(f"hidden is {self.hidden}: 8 to 96 units")


def build_student(teacher: Language, *, texts: Sequence[LabelledText], options: TrainOptions) -> Language:
    """A pipeline with one shared tok2vec, whose parser starts as the teacher's, cut to the options' size.

    Its transitions are those that at least `min_label_share` of the words of `texts` take. Its tagger is untrained.
    """
    nlp = spacy.blank("en")
    tokenizer: Any = nlp.tokenizer
    teacher_tokenizer: Any = teacher.tokenizer
    tokenizer.from_bytes(teacher_tokenizer.to_bytes())
    nlp.vocab.lookups.set_table("lexeme_norm", teacher.vocab.lookups.get_table("lexeme_norm"))
    nlp.add_pipe("tok2vec", config={"model": {
        "@architectures": "spacy.HashEmbedCNN.v2", "width": WIDTH, "depth": options.depth,
        "embed_size": 2000, "window_size": 1, "maxout_pieces": 3, "subword_features": True,
        "pretrained_vectors": None,
    }})  # fmt: skip
    listener = {"@architectures": "spacy.Tok2VecListener.v1", "width": WIDTH, "upstream": "tok2vec"}
    nlp.add_pipe("tagger", config={"model": {
        "@architectures": "spacy.Tagger.v2", "nO": None, "normalize": False, "tok2vec": listener,
    }})  # fmt: skip
    nlp.add_pipe("parser", config={"model": {
        "@architectures": "spacy.TransitionBasedParser.v2", "state_type": "parser", "extra_state_tokens": False,
        "hidden_width": options.hidden, "maxout_pieces": 2, "use_upper": True, "nO": None, "tok2vec": listener,
    }})  # fmt: skip
    labels = {
        "tagger": teacher.get_pipe("tagger").label_data,  # type: ignore[attr-defined]
        "parser": frequent_moves(teacher.get_pipe("parser"), texts, least_share=options.min_label_share),
    }
    example = Doc(nlp.vocab, words=["A", "dog"], tags=["DT", "NN"], heads=[1, 1], deps=["det", "ROOT"])
    examples = [Example(Doc(nlp.vocab, words=["A", "dog"]), example)]
    nlp.get_pipe("tok2vec").initialize(lambda: examples, nlp=nlp)  # type: ignore[attr-defined]
    for name in ("tagger", "parser"):
        nlp.get_pipe(name).initialize(lambda: examples, nlp=nlp, labels=labels[name])  # type: ignore[attr-defined]
    nlp.vocab.lex_attr_getters[spacy.attrs.NORM] = spacy.util.add_lookups(  # type: ignore[attr-defined]
        nlp.vocab.lex_attr_getters[spacy.attrs.NORM],  # type: ignore[attr-defined]
        nlp.vocab.lookups.get_table("lexeme_norm"),
    )
    copy_teacher(teacher, nlp, hidden=options.hidden)
    return nlp


def frequent_moves(
    parser: Any, texts: Sequence[LabelledText], *, least_share: float
) -> dict[Any, dict[str, int]]:
    """The parser's label data without the labels of transitions that captions hardly ever need: half of its outputs.

    Scoring the outputs is much of the parser's own time. What is no arc stays.
    """
    counts = Counter(
        ("L" if head > index else "R") + f"-{label}"
        for text in texts
        for index, (head, label) in enumerate(zip(text.heads, text.deps, strict=True))
        if head != index
    )
    least = least_share * sum(counts.values())
    names = iter(parser.move_names)
    kept: dict[Any, dict[str, int]] = {}
    for action, labels in parser.label_data.items():
        named = [(label, next(names)) for label in sorted(labels, key=lambda each: -labels[each])]
        kept[action] = {
            label: labels[label]
            for label, name in named
            if name[1:2] != "-" or name == "B-ROOT" or counts[name] >= least
        }
    return kept


def copy_teacher(teacher: Language, student: Language, *, hidden: int) -> None:
    """Copy the teacher's parser into the student: its tok2vec as deep as the student's, and its layers above.

    A hidden layer of fewer units keeps those that weigh most; the vectors it reads keep their main directions, as
    seen by its weights (singular value decomposition).
    """
    source: Any = teacher.get_pipe("parser")
    target: Any = student.get_pipe("parser")
    shared: Any = student.get_pipe("tok2vec")
    source_nodes = parameter_nodes(source.model.get_ref("tok2vec").layers[0])
    for from_node, to_node in zip(source_nodes, parameter_nodes(shared.model), strict=False):
        copy_parameters(from_node, to_node)
    linear, lower, upper = parser_layers(source)
    linear_weights, linear_bias = linear.get_param("W"), linear.get_param("b")
    weights, outputs = lower.get_param("W"), upper.get_param("W")
    units = np.arange(len(weights[0]))
    if hidden < len(units):
        importance = np.linalg.norm(outputs, axis=0) * np.sqrt((weights**2).sum(axis=(0, 2, 3)))
        units = np.sort(np.argsort(-importance, kind="stable")[:hidden])
        weights = weights[:, units]
        directions = np.linalg.svd(weights.reshape(-1, weights.shape[3]), full_matrices=False)[2][:hidden]
        weights = np.ascontiguousarray(weights @ directions.T)
        linear_weights, linear_bias = directions @ linear_weights, directions @ linear_bias
    rows = [source.move_names.index(name) for name in target.move_names]
    values = (
        {"W": linear_weights, "b": linear_bias},
        {"W": weights, "b": lower.get_param("b")[units], "pad": lower.get_param("pad")[:, :, units]},
        {"W": outputs[rows][:, units], "b": upper.get_param("b")[rows]},
    )
    for layer, parameters in zip(parser_layers(target), values, strict=True):
        for name, value in parameters.items():
            assert layer.get_param(name).shape == value.shape, (layer.name, name)
            layer.set_param(name, np.array(value, dtype=np.float32, order="C"))


def parser_layers(parser: Any) -> tuple[Any, Any, Any]:
    """What stands between the token vectors and the scores of a parser's moves: linear, lower and upper layer."""
    return (
        parser.model.get_ref("tok2vec").layers[-1],
        parser.model.get_ref("lower"),
        parser.model.get_ref("upper"),
    )


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
