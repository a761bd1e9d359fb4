"""The quality of the scene graphs: FACTUAL's hand-made graphs, coverage of web captions, and the hand-checked captions.

    python -m benchmarks.scene_graphs --data ../shared/data --teacher ../shared/data/en_core_web_sm

FACTUAL's dev part and the `test` part of Conceptual Captions were never trained on, nor read while writing the rules.
"""

import argparse
import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.graph_scores import gold_tuples, graph_tuples, only, score, with_entities
from benchmarks.judged_captions import judge, read_judged
from pipeline.caption_parser.corpus import read_cc3m
from pipeline.scene_graphs.parser import CaptionParser

JUDGED = Path(__file__).parents[1] / "tests" / "pipeline" / "scene_graphs" / "judged_relations.json"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--data", type=Path, required=True)
    arguments.add_argument("--teacher", required=True)
    options = arguments.parse_args()
    with (options.data / "factual" / "dev.csv").open(encoding="utf-8", newline="") as lines:
        gold = [(row["caption"], row["scene_graph"]) for row in csv.DictReader(lines)]
    web = [each for each in read_cc3m(options.data) if each.source == "cc3m_tsv"]
    captions = {
        "held-out": [each.text for each in web if each.part == "test"],
        "the first 3,000": [each.text for each in web[:3_000]],
    }
    judged = read_judged(JUDGED)
    for name, parser in systems(options.teacher).items():
        print(name)
        for what, value in measure(parser, gold=gold, captions=captions).items():
            print(f"    {what}: {100 * value:.2f} %")
        print(f"    {judge(judged, parser)}")


def systems(teacher: str) -> dict[str, CaptionParser]:
    """The parsers that are compared: two sets of rules on two spaCy pipelines."""
    return {
        "default rules, bundled parser": CaptionParser(),
        "default rules, en_core_web_sm": CaptionParser(teacher),
        "SceneGraphParser, bundled parser": CaptionParser(rules="sng"),
        "SceneGraphParser, en_core_web_sm": CaptionParser(teacher, rules="sng"),
    }


def measure(
    parser: CaptionParser, *, gold: Sequence[tuple[str, str]], captions: Mapping[str, Sequence[str]]
) -> dict[str, float]:
    """Shares of 1: how the parser's graphs agree with `gold` (caption, FACTUAL's graph), how many have a relation."""
    truth = [gold_tuples(graph) for _, graph in gold]
    pairs = list(zip(truth, map(graph_tuples, parser.parse(caption for caption, _ in gold)), strict=True))
    total = score(pairs)
    found = {"tuple F1": total.f1, "tuple precision": total.precision, "tuple recall": total.recall}
    for kind in ("relation", "attribute"):
        found[f"{kind} F1"] = score((only(one, kind), only(two, kind)) for one, two in pairs).f1
    whole = score((with_entities(one), with_entities(two)) for one, two in pairs)
    found["F1 with every entity as a tuple (as SPICE counts, no synonyms)"] = whole.f1
    for label, texts in captions.items():
        share = sum(bool(graph.relations) for graph in parser.parse(texts)) / len(texts)
        found[f"CC3M captions with a relation, {label}"] = share
    return found


if __name__ == "__main__":
    main()
