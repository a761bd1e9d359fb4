"""The bundled parser against its teacher: speed, agreement, memory, size.

    python -m benchmarks.caption_parser --data ../shared/data --teacher ../shared/data/en_core_web_sm

Speeds are CPU time of one process on one thread, the systems in turn in every round, and the best round of each, so
that the ratios hold on a busy machine too. en_core_web_sm runs as `spacy.load` gives it; a row of its own shows it with
the faster matrix product that CaptionParser gives every pipeline. Captions were never trained on: the `test` parts of
`corpus.py`.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import spacy  # noqa: TID251 - the teacher as its users run it

from benchmarks.graph_scores import Score, score, triples
from pipeline.caption_parser.corpus import SourceCaption, read_all
from pipeline.scene_graphs.building import build_graph
from pipeline.scene_graphs.identity import BUNDLED, BUNDLED_FOLDER
from pipeline.scene_graphs.parser import CaptionParser, to_tree
from pipeline.scene_graphs.reference_rules import load_reference

NUM_SPEED_CAPTIONS = 1_200
NUM_ONE_AT_A_TIME = 300
NUM_AGREEMENT_CAPTIONS = 2_000
OURS = "bundled parser, default rules"
SOURCES = {"coco": ("coco",), "flickr": ("flickr8k", "flickr30k"), "cc3m": ("cc3m_tsv", "cc3m_csv")}


def measure_speed(
    captions: Sequence[str],
    teacher: str,
    *,
    parser: str,
    num_rounds: int,
    num_one_at_a_time: int = NUM_ONE_AT_A_TIME,
) -> dict[str, float]:
    """Seconds of CPU per caption, the best round of each system."""
    bundled = CaptionParser(parser)
    nlp = spacy.load(teacher)
    reference = load_reference()
    reference.nlp = nlp
    ours = CaptionParser(teacher)

    def one_at_a_time() -> None:
        for caption in captions[:num_one_at_a_time]:
            reference.parse(caption)

    def teacher_with_rules() -> None:
        for doc in nlp.pipe(captions):
            build_graph(to_tree(doc))

    systems: dict[str, tuple[Callable[[], object], int]] = {
        OURS: (lambda: list(bundled.parse(captions)), len(captions)),
        "en_core_web_sm by nlp.pipe, default rules": (teacher_with_rules, len(captions)),
        "en_core_web_sm by nlp.pipe, no rules": (lambda: list(nlp.pipe(captions)), len(captions)),
        "en_core_web_sm loaded by CaptionParser (numpy's product)": (
            lambda: list(ours.parse(captions)),
            len(captions),
        ),
        "SceneGraphParser one at a time": (one_at_a_time, min(num_one_at_a_time, len(captions))),
    }
    best = dict.fromkeys(systems, float("inf"))
    for _ in range(num_rounds):
        for name, (run, count) in systems.items():
            start = time.process_time()
            run()
            best[name] = min(best[name], (time.process_time() - start) / count)
    return best


def measure_agreement(
    captions: Sequence[SourceCaption], teacher: CaptionParser, bundled: CaptionParser
) -> dict[str, dict[str, float]]:
    """Per source: shares of tokens with the teacher's tag, head, head and label; F1 of noun chunks and of triples."""
    found: dict[str, dict[str, float]] = {}
    for name, sources in SOURCES.items():
        texts = [each.text for each in captions if each.part == "test" and each.source in sources]
        texts = texts[:: max(1, len(texts) // NUM_AGREEMENT_CAPTIONS)]
        if not texts:
            continue
        tokens = tags = heads = labels = 0
        chunks: list[tuple[set[tuple[int, int]], set[tuple[int, int]]]] = []
        for ours, theirs in zip(bundled._nlp.pipe(texts), teacher._nlp.pipe(texts), strict=True):
            chunks.append(
                ({(c.start, c.end) for c in theirs.noun_chunks}, {(c.start, c.end) for c in ours.noun_chunks})
            )
            for one, other in zip(ours, theirs, strict=True):
                tokens += 1
                tags += one.tag_ == other.tag_
                heads += one.head.i == other.head.i
                labels += one.head.i == other.head.i and one.dep_ == other.dep_
        graphs = score(
            (triples(theirs), triples(ours))
            for ours, theirs in zip(bundled.parse(texts), teacher.parse(texts), strict=True)
        )
        found[name] = {
            "captions": len(texts), "tag": tags / tokens, "head": heads / tokens, "head and label": labels / tokens,
            "noun chunk F1": chunk_score(chunks).f1, "triple F1": graphs.f1,
        }  # fmt: skip
    return found


def chunk_score(pairs: list[tuple[set[tuple[int, int]], set[tuple[int, int]]]]) -> Score:
    """The score of (teacher's, ours) noun chunks, by their tokens."""
    return Score(
        num_gold=sum(len(gold) for gold, _ in pairs),
        num_predicted=sum(len(ours) for _, ours in pairs),
        num_both=sum(len(gold & ours) for gold, ours in pairs),
    )


PEAK = """
import sys
from pipeline.scene_graphs.parser import CaptionParser
count, length = int(sys.argv[1]), int(sys.argv[2])
long = " and ".join(f"a man{{0}}x{j} riding a red bike{{0}}y{j} on the street{{0}}z{j}" for j in range(length))
captions = (long.format(i)[:2000] for i in range(count))
assert sum(1 for _ in CaptionParser(sys.argv[3]).parse(captions)) == count
status = open("/proc/self/status").read()
print(int(status.split("VmHWM:")[1].split()[0]) // 1024)
"""


def measure_memory(num_captions: int, length: int, parser: str) -> int:
    """Peak memory in MiB of a process that parses so many captions, every third word of which is new.

    A caption is `length` times "a man riding a red bike on the street", cut to 2,000 characters.
    """
    result = subprocess.run(
        [sys.executable, "-c", PEAK, str(num_captions), str(length), parser],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return int(result.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--parser", default=BUNDLED, help="another parser of the recipe, by its folder")
    parser.add_argument("--quick", action="store_true", help="speed and agreement alone")
    arguments = parser.parse_args()
    captions = list(read_all(arguments.data))
    teacher = CaptionParser(arguments.teacher)
    web = [each.text for each in captions if each.part == "test" and each.source == "cc3m_tsv"]
    seconds = measure_speed(
        web[:NUM_SPEED_CAPTIONS], arguments.teacher, parser=arguments.parser, num_rounds=arguments.rounds
    )
    for name, value in seconds.items():
        print(
            f"{name:58s} {1 / value:8.0f} captions/s  {value / seconds[OURS]:6.2f}x the bundled parser's time"
        )
    for name, values in measure_agreement(captions, teacher, CaptionParser(arguments.parser)).items():
        print(name, json.dumps({key: round(value, 4) for key, value in values.items()}))
    folder = BUNDLED_FOLDER if arguments.parser == BUNDLED else Path(arguments.parser)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"size {size / 1e6:.2f} MB")
    if arguments.quick:
        return
    for num_captions, length in ((2_000, 1), (20_000, 1), (60_000, 1), (4_000, 40)):
        peak = measure_memory(num_captions, length, arguments.parser)
        print(f"peak memory {peak} MiB: {num_captions} captions of {length} x 9 words")


if __name__ == "__main__":
    main()
