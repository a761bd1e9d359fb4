"""Choosing terms, the reader's review, and what a language model may add; without the real WordNet."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.errors import UserError
from pipeline.lexicons.building import LexiconOptions, choose, read_review, requests_of
from pipeline.lexicons.candidates import Candidate, merge, proposed_candidates
from pipeline.lexicons.loading import load_lexicons
from pipeline.lexicons.wordnet import Part, Synset, WordNet
from pipeline.llm.asking import LlmOptions
from tests.api_server import Answer, Server, completion, serving


def candidate(term: str, *, source: str = "wordnet") -> Candidate:
    return Candidate(term=term, kind="noun", synset="x", base=term, source=source)


def meaning(name: str, part: Part, file: str, *, frames: tuple[int, ...] = ()) -> Synset:
    lemma = name.split(".", maxsplit=1)[0].replace("_", " ")
    nothing: tuple[str, ...] = ()
    return Synset(
        name=name,
        part=part,
        file=file,
        lemmas=(lemma,),
        counts=(1,),
        hypernyms=nothing,
        instance_of=nothing,
        hyponyms=nothing,
        similar=nothing,
        also=nothing,
        antonyms=nothing,
        parts=nothing,
        verb_links=nothing,
        related=nothing,
        frames=frames,
    )


@pytest.fixture
def wordnet() -> WordNet:
    synsets = [
        meaning("gazebo.n.01", "n", "noun.artifact"),
        meaning("belief.n.01", "n", "noun.cognition"),
        meaning("idiot.n.01", "n", "noun.person"),
        meaning("mossy.a.01", "a", "adj.all"),
        meaning("chase.v.01", "v", "verb.motion", frames=(8,)),
        meaning("lean.v.01", "v", "verb.motion", frames=(2,)),
    ]
    senses = {(synset.lemmas[0], synset.part): (synset.name,) for synset in synsets}
    return WordNet({synset.name: synset for synset in synsets}, senses, "test")


def test_bands_are_even_and_follow_frequency() -> None:
    candidates = [candidate(f"word{number:03d}") for number in range(100)]
    chosen = choose(
        candidates, size=50, frequency=lambda each: (0.0, -float(each.term[4:])), seed="0:objects"
    )
    assert [term.term for term, _ in chosen] == sorted(term.term for term, _ in chosen)
    for band in range(5):
        numbers = [int(term.term[4:]) for term, its_band in chosen if its_band == band]
        assert len(numbers) == 10
        assert all(band * 20 <= number < band * 20 + 20 for number in numbers)


def test_another_seed_chooses_others_and_order_does_not_matter() -> None:
    candidates = [candidate(f"word{number:03d}") for number in range(100)]

    def terms(given: list[Candidate], seed: str) -> list[str]:
        return [each.term for each, _ in choose(given, size=50, frequency=lambda each: (0.0, 1.0), seed=seed)]

    assert terms(candidates, "0") == terms(candidates[::-1], "0")
    assert terms(candidates, "0") != terms(candidates, "1")


def test_what_a_model_proposed_is_chosen_first() -> None:
    candidates = [
        candidate(f"word{number}", source="llm" if number == 7 else "wordnet") for number in range(20)
    ]
    for seed in "abcdef":
        chosen = choose(candidates, size=5, frequency=lambda each: (0.0, 1.0), seed=seed)
        assert "word7" in [each.term for each, _ in chosen]


def test_too_few_candidates_are_one_line() -> None:
    with pytest.raises(UserError, match="3 terms at most"):
        choose([candidate(term) for term in "abc"], size=5, frequency=lambda each: (0.0, 0.0), seed="0")


def test_proposed_terms_must_be_in_wordnet_and_fit(wordnet: WordNet) -> None:
    def terms(lexicon: str, *proposed: str) -> list[tuple[str, str, str]]:
        return [
            (each.term, each.kind, each.source) for each in proposed_candidates(wordnet, lexicon, proposed)
        ]

    assert terms("objects", "gazebo", "belief", "idiot", "blorp") == [("gazebo", "noun", "llm")]
    assert terms("attributes", "mossy", "gazebo") == [("mossy", "adjective", "llm")]
    assert terms("relations", "chase", "lean", "lean against", "lean blorp") == [
        ("chase", "verb", "llm"),
        ("lean against", "verb_preposition", "llm"),
    ]


def test_terms_known_to_both_say_so(wordnet: WordNet) -> None:
    merged = merge(
        [candidate("gazebo"), candidate("lamp")], proposed_candidates(wordnet, "objects", ["gazebo"])
    )
    assert [(each.term, each.source) for each in merged] == [("gazebo", "wordnet+llm"), ("lamp", "wordnet")]


def test_review_is_made_once_and_never_overwritten(tmp_path: Path) -> None:
    assert not any(read_review(tmp_path).values())
    file = tmp_path / "review.csv"
    text = "lexicon,term,verdict,note\nobjects,Gazebo,drop,too rare\nobjects,ocelot,keep,\n"
    file.write_text(text)
    assert read_review(tmp_path)["objects"] == {"gazebo"}
    assert file.read_text() == text


def test_review_names_the_line_that_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "review.csv").write_text("lexicon,term,verdict,note\nnouns,gazebo,drop,\n")
    with pytest.raises(UserError, match="line 2"):
        read_review(tmp_path)


def test_requests_cover_the_three_lexicons(tmp_path: Path) -> None:
    requests = requests_of(LexiconOptions(out=tmp_path, llm_terms=120))
    assert [request.lexicon for request in requests] == ["objects"] * 2 + ["attributes"] * 2 + [
        "relations"
    ] * 2


NOUNS = [
    "lamp",
    "table",
    "chair",
    "spoon",
    "kettle",
    "bucket",
    "ladder",
    "basket",
    "candle",
    "mirror",
    "theodolite",
]
ADJECTIVES = ["red", "green", "wet", "dry", "round", "square", "old", "young", "tall", "short", "crenelated"]
VERBS = ["bake", "bathe", "carry", "chase", "climb", "clip", "comb", "cook", "kayak"]
REPLIES = {
    "nouns": ["theodolite", "lamp", "blorptron", "belief"],
    "adjectives": ["crenelated", "red", "lamp"],
    "verbs": ["kayak", "chase", "kayak blorp"],
}


@pytest.fixture
def small_wordnet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Building finds a WordNet of thirty words."""
    synsets = [
        *(meaning(f"{word}.n.01", "n", "noun.artifact") for word in NOUNS),
        *(meaning(f"{word}.a.01", "a", "adj.all") for word in ADJECTIVES),
        *(meaning(f"{word}.v.01", "v", "verb.motion", frames=(8,)) for word in VERBS),
        meaning("belief.n.01", "n", "noun.cognition"),
        *(meaning(name, "n", "noun.person") for name in ("person.n.01", "male.n.02", "female.n.02")),
    ]
    senses = {(synset.lemmas[0], synset.part): (synset.name,) for synset in synsets}
    small = WordNet({synset.name: synset for synset in synsets}, senses, "test")
    monkeypatch.setattr("pipeline.lexicons.building.read_wordnet", lambda where: small)


def sources_of(folder: Path) -> dict[str, str]:
    """The source of each term of built lexicons."""
    built = load_lexicons(folder)
    lexicons = (built.objects, built.attributes, built.relations)
    return {term.term: term.source for lexicon in lexicons for term in lexicon.terms}


@pytest.mark.usefixtures("small_wordnet")
def test_building_with_a_model_marks_only_what_it_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real command, a WordNet of thirty words, and a server on this machine: each term's source is true."""

    def answer(body: dict[str, Any]) -> Answer:
        prompt = body["messages"][0]["content"]
        about = next(name for name in REPLIES if f"English {name}" in prompt)
        return completion(json.dumps({"terms": REPLIES[about]}))

    with serving(monkeypatch, Server) as server:
        server.answers = [answer]
        command = ["build-lexicons", "--out", str(tmp_path / "out"), "--size", "5"]
        model = ["--llm-model", "m", "--llm-base-url", server.url, "--llm-terms", "60"]
        cache = ["--llm-cache", str(tmp_path / "cache.sqlite")]
        done = CliRunner().invoke(app, [*command, *model, *cache])
        assert done.exit_code == 0, done.output
        bytes_made = (tmp_path / "out" / "objects.csv").read_bytes()
        assert CliRunner().invoke(app, [*command, *model, *cache]).exit_code == 0
    assert len(server.bodies) == 3
    assert (tmp_path / "out" / "objects.csv").read_bytes() == bytes_made
    sources = sources_of(tmp_path / "out")
    assert {term for term, source in sources.items() if source == "llm"} == {
        "theodolite",
        "crenelated",
        "kayak",
    }
    assert {sources.get(term, "wordnet+llm") for term in ("lamp", "red", "chase")} == {"wordnet+llm"}
    assert load_lexicons(tmp_path / "out").manifest["llm"]["cached"] == 3


def record(folder: Path) -> Path:
    """A folder of recorded replies."""
    folder.mkdir()
    for lexicon, about in (("objects", "nouns"), ("attributes", "adjectives"), ("relations", "verbs")):
        row = {"prompt": "?", "reply": json.dumps({"terms": REPLIES[about]})}
        (folder / f"{lexicon}.jsonl").write_text(json.dumps(row) + "\n")
    return folder


@pytest.mark.usefixtures("small_wordnet")
def test_building_with_recorded_replies_needs_no_key_and_gives_the_same_bytes_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    replies = record(tmp_path / "replies")
    for out in ("one", "two"):
        command = [
            "build-lexicons",
            "--out",
            str(tmp_path / out),
            "--size",
            "5",
            "--llm-replies",
            str(replies),
        ]
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
        assert "no LLM" not in done.output
    sources = sources_of(tmp_path / "one")
    assert {term for term, source in sources.items() if source == "llm"} == {
        "theodolite",
        "crenelated",
        "kayak",
    }
    described = load_lexicons(tmp_path / "one").manifest["llm"]
    assert (described["replies"], sorted(described["files"])) == (
        3, ["attributes.jsonl", "objects.jsonl", "relations.jsonl"],
    )  # fmt: skip
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()


def test_recorded_replies_or_a_model_but_not_both(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not both"):
        LexiconOptions(out=tmp_path, llm=LlmOptions(model="m"), llm_replies=tmp_path)
