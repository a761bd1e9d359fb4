"""The quality of the scene graphs: FACTUAL's hand-made graphs, coverage of web captions, and the hand-checked captions.

    python benchmarks/scene_graphs.py --data ../shared/data --teacher ../shared/data/en_core_web_sm

FACTUAL's dev part and the `test` part of Conceptual Captions were never trained on, nor read while writing the rules.
"""

import argparse
import csv
from pathlib import Path

from benchmarks.graph_scores import gold_tuples, graph_tuples, only, score, with_entities
from benchmarks.judged_captions import judge, read_judged
from pipeline.caption_parser.corpus import read_cc3m
from pipeline.scene_graphs.parser import CaptionParser

JUDGED = Path(__file__).parents[1] / "tests" / "pipeline" / "data" / "judged_relations.json"


def systems(teacher: str) -> dict[str, CaptionParser]:
    return {
        "default rules, bundled parser": CaptionParser(),
        "default rules, en_core_web_sm": CaptionParser(teacher),
        "SceneGraphParser, bundled parser": CaptionParser(rules="sng"),
        "SceneGraphParser, en_core_web_sm": CaptionParser(teacher, rules="sng"),
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--data", type=Path, required=True)
    arguments.add_argument("--teacher", required=True)
    options = arguments.parse_args()
    with (options.data / "factual" / "dev.csv").open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    gold = [gold_tuples(row["scene_graph"]) for row in rows]
    web = [each.text for each in read_cc3m(options.data) if each.source == "cc3m_tsv" and each.part == "test"]
    first = [each.text for each in read_cc3m(options.data) if each.source == "cc3m_tsv"][:3_000]
    judged = read_judged(JUDGED, data=options.data)
    for name, parser in systems(options.teacher).items():
        found = [graph_tuples(graph) for graph in parser.parse(row["caption"] for row in rows)]
        total = score(zip(gold, found, strict=True))
        print(
            f"{name}: tuple F1 {100 * total.f1:.2f} (P {100 * total.precision:.1f} R {100 * total.recall:.1f})"
        )
        for kind in ("relation", "attribute"):
            part = score((only(one, kind), only(two, kind)) for one, two in zip(gold, found, strict=True))
            print(f"    {kind} F1 {100 * part.f1:.2f}")
        whole = score((with_entities(one), with_entities(two)) for one, two in zip(gold, found, strict=True))
        print(f"    with every entity as a tuple (as SPICE counts, no synonyms) F1 {100 * whole.f1:.2f}")
        for label, captions in (("held-out", web), ("the first 3,000", first)):
            share = sum(bool(graph.relations) for graph in parser.parse(captions)) / len(captions)
            print(f"    CC3M captions with a relation, {label}: {100 * share:.1f} %")
        print(f"    {judge(judged, parser)}")


if __name__ == "__main__":
    main()
