"""The recipe that made the bundled caption parser: `python -m pipeline.caption_parser.train --data DATA --out DIR`.

What it does, in order, the same at every run (seed 0; one thread; the teacher's labels are cached in `--cache`):

1. Reads every caption of `corpus.read_all`: COCO val2017, Flickr8k, Flickr30k (Multi30k's copy), Conceptual Captions
   (8,000 rows of its tsv, the csv of BadCLIP's 10,000), FACTUAL's region descriptions, WordNet 3.0's glosses. Dev and
   test parts are split off by image.
2. Labels them with the teacher `DATA/en_core_web_sm` (tags, heads, ClearNLP labels): dev is scored against the labels,
   and the tags help to write variants of the web captions with other words (`variants.py`). Human captions are also
   rewritten as web text.
3. Builds the student from the teacher (`student.py`): one shared tok2vec, a tagger and a parser that listen to it. Its
   parser starts from the teacher's weights (MIT licence), so that rare words keep what the teacher knows of them,
   without the transitions that captions hardly ever need; its tagger learns from nothing.
4. Trains on a weighted mix (`distillation.py`) until dev gets no better, and keeps the averaged weights that were best.
5. Writes the pipeline with the morphology component (`morphology.py`), whose tables come from WordNet, and the
   commonest words.

The result is committed in `model/`. Needs the real data; nothing else in the project does.
"""

import argparse
import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

import spacy  # noqa: TID251 - the bundled parser's own package
from spacy.language import Language  # noqa: TID251
from thinc.api import NumpyOps, fix_random_seed, set_current_ops

from pipeline.caption_parser import morphology
from pipeline.caption_parser.corpus import SourceCaption, read_all
from pipeline.caption_parser.distillation import TrainingTexts, train
from pipeline.caption_parser.labels import LabelledText, label
from pipeline.caption_parser.student import TrainOptions, build_student
from pipeline.caption_parser.variants import TaggedCaption, as_web_text, collect_words, vary

WEIGHTS: Final = {
    "cc3m_tsv": 8, "cc3m_csv": 8, "cc3m_varied": 1, "web_style": 1,
    "coco": 1, "flickr8k": 1, "flickr30k": 1, "factual": 1, "glosses": 1,
}  # fmt: skip
"""How often an epoch shows each training text."""
NUM_VARIANTS: Final = 10
VARIED_SHARE: Final = 0.4
NUM_WEB_STYLE: Final = 30_000
COMMON_WORDS: Final = "common_words.txt"
NUM_COMMON_WORDS: Final = 8_000
DEV_SIZE: Final = 600
"""Captions per source that choose the weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledCaption:
    """A caption with the teacher's labels."""

    caption: SourceCaption
    labels: LabelledText


def read_labelled(data: Path, *, cache: Path, workers: int) -> list[LabelledCaption]:
    """All captions with the teacher's labels, from the file `cache` where it exists."""
    captions = list(read_all(data))
    texts = [caption.text for caption in captions]
    labelled = label(texts, teacher=data / "en_core_web_sm", cache=cache, workers=workers)
    return [
        LabelledCaption(caption=caption, labels=labels)
        for caption, labels in zip(captions, labelled, strict=True)
        if labels.words
    ]


def training_texts(labelled: Sequence[LabelledCaption], *, seed: int) -> TrainingTexts:
    """What is learnt, captions and variants with their weights, and the dev captions."""
    train = [
        (each.caption.text, WEIGHTS[each.caption.source]) for each in labelled if each.caption.part == "train"
    ]
    train += [(text, WEIGHTS[name]) for name, text in write_variants(labelled, seed=seed)]
    dev: dict[str, list[LabelledText]] = {}
    for each in labelled:
        if each.caption.part == "dev" and len(dev.setdefault(each.caption.source, [])) < DEV_SIZE:
            dev[each.caption.source].append(each.labels)
    return TrainingTexts(train=train, dev=dev)


def write_variants(labelled: Sequence[LabelledCaption], *, seed: int) -> list[tuple[str, str]]:
    """Variants of the training captions as (name in WEIGHTS, text)."""
    tagged = [
        TaggedCaption(
            name=f"{each.caption.source} {each.caption.row}",
            words=each.labels.words,
            spaces=each.labels.spaces,
            tags=each.labels.tags,
        )
        for each in labelled
        if each.caption.part == "train"
    ]
    pools = collect_words(tagged)
    variants = [
        ("cc3m_varied", vary(caption, pools=pools, share=VARIED_SHARE, seed=f"{seed}:{caption.name}:{index}"))
        for caption in tagged
        if caption.name.startswith("cc3m")
        for index in range(NUM_VARIANTS)
    ]
    human = [
        each.caption.text
        for each in labelled
        if each.caption.part == "train" and each.caption.source in ("coco", "flickr30k")
    ]
    chosen = random.Random(f"{seed}:web").sample(human, min(NUM_WEB_STYLE, len(human)))
    return variants + [("web_style", as_web_text(text)) for text in chosen]


def common_words(labelled: Sequence[LabelledCaption]) -> list[str]:
    """The words as written that the training captions have most often; loading the parser reads them ahead."""
    counts: Counter[str] = Counter()
    for each in labelled:
        if each.caption.part == "train":
            for word in each.labels.words:
                counts[word] += WEIGHTS[each.caption.source]
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
    for field in fields(TrainOptions):
        default = getattr(defaults, field.name)
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(default), default=default)
    arguments = parser.parse_args()
    set_current_ops(NumpyOps(use_blis=False))
    options = TrainOptions(**{field.name: getattr(arguments, field.name) for field in fields(TrainOptions)})
    labelled = read_labelled(
        arguments.data, cache=arguments.cache / "captions.spacy", workers=arguments.workers
    )
    texts = training_texts(labelled, seed=options.seed)
    sizes = {source: len(dev) for source, dev in texts.dev.items()}
    print(f"{len(texts.train)} training texts, dev {sizes}", flush=True)
    fix_random_seed(options.seed)
    teacher = spacy.load(arguments.data / "en_core_web_sm")
    learnt = [each.labels for each in labelled if each.caption.part == "train"]
    nlp = build_student(teacher, texts=learnt, options=options)
    best = train(nlp, teacher, texts, options=options)
    record = {
        "teacher": "en_core_web_sm: the parser's weights start from the teacher's",
        "num_texts": len(texts.train),
        "options": asdict(options),
        **best,
    }
    finish(nlp, data=arguments.data, out=arguments.out, record=record, words=common_words(labelled))


if __name__ == "__main__":
    main()
