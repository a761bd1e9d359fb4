"""Checks negatives against what is promised of them: WordNet's relations, grammar, form, speed.

    python benchmarks/subcaptions.py DATA [--captions 20000] [--wordnet PATH] [--only speed,wordnet,grammar,blind]
        [--draw even|plausible] [--sets cc3m,coco,...] [--counts coco,flickr30k,...]

DATA is the folder of real data beside the project. Captions: CC3M's csv and tsv, COCO's, Flickr8k's and Flickr30k's
test split, in equal shares, or those of --sets. --counts: plausible draws go by what these sets put together, in the
place of the committed counts. Prints one table in Markdown. `wordnet` needs nltk, `grammar` the package inflect, which
had no part in making the forms (the lexicons' come from lemminflect).
"""

import argparse
import csv
import gc
import gzip
import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline.captions.readers import InputOptions, open_source
from pipeline.lexicons.loading import Lexicons, load_lexicons
from pipeline.lexicons.wordnet import Part, WordNet, read_wordnet
from pipeline.looking.audit import Pair, blind_test
from pipeline.scene_graphs.parser import CaptionParser
from pipeline.schema import OK, Caption, SceneGraph, Subcaption
from pipeline.subcaptions.counting import count_pairs
from pipeline.subcaptions.making import DRAWS, Draws, SubcaptionOptions, make_subcaption

# ------------------------------------------------------------------------------------------ the captions
SETS = ("cc3m", "coco", "flickr30k", "flickr8k")


def read_captions(data: Path, count: int, sets: Collection[str] = SETS) -> list[Caption]:
    """`count` captions in equal shares from the sources of some sets, each in its own order."""
    sources: list[tuple[str, Callable[[], Iterator[str]]]] = [
        ("cc3m", lambda: (row[1] for row in _csv_rows(data / "cc3m/cc3m_natural_10K_WObanana.csv"))),
        ("cc3m", lambda: (line.split("\t")[0] for line in _text(data / "cc3m/validation_first_8000.tsv"))),
        ("coco", lambda: _coco(data / "coco_captions_val2017")),
        ("flickr30k", lambda: (text for file in _flickr30k(data / "multi30k_en") for text in _text(file))),
        ("flickr8k", lambda: _flickr8k(data / "flickr8k_wds")),
    ]
    chosen = [_lines(read()) for name, read in sources if name in sets]
    share = -(-count // len(chosen))
    texts = [text for source in chosen for text in islice(source, share)]
    return [
        Caption(key=f"{i:06d}", caption=text, image=None, source="") for i, text in enumerate(texts[:count])
    ]


def _flickr30k(folder: Path) -> list[Path]:
    return sorted(folder.rglob("test_2016.*.en.gz"))


def _lines(texts: Iterator[str]) -> Iterator[str]:
    seen: set[str] = set()
    for text in texts:
        caption = " ".join(text.split())
        if caption and caption not in seen:
            seen.add(caption)
            yield caption


def _text(file: Path) -> Iterator[str]:
    opened = gzip.open(file, "rt", encoding="utf-8") if file.suffix == ".gz" else file.open(encoding="utf-8")
    with opened:
        yield from opened


def _csv_rows(file: Path) -> Iterator[list[str]]:
    with file.open(encoding="utf-8", newline="") as opened:
        yield from islice(csv.reader(opened), 1, None)


def _coco(folder: Path) -> Iterator[str]:
    for file in sorted(folder.glob("*.json")):
        for annotation in json.loads(file.read_text())["annotations"]:
            yield annotation["caption"]


def _flickr8k(folder: Path) -> Iterator[str]:
    source = open_source(InputOptions(input=str(folder / "train-*.tar")))
    for file in source.files:
        yield from (row.caption for row in source.rows(file, faults=[]))


# -------------------------------------------------------------------------------------------- the checks
_INFINITIVE = re.compile(r"^(?:to|can|could|may|might|must|shall|should|will|would) ")


def check_wordnet(made: list[Subcaption], graphs: list[SceneGraph], wordnet: WordNet) -> dict[str, str]:
    """Replacements that any WordNet meaning makes the original, its synonym, hypernym or hyponym.

    Verbs are compared without what follows them; prepositions whole, as WordNet has none of them.
    """
    part_of: dict[str, Part] = {"object": "n", "attribute": "a", "relation": "v"}
    edits, found = 0, Counter[str]()
    for subcaption, graph in zip(made, graphs, strict=True):
        lemmas = _lemmas(graph)
        verbs = {relation.text.lower() for relation in graph.relations if relation.tag[:1] in "VTM"}
        for negative in subcaption.negatives:
            for edit in negative.edits:
                edits += 1
                original = lemmas.get(edit.original.lower(), edit.original.lower())
                term = edit.term_id.partition(":")[2].replace("-", " ")
                if edit.original.lower() in verbs:
                    original = _INFINITIVE.sub("", original).partition(" ")[0]
                    term = term.partition(" ")[0]
                if original == term or _related(wordnet, original, term, part_of[negative.kind]):
                    found[f"{edit.original} -> {edit.replacement}"] += 1
    return {
        "edits checked": f"{edits:,}",
        "related": f"{found.total()} {found.most_common(5) if found else ''}",
    }


def _lemmas(graph: SceneGraph) -> dict[str, str]:
    lemmas = {entity.head.lower(): entity.lemma for entity in graph.entities}
    lemmas.update((each.text.lower(), each.lemma) for entity in graph.entities for each in entity.attributes)
    lemmas.update((relation.text.lower(), relation.lemma) for relation in graph.relations)
    return lemmas


def _related(wordnet: WordNet, original: str, term: str, part: Part) -> bool:
    for word in {original, original.rpartition(" ")[2]}:
        for first in wordnet.senses(word, part):
            for second in wordnet.senses(term, part):
                if first.name in wordnet.ancestors(second.name) or second.name in wordnet.ancestors(
                    first.name
                ):
                    return True
    return False


def check_grammar(made: list[Subcaption], graphs: list[SceneGraph]) -> dict[str, str]:
    """Number of nouns against `inflect`, verb forms against the original's ending, articles by sound."""
    import inflect

    engine = inflect.engine()
    checked, slips, examples = 0, 0, Counter[str]()
    for subcaption, graph in zip(made, graphs, strict=True):
        tags = {entity.head.lower(): entity.tag for entity in graph.entities}
        tags.update((relation.text.lower(), relation.tag) for relation in graph.relations)
        for negative in subcaption.negatives:
            for edit in negative.edits:
                tag = tags.get(edit.original.lower(), "")
                term = edit.term_id.partition(":")[2].replace("-", " ")
                right = _agrees(engine, negative.kind, edit.replacement.lower(), term=term, tag=tag)
                checked += 1
                if not right:
                    slips += 1
                    examples[f"{edit.original} ({tag}) -> {edit.replacement}"] += 1
            article = re.search(r"\b(an?) (\w+)", negative.text.lower())
            if article:
                checked += 1
                slips += engine.an(article[2]).split()[0] != article[1]
    return {
        "edits checked": f"{checked:,}",
        "slips": f"{slips} ({slips / checked:.2%}) {examples.most_common(6)}",
    }


def _agrees(engine: Any, kind: str, text: str, *, term: str, tag: str) -> bool:
    first, last, noun = text.partition(" ")[0], text.rpartition(" ")[2], term.rpartition(" ")[2]
    if kind == "object" and tag in ("NNS", "NNPS"):
        forms = {engine.plural_noun(noun), noun + "s", noun + "es"}
        return last in forms or bool(engine.singular_noun(last)) or " of " in text
    if kind == "object" and tag in ("NN", "NNP"):
        return text.replace("-", " ") == term
    endings = {"VBG": ("ing",), "VBZ": ("s",)}.get(tag)
    if kind == "relation" and endings:
        return first.endswith(endings)
    return not (kind == "relation" and tag in ("VBD", "VBN") and first.endswith("ing"))


def check_blind(made: list[Subcaption], *, seed: int = 0) -> dict[str, str]:
    """What `pipeline audit-negatives` finds: learnt from one half of the captions, tried on the other."""
    rows = [
        [
            Pair(positive=each.positive, negative=negative.text, kind=negative.kind)
            for negative in each.negatives
        ]
        for each in made
        if each.negatives
    ]
    random.Random(seed).shuffle(rows)
    half = len(rows) // 2
    return {
        found.kind: f"words {found.words:.3f}, of one kind {found.kind_alone:.3f}, form {found.form:.3f}"
        for found in blind_test(rows[:half], rows[half:])
    }


def check_speed(
    captions: list[Caption], graphs: list[SceneGraph], lexicons: Lexicons, draw: Draws
) -> dict[str, str]:
    """Captions per second of CPU time, parse excluded; best of five passes, beside a fixed loop as a yardstick."""
    results = {"yardstick: additions per second": f"{_yardstick():,.0f}"}
    for negatives, views in ((10, 0), (10, 4), (1, 0)):
        options = SubcaptionOptions(num_negatives=negatives, num_views=views, draw=draw)

        def once(options: SubcaptionOptions = options) -> None:
            for caption, graph in zip(captions, graphs, strict=True):
                make_subcaption(caption, graph, lexicons, options)

        once()
        best = min(_seconds(once) for _ in range(5))
        results[f"{negatives} negatives, {views} views"] = f"{len(captions) / best:,.0f} captions/s"
    return results


def _yardstick() -> float:
    def once() -> None:
        total = 0
        for number in range(1_000_000):
            total += number

    return 1_000_000 / min(_seconds(once) for _ in range(5))


def _seconds(function: Callable[[], None]) -> float:
    gc.collect()
    start = time.process_time()
    function()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--captions", type=int, default=20_000)
    parser.add_argument("--wordnet", default="auto")
    parser.add_argument("--only", default="speed,wordnet,grammar,blind")
    parser.add_argument("--draw", choices=DRAWS, default="even")
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--counts", default="")
    arguments = parser.parse_args()
    only = arguments.only.split(",")
    parse, lexicons = CaptionParser().parse, load_lexicons()
    captions = read_captions(arguments.data, arguments.captions, arguments.sets.split(","))
    graphs = list(parse(caption.caption for caption in captions))
    if arguments.counts:
        counted = read_captions(arguments.data, arguments.captions, arguments.counts.split(","))
        lexicons.pairs = count_pairs(parse(caption.caption for caption in counted))
    made = [
        make_subcaption(c, g, lexicons, SubcaptionOptions(num_views=0, draw=arguments.draw))
        for c, g in zip(captions, graphs, strict=True)
    ]
    status = Counter(subcaption.status for subcaption in made)
    kinds = Counter(negative.kind for subcaption in made for negative in subcaption.negatives)
    print(f"{len(captions):,} captions: {dict(status)}; negatives {dict(kinds)}; with a relation", end=" ")
    print(
        f"{sum(bool(graph.relations) for graph in graphs if graph.status == OK) / len(graphs):.1%}"
        "\n\n| what | measured |\n| --- | --- |"
    )
    checks: dict[str, Callable[[], dict[str, str]]] = {
        "speed": lambda: check_speed(captions[:4_000], graphs[:4_000], lexicons, arguments.draw),
        "wordnet": lambda: check_wordnet(made, graphs, read_wordnet(arguments.wordnet)),
        "grammar": lambda: check_grammar(made, graphs),
        "blind": lambda: check_blind(made),
    }
    for name, check in checks.items():
        if name in only:
            for what, value in check().items():
                print(f"| {name}: {what} | {value} |", flush=True)


if __name__ == "__main__":
    main()
