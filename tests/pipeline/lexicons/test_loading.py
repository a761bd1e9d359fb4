"""Every committed row, and what loading promises."""

import csv
import hashlib
import json
import shutil
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.lexicons.building import REVIEW_FILE, LexiconOptions, build_lexicons, read_review
from pipeline.lexicons.candidates import LISTS
from pipeline.lexicons.inflection import article, is_plural, plural, verb_forms
from pipeline.lexicons.loading import (
    BANDS,
    FILES,
    ID_PREFIX,
    LEXICONS,
    Lexicon,
    Lexicons,
    default_folder,
    load_lexicons,
)
from pipeline.llm.recorded import read_recorded
from pipeline.word_lists import read_block_list
from tests.places import REAL_DATA

WORDNET = REAL_DATA / "wordnet30/nltk_data.tar.xz"
REPLIES = default_folder() / "llm_replies"


@pytest.fixture(scope="module")
def lexicons() -> Lexicons:
    return load_lexicons()


def each(lexicons: Lexicons) -> list[Lexicon]:
    return [lexicons.objects, lexicons.attributes, lexicons.relations]


def test_three_thousand_terms_in_even_bands(lexicons: Lexicons) -> None:
    for lexicon in each(lexicons):
        assert len(lexicon.terms) == 3_000
        for rows in lexicon.bands:
            assert abs(len(rows) - 600) <= 12


def test_every_row_is_whole(lexicons: Lexicons) -> None:
    blocked = read_block_list([LISTS.folder / "blocked_everywhere.txt"])
    for lexicon in each(lexicons):
        for term in lexicon.terms:
            assert term.term_id == f"{ID_PREFIX[lexicon.name]}:{term.term.replace(' ', '-')}"
            assert term.term == term.term.lower().strip()
            assert term.term.replace(" ", "").replace("-", "").replace("'", "").isalpha()
            assert len(term.term) <= 40
            assert not blocked & {term.term, *term.term.split()}
            assert (term.source.split("+")[0] != "list") == bool(term.synset)
            assert term.source in ("wordnet", "list", "llm", "wordnet+llm", "list+llm")
            assert term.term not in term.synonyms


def test_a_language_model_gave_its_half(lexicons: Lexicons) -> None:
    """Terms that WordNet's own lists lacked, and the source of each as its replies say it."""
    proposed = read_recorded(REPLIES, lexicons=LEXICONS).terms
    for lexicon, least in zip(each(lexicons), (400, 500, 800), strict=True):
        sources = {term.term: term.source for term in lexicon.terms}
        assert sum(source == "llm" for source in sources.values()) >= least
        spellings = {term.replace("-", " ") for term in proposed[lexicon.name]}
        told = {term.replace("-", " ") for term, source in sources.items() if source.endswith("llm")}
        assert told <= spellings


def test_what_the_reader_dropped_is_in_no_lexicon(lexicons: Lexicons) -> None:
    dropped = read_review(default_folder())
    for lexicon in each(lexicons):
        assert dropped[lexicon.name]
        assert not dropped[lexicon.name] & {term.term for term in lexicon.terms}


def test_no_duplicates_by_lemma(lexicons: Lexicons) -> None:
    for lexicon in each(lexicons):
        spellings = [term.term.replace("-", " ") for term in lexicon.terms]
        assert len(set(spellings)) == len(spellings)
        assert len({term.term_id for term in lexicon.terms}) == len(spellings)


def test_objects_have_plurals_and_relations_have_verb_forms(lexicons: Lexicons) -> None:
    assert sum(bool(term.forms[1]) for term in lexicons.objects.terms) > 2_500
    prepositions = {term for term, _, _ in LISTS.rows("prepositions.csv")}
    for term in lexicons.relations.terms:
        assert all(term.forms)
        if term.kind == "preposition":
            assert set(term.forms) == {term.term}
            continue
        verb, _, preposition = term.term.partition(" ")
        assert term.forms[2].split()[0].endswith("ing")
        assert term.forms[1].split()[0].endswith("s")
        assert all(form.partition(" ")[2] == preposition for form in term.forms)
        assert (preposition in prepositions) == (term.kind == "verb_preposition")
        assert verb


def test_every_term_rules_itself_out(lexicons: Lexicons) -> None:
    for lexicon in each(lexicons):
        for row, term in enumerate(lexicon.terms):
            assert lexicon.excluded(term.term) >> row & 1, term.term
            assert not lexicon.near(term.term) >> row & 1, term.term


@pytest.mark.parametrize(
    ("name", "word", "term"),
    [
        ("objects", "sofa", "couch"),
        ("objects", "animal", "cat"),
        ("objects", "beagle", "dog"),
        ("objects", "person", "firefighter"),
        ("attributes", "large", "big"),
        ("attributes", "crimson", "red"),
        ("attributes", "wood", "wooden"),
        ("relations", "hold", "carry"),
        ("relations", "+on", "on top of"),
        ("relations", "beneath", "under"),
    ],
)
def test_related_words_are_ruled_out(lexicons: Lexicons, name: str, word: str, term: str) -> None:
    lexicon: Lexicon = getattr(lexicons, name)
    rows = {each.term: row for row, each in enumerate(lexicon.terms)}
    assert term not in rows or lexicon.excluded(word) >> rows[term] & 1


@pytest.mark.parametrize(
    ("name", "word", "term"), [("objects", "dog", "wolf"), ("attributes", "red", "green")]
)
def test_near_terms_are_fellows(lexicons: Lexicons, name: str, word: str, term: str) -> None:
    lexicon: Lexicon = getattr(lexicons, name)
    row = next(row for row, each in enumerate(lexicon.terms) if each.term == term)
    assert lexicon.near(word) >> row & 1
    assert not lexicon.excluded(word) >> row & 1


def test_manifest_has_the_hash_of_every_file() -> None:
    manifest = json.loads((default_folder() / "manifest.json").read_text())
    for name, digest in manifest["files"].items():
        assert hashlib.sha256((default_folder() / name).read_bytes()).hexdigest() == digest


def test_rows_may_be_deleted_but_not_added(lexicons: Lexicons, tmp_path: Path) -> None:
    lexicons.copy_to(tmp_path)
    file = tmp_path / "objects.csv"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:5] + lines[205:]))
    shorter = load_lexicons(tmp_path)
    assert len(shorter.objects.terms) == 2_800
    row = next(row for row, term in enumerate(shorter.objects.terms) if term.term == "dog")
    assert shorter.objects.excluded("beagle") >> row & 1
    assert shorter.identity()["sha256"] != lexicons.identity()["sha256"]
    file.write_text("".join([*lines, lines[-1].replace("obj:", "obj:new-")]))
    with pytest.raises(UserError, match="new-"):
        load_lexicons(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("objects.csv", "term\ncat\n", "columns"),
        ("links.tsv", "nonsense\n", "links"),
        ("manifest.json", "{", "JSON"),
    ],
)
def test_broken_files_get_one_line(
    lexicons: Lexicons, tmp_path: Path, name: str, content: str, message: str
) -> None:
    lexicons.copy_to(tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message):
        load_lexicons(tmp_path)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"objects\.csv"):
        load_lexicons(tmp_path)


@pytest.mark.parametrize(
    ("noun", "many"),
    [
        ("wolf", "wolves"),
        ("fire hydrant", "fire hydrants"),
        ("bird of paradise", "birds of paradise"),
        ("sheep", "sheep"),
        ("pants", "pants"),
        ("casino", "casinos"),
        ("goldfish", "goldfish"),
        ("mouse", "mice"),
    ],
)
def test_plurals(noun: str, many: str) -> None:
    assert plural(noun) == many
    assert not is_plural(noun)


def test_plural_lemmas_are_told_from_nouns_without_singular() -> None:
    assert [is_plural(noun) for noun in ("chips", "anklets", "pants", "glass", "bus")] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_verb_phrases_keep_their_preposition() -> None:
    forms = verb_forms("sit on")
    assert (forms.third_person, forms.gerund, forms.past, forms.participle) == (
        "sits on",
        "sitting on",
        "sat on",
        "sat on",
    )


@pytest.mark.parametrize(
    ("phrase", "right"),
    [("apple", "an"), ("unicycle", "a"), ("umbrella", "an"), ("hourglass", "an"), ("one-eyed", "a")],
)
def test_articles_follow_the_sound(phrase: str, right: str) -> None:
    assert article(phrase) == right


@pytest.mark.parametrize("size", [0, 7])
def test_sizes_that_fill_no_bands_are_refused(tmp_path: Path, size: int) -> None:
    with pytest.raises(UserError, match="multiple of 5"):
        LexiconOptions(out=tmp_path, size=size)


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.skipif(not WORDNET.is_file(), reason="WordNet 3.0 is not beside the project")
def test_rebuilding_gives_the_committed_bytes(tmp_path: Path) -> None:
    shutil.copy(default_folder() / REVIEW_FILE, tmp_path)
    build_lexicons(LexiconOptions(out=tmp_path, wordnet=str(WORDNET), llm_replies=REPLIES))
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (default_folder() / name).read_bytes(), name
    shutil.rmtree(tmp_path)


def test_csv_is_plain(lexicons: Lexicons) -> None:
    for name in LEXICONS:
        with (default_folder() / f"{name}.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["term"] for row in rows] == sorted(row["term"] for row in rows)
        assert {row["band"] for row in rows} == set(BANDS)
