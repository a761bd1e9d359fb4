"""The training itself: the student learns to score the teacher's moves and tags, by gradient descent.

Hard labels make the student learn another way to the same tree: spaCy's oracle takes other transitions than the
teacher does, so that a student that starts as the teacher's equal falls to 95 % agreement within a hundred steps and
stays at 96. So the student is shown no labels. It parses the texts itself; in every state that it comes to, also by
its own mistakes, it learns the teacher's scores of the allowed moves (Hinton et al. 2015, "Distilling the knowledge in
a neural network"; Ross et al. 2011, on imitation in the states the learner itself comes to). The tagger learns the
teacher's tag distribution, and shares its token vectors with the parser.

Used by the recipe (`train.py`) alone.
"""

import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from spacy.language import Language  # noqa: TID251 - the bundled parser's own package
from spacy.tokens import Doc  # noqa: TID251
from thinc.api import Adam

from pipeline.caption_parser.labels import LabelledText
from pipeline.caption_parser.student import TrainOptions, parser_layers
from pipeline.caption_parser.transitions import NUM_FEATURES, Transitions, parse_block

Floats = NDArray[np.float32]
Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingTexts:
    """The texts of one training: what is learnt, with weights, and what chooses the weights kept, by source."""

    train: Sequence[tuple[str, int]]
    dev: dict[str, list[LabelledText]]


@dataclass(frozen=True, slots=True, kw_only=True)
class States:
    """The states that one batch of texts went through: words as numbers from 1, 0 for none, and allowed moves."""

    words: Numbers
    """(states, NUM_FEATURES)."""
    refused: Floats
    """(states, classes): -inf for a move that is not allowed, else 0."""


def train(nlp: Language, teacher: Language, texts: TrainingTexts, *, options: TrainOptions) -> dict[str, Any]:
    """Train the student in place; it ends with the averaged weights that were best on dev. Returns the scores.

    Stops when `patience` evaluations in a row gave nothing better, or after `max_epochs`.
    """
    optimizer = Adam(learn_rate=options.learn_rate, L2=0.0, grad_clip=1.0, use_averages=True)
    schedule = list(batches(texts.train, options=options))
    best: dict[str, Any] = {"score": -1.0}
    best_bytes = b""
    losses = []
    started = time.monotonic()
    for step, batch in enumerate(schedule, start=1):
        optimizer.learn_rate = rate(step, len(schedule), options=options)
        docs = [doc for doc in map(nlp.make_doc, batch) if len(doc)]
        losses.append(
            update(nlp, teacher, docs, optimizer, options=options, only_tagger=step <= options.tagger_steps)
        )
        if step % options.evaluate_every and step != len(schedule):
            continue
        with nlp.use_params(optimizer.averages):
            scores = {source: agreement(nlp, dev) for source, dev in texts.dev.items()}
            score = sum(part["all"] for part in scores.values()) / len(scores)
            loss = [round(float(each), 5) for each in np.mean(losses, axis=0)]
            seconds = round(time.monotonic() - started)
            print(json.dumps({
                "step": step, "of": len(schedule), "seconds": seconds, "loss": loss, "score": round(score, 5),
                "las": {source: round(part["las"], 4) for source, part in scores.items()},
                "tag": {source: round(part["tag"], 4) for source, part in scores.items()},
            }), flush=True)  # fmt: skip
            losses = []
            if score > best["score"]:
                best = {"score": score, "step": step, "dev": scores}
                best_bytes = nlp.to_bytes()
            elif step - best["step"] >= options.patience * options.evaluate_every:
                break
    best["stopped_at"] = step
    nlp.from_bytes(best_bytes)
    return best


def batches(texts: Sequence[tuple[str, int]], *, options: TrainOptions) -> Iterator[list[str]]:
    """The texts in a seeded order, each as often as its weight, in batches of about `batch_words` words."""
    order = [text for text, weight in texts for _ in range(weight)]
    total = round(len(order) * options.max_epochs)
    drawn: list[str] = []
    epoch = 0
    while len(drawn) < total:
        random.Random(f"{options.seed}:order:{epoch}").shuffle(order)
        drawn += order[: total - len(drawn)]
        epoch += 1
    batch: list[str] = []
    num_words = 0
    for text in drawn:
        batch.append(text)
        num_words += len(text.split())
        if num_words >= options.batch_words:
            yield batch
            batch, num_words = [], 0
    if batch:
        yield batch


def rate(step: int, num_steps: int, *, options: TrainOptions) -> float:
    """The tagger's own rate at first; then a linear warm-up, and half a cosine down to a twentieth."""
    if step <= options.tagger_steps:
        return options.tagger_rate
    step -= options.tagger_steps
    num_steps = max(1, num_steps - options.tagger_steps)
    if step < options.warmup_steps:
        return options.learn_rate * step / options.warmup_steps
    return options.learn_rate * (
        0.05 + 0.95 * (0.5 + 0.5 * float(np.cos(np.pi * min(1.0, step / num_steps))))
    )


# ---------------------------------------------------------------- one step
def update(
    nlp: Language,
    teacher: Language,
    docs: Sequence[Doc],
    optimizer: Adam,
    *,
    options: TrainOptions,
    only_tagger: bool,
) -> tuple[float, float]:
    """One step of gradient descent; the losses (divergence from the teacher) per state and per word."""
    tok2vec: Any = nlp.get_pipe("tok2vec")
    tagger: Any = nlp.get_pipe("tagger")
    parser: Any = nlp.get_pipe("parser")
    lengths = np.array([len(doc) for doc in docs])
    parts, backprop = tok2vec.model.begin_update(list(docs))
    vectors = np.concatenate(parts)
    tag_loss, d_vectors = learn_tags(
        tagger, teacher.get_pipe("tagger"), docs, vectors, weight=options.tag_weight
    )
    move_loss = 0.0
    if not only_tagger:
        move_loss, d_moves = learn_moves(parser, teacher.get_pipe("parser"), docs, vectors, lengths)
        backprop(np.split(d_vectors + d_moves, np.cumsum(lengths)[:-1]))
        tok2vec.model.finish_update(optimizer)
        for layer in parser_layers(parser):
            layer.finish_update(optimizer)
    tagger.model.get_ref("softmax").finish_update(optimizer)
    return move_loss, tag_loss


def learn_tags(
    tagger: Any, teacher: Any, docs: Sequence[Doc], vectors: Floats, *, weight: float
) -> tuple[float, Floats]:
    """Loss of the tags and its gradient to the token vectors; the tagger's own gradients are kept in its layer."""
    target = softmax(np.concatenate(teacher.model.predict(list(docs))))
    layer = tagger.model.get_ref("softmax")
    scores = vectors @ layer.get_param("W").T + layer.get_param("b")
    loss, d_scores = divergence(scores, target)
    d_scores *= np.float32(weight)
    layer.inc_grad("W", d_scores.T @ vectors)
    layer.inc_grad("b", d_scores.sum(axis=0))
    return loss, d_scores @ layer.get_param("W")


def learn_moves(
    parser: Any, teacher: Any, docs: Sequence[Doc], vectors: Floats, lengths: Numbers
) -> tuple[float, Floats]:
    """Loss of the moves in the states the student comes to, and its gradient to the token vectors."""
    linear, lower, upper = parser_layers(parser)
    inputs = vectors @ linear.get_param("W").T + linear.get_param("b")
    table = feature_table(lower, inputs)
    states = visit(parser, table, lengths)
    rows = [teacher.move_names.index(name) for name in parser.move_names]
    teacher_linear_output = teacher.model.get_ref("tok2vec").predict(list(docs))
    teacher_lower, teacher_upper = teacher.model.get_ref("lower"), teacher.model.get_ref("upper")
    teacher_sums = add_features(feature_table(teacher_lower, teacher_linear_output), states.words)
    teacher_hidden = (teacher_sums + teacher_lower.get_param("b")).max(axis=2)
    teacher_scores = (
        teacher_hidden @ teacher_upper.get_param("W")[rows].T + teacher_upper.get_param("b")[rows]
    )

    sums = add_features(table, states.words) + lower.get_param("b")
    hidden = sums.max(axis=2)
    scores = hidden @ upper.get_param("W").T + upper.get_param("b")
    loss, d_scores = divergence(scores + states.refused, softmax(teacher_scores + states.refused))

    upper.inc_grad("W", d_scores.T @ hidden)
    upper.inc_grad("b", d_scores.sum(axis=0))
    d_hidden = d_scores @ upper.get_param("W")
    d_sums = np.where(sums == hidden[:, :, None], d_hidden[:, :, None], np.float32(0))
    lower.inc_grad("b", d_sums.sum(axis=0))
    d_table = np.zeros_like(table)
    flat = np.ascontiguousarray(d_sums.reshape(len(d_sums), -1))
    for place in range(NUM_FEATURES):
        part = np.zeros((len(table), flat.shape[1]), dtype=np.float32)
        lower.ops.scatter_add(part, states.words[:, place].astype(np.int32), flat)
        d_table[:, place] = part.reshape(d_table[:, place].shape)
    lower.inc_grad("pad", d_table[:1])
    d_words = d_table[1:].reshape(len(inputs), -1)
    lower.inc_grad("W", (d_words.T @ inputs).reshape(lower.get_param("W").shape))
    d_inputs = d_words @ lower.get_param("W").reshape(d_words.shape[1], -1)
    linear.inc_grad("W", d_inputs.T @ vectors)
    linear.inc_grad("b", d_inputs.sum(axis=0))
    return loss, d_inputs @ linear.get_param("W")


def feature_table(lower: Any, inputs: Floats) -> Floats:
    """What each word adds to the hidden sums in each place, (words + 1, places, units, pieces); row 0 is no word."""
    weights, pad = lower.get_param("W"), lower.get_param("pad")
    table = np.empty((len(inputs) + 1, *weights.shape[:3]), dtype=np.float32)
    table[0] = pad[0]
    table[1:] = (inputs @ weights.reshape(-1, weights.shape[3]).T).reshape(-1, *weights.shape[:3])
    return table


def add_features(table: Floats, words: Numbers) -> Floats:
    """The hidden sums of states, (states, units, pieces), without bias."""
    sums: Floats = table[words[:, 0], 0]
    for place in range(1, NUM_FEATURES):
        sums += table[words[:, place], place]
    return sums


def visit(parser: Any, table: Floats, lengths: Numbers) -> States:
    """The states that the student's own moves lead through."""
    _, lower, upper = parser_layers(parser)
    pieces = table.shape[3]
    transitions = Transitions.from_weights(
        parser.move_names, bias=np.ascontiguousarray(lower.get_param("b").T).ravel(), pieces=pieces,
        upper=np.ascontiguousarray(upper.get_param("W").T), upper_bias=upper.get_param("b"),
    )  # fmt: skip
    words: list[Numbers] = []
    refused: list[Floats] = []

    def observe(step_words: Numbers, allowed: Numbers) -> None:
        words.append(step_words)
        refused.append(transitions.refused[allowed])

    swapped = np.ascontiguousarray(table.transpose(0, 1, 3, 2)).reshape(len(table) * NUM_FEATURES, -1)
    parse_block(swapped, lengths, transitions, observe=observe)
    return States(words=np.concatenate(words), refused=np.concatenate(refused))


def softmax(scores: Floats) -> Floats:
    """Row by row."""
    raised: Floats = np.exp(scores - scores.max(axis=1, keepdims=True))
    raised /= raised.sum(axis=1, keepdims=True)
    return raised


def divergence(scores: Floats, target: Floats) -> tuple[float, Floats]:
    """Mean Kullback-Leibler divergence of the softmax of scores from the target, and its gradient to the scores."""
    found = softmax(scores)
    top = scores.max(axis=1, keepdims=True)
    log_found = scores - top - np.log(np.exp(scores - top).sum(axis=1, keepdims=True))
    log_target = np.log(target, where=target > 0, out=np.zeros_like(target))
    losses = target * np.where(target > 0, log_target - log_found, np.float32(0))
    return float(losses.sum() / len(scores)), (found - target) / np.float32(len(scores))


def agreement(nlp: Language, texts: Sequence[LabelledText]) -> dict[str, float]:
    """Shares of words with the teacher's tag, head, head and label, and all three; punctuation counts, too."""
    counts = np.zeros(4)
    tokens = 0
    docs = [Doc(nlp.vocab, words=list(text.words), spaces=list(text.spaces)) for text in texts]
    for doc, text in zip(nlp.pipe(docs, batch_size=256), texts, strict=True):
        tokens += len(doc)
        for token, tag, head, label in zip(doc, text.tags, text.heads, text.deps, strict=True):
            same_tag, same_head = token.tag_ == tag, token.head.i == head
            same_arc = same_head and token.dep_ == label
            counts += (same_tag, same_head, same_arc, same_tag and same_arc)
    return dict(zip(("tag", "uas", "las", "all"), (counts / max(1, tokens)).tolist(), strict=True))
