"""The recipe that made the bundled caption parser: `python -m pipeline.caption_parser.train --data DATA --out DIR`.

What it does, in order, the same at every run (seed 0; one thread; labels and variants are cached in `--cache`):

1. Reads every caption of `corpus.read_all`: COCO val2017, Flickr8k, Flickr30k (Multi30k's copy), Conceptual Captions
   (8,000 rows of its tsv, the csv of BadCLIP's 10,000), FACTUAL's region descriptions, WordNet 3.0's glosses. Dev and
   test parts are split off by image.
2. Labels them with the teacher `DATA/en_core_web_sm` (tags, heads, ClearNLP labels), and with them variants of the web
   captions with other words and of human captions as web text (`variants.py`).
3. Builds the student: one shared tok2vec, a tagger and a parser that listen to it. It starts from the teacher's parser
   (embedding tables and the first convolutions; MIT licence), so that rare words keep what the teacher knows of them,
   then learns to do with fewer layers and with one tok2vec what the teacher does with two.
4. Trains on a weighted mix and keeps the weights (moving average) that are best on dev.
5. Drops the transitions that captions hardly ever need, and writes the pipeline with the morphology component
   (`morphology.py`), whose tables come from WordNet.

The result is committed in `model/`. Needs the real data; nothing else in the project does.
"""

import argparse
import json
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import spacy  # noqa: TID251 - the bundled parser's own package
from spacy.language import Language  # noqa: TID251
from spacy.tokens import Doc  # noqa: TID251
from spacy.training import Example  # noqa: TID251
from thinc.api import Adam, NumpyOps, fix_random_seed, set_current_ops

from pipeline.caption_parser import morphology
from pipeline.caption_parser.corpus import SourceCaption, read_all
from pipeline.caption_parser.embedding_cache import COMMON_WORDS
from pipeline.caption_parser.labels import LabelledText, label
from pipeline.caption_parser.student import TrainOptions, build_student, prune
from pipeline.caption_parser.variants import TaggedCaption, as_web_text, collect_words, vary

WEIGHTS: Final = {
    "cc3m_tsv": 6, "cc3m_csv": 6, "cc3m_varied": 1, "web_style": 1,
    "coco": 1, "flickr8k": 1, "flickr30k": 1, "factual": 1, "glosses": 1,
}  # fmt: skip
"""How often an epoch shows each training text."""
NUM_VARIANTS: Final = 8
VARIED_SHARE: Final = 0.4
NUM_WEB_STYLE: Final = 30_000
NUM_COMMON_WORDS: Final = 8_000
DEV_SIZE: Final = 600
"""Captions per source that choose the weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingTexts:
    """The labelled texts of one training: what is learnt, weighted, and what chooses the weights, by source."""

    train: Sequence[tuple[LabelledText, int]]
    dev: dict[str, list[LabelledText]]


def read_texts(data: Path, *, cache: Path, workers: int, seed: int) -> TrainingTexts:
    """All captions and variants with the teacher's labels, from `cache` where they stand there."""
    teacher = data / "en_core_web_sm"
    captions = list(read_all(data))
    labelled = label(
        [caption.text for caption in captions],
        teacher=teacher,
        cache=cache / "captions.spacy",
        workers=workers,
    )
    pairs = [(caption, text) for caption, text in zip(captions, labelled, strict=True) if text.words]
    variants = write_variants(pairs, seed=seed)
    names, texts = [name for name, _ in variants], [text for _, text in variants]
    more = label(texts, teacher=teacher, cache=cache / "variants.spacy", workers=workers)
    train = [(text, WEIGHTS[caption.source]) for caption, text in pairs if caption.part == "train"]
    train += [(text, WEIGHTS[name]) for name, text in zip(names, more, strict=True) if text.words]
    dev: dict[str, list[LabelledText]] = {}
    for caption, text in pairs:
        if caption.part == "dev" and len(dev.setdefault(caption.source, [])) < DEV_SIZE:
            dev[caption.source].append(text)
    return TrainingTexts(train=train, dev=dev)


def write_variants(
    pairs: Sequence[tuple[SourceCaption, LabelledText]], *, seed: int
) -> list[tuple[str, str]]:
    """Variants of the training captions as (name in WEIGHTS, text)."""
    tagged = [
        TaggedCaption(
            name=f"{caption.source} {caption.row}", words=text.words, spaces=text.spaces, tags=text.tags
        )
        for caption, text in pairs
        if caption.part == "train"
    ]
    pools = collect_words(tagged)
    variants = [
        ("cc3m_varied", vary(caption, pools=pools, share=VARIED_SHARE, seed=f"{seed}:{caption.name}:{index}"))
        for caption in tagged
        if caption.name.startswith("cc3m")
        for index in range(NUM_VARIANTS)
    ]
    human = [
        caption.text
        for caption, _ in pairs
        if caption.part == "train" and caption.source in ("coco", "flickr30k")
    ]
    chosen = random.Random(f"{seed}:web").sample(human, min(NUM_WEB_STYLE, len(human)))
    return variants + [("web_style", as_web_text(text)) for text in chosen]


def batches(texts: TrainingTexts, *, options: TrainOptions) -> Iterator[list[LabelledText]]:
    """The training texts in a seeded order, each as often as its weight, in batches of about `batch_words` words."""
    order = [text for text, weight in texts.train for _ in range(weight)]
    total = round(len(order) * options.epochs)
    drawn: list[LabelledText] = []
    epoch = 0
    while len(drawn) < total:
        random.Random(f"{options.seed}:order:{epoch}").shuffle(order)
        drawn += order[: total - len(drawn)]
        epoch += 1
    batch: list[LabelledText] = []
    num_words = 0
    for text in drawn:
        batch.append(text)
        num_words += len(text.words)
        if num_words >= options.batch_words:
            yield batch
            batch, num_words = [], 0
    if batch:
        yield batch


def to_examples(nlp: Language, texts: Sequence[LabelledText]) -> list[Example]:
    """Training examples: the words alone beside the labelled document."""
    return [
        Example(Doc(nlp.vocab, words=list(text.words), spaces=list(text.spaces)), text.to_doc(nlp.vocab))
        for text in texts
    ]


def agreement(nlp: Language, texts: Sequence[LabelledText]) -> dict[str, float]:
    """Shares of tokens with the teacher's tag, head, and head and label; every token counts, punctuation too."""
    tokens = tags = heads = labelled = 0
    docs = [Doc(nlp.vocab, words=list(text.words), spaces=list(text.spaces)) for text in texts]
    for doc, text in zip(nlp.pipe(docs, batch_size=256), texts, strict=True):
        for token, tag, head, dep in zip(doc, text.tags, text.heads, text.deps, strict=True):
            tokens += 1
            tags += token.tag_ == tag
            heads += token.head.i == head
            labelled += token.head.i == head and token.dep_ == dep
    return {"tag": tags / tokens, "uas": heads / tokens, "las": labelled / tokens}


def train(nlp: Language, texts: TrainingTexts, *, options: TrainOptions) -> dict[str, Any]:
    """Train the student in place; it ends with the averaged weights that were best on dev. Returns the scores."""
    fix_random_seed(options.seed)
    schedule = list(batches(texts, options=options))
    optimizer = Adam(
        learn_rate=options.learn_rate, L2=0.01, L2_is_weight_decay=True, grad_clip=1.0, use_averages=True
    )
    evaluate_at = {
        round((index + 1) * len(schedule) / options.num_evaluations)
        for index in range(options.num_evaluations)
    }
    best: dict[str, Any] = {"score": -1.0}
    best_bytes = b""
    started = time.monotonic()
    for step, batch in enumerate(schedule, start=1):
        optimizer.learn_rate = rate(step, len(schedule), options=options)
        losses: dict[str, float] = {}
        frozen = ("tok2vec", "parser") if step <= options.tagger_steps and options.teacher_weights else ()
        nlp.update(
            to_examples(nlp, batch), sgd=optimizer, drop=options.dropout, losses=losses,
            exclude=frozen, annotates=frozen[:1],
        )  # fmt: skip
        if step not in evaluate_at:
            continue
        with nlp.use_params(optimizer.averages):
            scores = {source: agreement(nlp, dev) for source, dev in texts.dev.items()}
            score = sum(part["las"] for part in scores.values()) / len(scores)
            seconds = round(time.monotonic() - started)
            print(json.dumps({"step": step, "of": len(schedule), "seconds": seconds, "las": {
                source: round(part["las"], 4) for source, part in scores.items()
            }}), flush=True)  # fmt: skip
            if score > best["score"]:
                best = {"score": score, "step": step, "dev": scores}
                best_bytes = nlp.to_bytes()
    nlp.from_bytes(best_bytes)
    return best


def rate(step: int, num_steps: int, *, options: TrainOptions) -> float:
    """Linear warm-up, then linear decay to a twentieth."""
    if step <= options.tagger_steps and options.teacher_weights:
        return 3 * options.learn_rate
    step -= options.tagger_steps if options.teacher_weights else 0
    num_steps -= options.tagger_steps if options.teacher_weights else 0
    if step < options.warmup_steps:
        return options.learn_rate * step / options.warmup_steps
    left = (num_steps - step) / max(1, num_steps - options.warmup_steps)
    return options.learn_rate * (0.05 + 0.95 * left)


def common_words(texts: TrainingTexts) -> list[str]:
    """The words as written that the training captions have most often; loading the parser reads them ahead."""
    counts = Counter(word for text, weight in texts.train for word in text.words for _ in range(weight))
    ranked = sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    return [word for word, _ in ranked if word.isalnum()][:NUM_COMMON_WORDS]


def finish(nlp: Language, *, data: Path, out: Path, record: dict[str, Any], words: Sequence[str]) -> None:
    """Add the morphology component and write the pipeline with its training record to `out`."""
    component: Any = nlp.add_pipe(morphology.FACTORY)
    component.build(data / "wordnet30" / "nltk_data.tar.xz")
    nlp.meta.update({
        "name": "caption_parser", "version": "1.0.0", "license": "Apache-2.0, parts MIT (en_core_web_sm)",
        "description": "Tagger and dependency parser (ClearNLP labels) for image captions",
        "training": record,
    })  # fmt: skip
    nlp.to_disk(out)
    (out / COMMON_WORDS).write_text(" ".join(words) + "\n", "utf-8")
    licence = (data / "en_core_web_sm" / "LICENSE").read_text("utf-8")
    (out / "LICENSE_en_core_web_sm").write_text(licence, "utf-8")  # part of the weights is the teacher's
    # The training text's own words would be most of the string table; the labels alone are needed to load.
    labels = {label for name in nlp.pipe_names for label in getattr(nlp.get_pipe(name), "labels", ())}
    (out / "vocab" / "strings.json").write_text(json.dumps(sorted(labels), indent=0), "utf-8")


def main() -> None:
    """Run the recipe."""
    parser = argparse.ArgumentParser(description="Train the bundled caption parser.")
    parser.add_argument("--data", type=Path, required=True, help="the folder of the real data sets")
    parser.add_argument("--out", type=Path, required=True, help="where the pipeline is written")
    parser.add_argument(
        "--cache", type=Path, default=Path("build/caption_parser"), help="the teacher's labels"
    )
    parser.add_argument("--workers", type=int, default=2, help="processes that label")
    defaults = TrainOptions()
    for name in ("seed", "depth", "width", "batch_words"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(defaults, name))
    for name in ("epochs", "learn_rate", "dropout"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=getattr(defaults, name))
    parser.add_argument("--from-scratch", action="store_true", help="do not start from the teacher's weights")
    arguments = parser.parse_args()
    set_current_ops(NumpyOps(use_blis=False))
    options = TrainOptions(
        seed=arguments.seed, depth=arguments.depth, width=arguments.width, batch_words=arguments.batch_words,
        epochs=arguments.epochs, learn_rate=arguments.learn_rate, dropout=arguments.dropout,
        teacher_weights=not arguments.from_scratch,
    )  # fmt: skip
    texts = read_texts(arguments.data, cache=arguments.cache, workers=arguments.workers, seed=options.seed)
    print(
        f"{len(texts.train)} training texts, dev { ({k: len(v) for k, v in texts.dev.items()}) }", flush=True
    )
    fix_random_seed(options.seed)
    teacher = spacy.load(arguments.data / "en_core_web_sm")
    nlp = build_student(teacher, options)
    best = train(nlp, texts, options=options)
    nlp = prune(nlp, teacher, texts=[text for text, _ in texts.train], options=options)
    best["pruned"] = {source: agreement(nlp, dev) for source, dev in texts.dev.items()}
    finish(
        nlp,
        data=arguments.data,
        out=arguments.out,
        record={"options": asdict(options), **best},
        words=common_words(texts),
    )


if __name__ == "__main__":
    main()
