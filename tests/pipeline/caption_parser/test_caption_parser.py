import multiprocessing
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from pipeline.caption_parser.corpus import photo_number, plain, read_all, split_by_hash, split_gloss
from pipeline.caption_parser.morphology import (
    CaptionMorphology,
    inflect_verb,
    part_of_speech,
    singular_by_rule,
)
from pipeline.caption_parser.variants import TaggedCaption, as_web_text, collect_words, vary
from pipeline.scene_graphs.identity import BUNDLED_FOLDER
from pipeline.scene_graphs.parser import CaptionParser
from tests.places import REAL_DATA, ROOT

NUM_BYTES_ALLOWED = 6_000_000


@pytest.fixture(scope="module")
def morphology() -> CaptionMorphology:
    return CaptionMorphology().from_disk(BUNDLED_FOLDER / "caption_morphology")


@pytest.mark.parametrize(
    ("form", "tag", "lemma"),
    [
        ("riding", "VBG", "ride"), ("planning", "VBG", "plan"), ("planing", "VBG", "plane"), ("sitting", "VBG", "sit"),
        ("hopping", "VBG", "hop"), ("hoping", "VBG", "hope"), ("lying", "VBG", "lie"), ("grazing", "VBG", "graze"),
        ("left", "VBD", "leave"), ("wore", "VBD", "wear"), ("flies", "VBZ", "fly"), ("catches", "VBZ", "catch"),
        ("parked", "VBN", "park"), ("baked", "VBN", "bake"), ("topped", "VBN", "top"), ("visiting", "VBG", "visit"),
        ("children", "NNS", "child"), ("buses", "NNS", "bus"), ("horses", "NNS", "horse"), ("vases", "NNS", "vase"),
        ("benches", "NNS", "bench"), ("knives", "NNS", "knife"), ("leaves", "NNS", "leaf"), ("jeans", "NNS", "jeans"),
        ("tomatoes", "NNS", "tomato"), ("shoes", "NNS", "shoe"), ("larger", "JJR", "large"), ("biggest", "JJS", "big"),
        ("photobombing", "VBG", "photobomb"), ("glass", "NN", "glass"), ("is", "VBZ", "be"),
    ],
)  # fmt: skip
def test_lemma(morphology: CaptionMorphology, form: str, tag: str, lemma: str) -> None:
    assert morphology.lemma(form, tag) == lemma


def test_every_regular_form_of_a_common_verb_finds_it(morphology: CaptionMorphology) -> None:
    wrong = [
        (form, verb) for verb in morphology.verbs[:300] for form in inflect_verb(verb)[:2]
        if morphology.lemma(form, "VBZ" if form.endswith("s") else "VBG") != verb
    ]  # fmt: skip
    assert len(wrong) <= 3, wrong


def test_part_of_speech_follows_the_label() -> None:
    assert part_of_speech("is", "VBZ", "aux") == part_of_speech("is", "VBZ", "ROOT") == "AUX"
    assert part_of_speech("has", "VBZ", "ROOT") == "VERB"
    assert part_of_speech("that", "DT", "det") == "DET"
    assert part_of_speech("that", "DT", "nsubj") == "PRON"
    assert part_of_speech("odd", "no such tag", "dep") == "X"


def test_singular_of_a_word_that_is_none() -> None:
    assert [singular_by_rule(word) for word in ("bus", "grass", "s", "", "dog")] == [
        "bus",
        "grass",
        "s",
        "",
        "dog",
    ]


def test_bundled_parser_is_small() -> None:
    assert sum(path.stat().st_size for path in BUNDLED_FOLDER.rglob("*")) <= NUM_BYTES_ALLOWED


def test_importing_the_parser_does_not_import_torch() -> None:
    code = "import sys, pipeline.scene_graphs.parser; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_spacys_command_line_is_imported_where_it_is_asked_for() -> None:
    code = (
        "import sys, pipeline.caption_parser, spacy; before = 'spacy.cli' in sys.modules;"
        "print(before, spacy.info(silent=True)['spacy_version'] == spacy.__version__, 'spacy.cli' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert told == "False True True\n"


def test_bundled_parser_loads_with_plain_spacy(tmp_path: Path) -> None:
    # The entry points of an installed package, as pyproject.toml says them today.
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["entry-points"]
    installed = tmp_path / "cleanerclip-0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: cleanerclip\nVersion: 0\n")
    lines = [
        line
        for group, entries in groups.items()
        for line in (f"[{group}]", *(f"{key} = {value}" for key, value in entries.items()))
    ]
    (installed / "entry_points.txt").write_text("\n".join(lines) + "\n")
    code = (
        "import sys, spacy; nlp = spacy.load(sys.argv[1]);"
        "print([token.lemma_ for token in nlp('a man riding horses')])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, str(BUNDLED_FOLDER)], check=True, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
    )  # fmt: skip
    assert found.stdout.strip() == "['a', 'man', 'ride', 'horse']"


def _first_relation(caption: str) -> str:
    (graph,) = CaptionParser().parse([caption])
    return graph.relations[0].lemma


def test_bundled_parser_loads_in_a_spawned_worker() -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(_first_relation, ["a man riding a horse"]) == ["ride"]


def test_split_depends_on_the_image_alone() -> None:
    parts = [split_by_hash(str(image), per_mille_test=100, per_mille_dev=20) for image in range(2_000)]
    assert parts == [
        split_by_hash(str(image), per_mille_test=100, per_mille_dev=20) for image in range(2_000)
    ]
    assert 150 <= parts.count("test") <= 250
    assert 20 <= parts.count("dev") <= 60


def test_photo_number_joins_flickr8k_and_flickr30k() -> None:
    assert photo_number("1000268201_693b08cb0e.jpg") == photo_number("1000268201.jpg") == "1000268201"


def test_gloss_is_cut_into_definition_and_examples() -> None:
    line = '00001740 03 n 01 entity 0 000 | that which is perceived; "an example of it"; "one more of it"'
    assert [piece.text for piece in split_gloss(line, "data.noun")] == [
        "that which is perceived",
        "an example of it",
        "one more of it",
    ]
    assert list(split_gloss("  1 This software and database is provided", "data.noun")) == []


def test_variant_keeps_the_structure() -> None:
    caption = TaggedCaption(
        name="x",
        words=("a", "red", "dog", "."),
        spaces=(True, True, True, False),
        tags=("DT", "JJ", "NN", "."),
    )
    pools = collect_words([caption, caption])
    pools["NN"] = ["cat"]
    assert vary(caption, pools=pools, share=1.0, seed="0") == "a red cat ."
    assert vary(caption, pools=pools, share=0.0, seed="0") == "a red dog ."


def test_web_text_is_lower_case_with_a_loose_full_stop() -> None:
    assert as_web_text("A dog runs. ") == "a dog runs ."
    assert as_web_text("A dog runs .") == "a dog runs ."


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.skipif(not REAL_DATA.exists(), reason="the real data is not beside the project")
def test_no_training_text_is_held_out_elsewhere() -> None:
    captions = list(read_all(REAL_DATA))
    held_out = {plain(caption.text) for caption in captions if caption.part != "train"}
    train = [caption for caption in captions if caption.part == "train"]
    assert len(train) >= 150_000
    assert not any(plain(caption.text) in held_out for caption in train)
    photos = {
        photo_number(caption.row)
        for caption in captions
        if caption.source == "flickr8k" and caption.part == "test"
    }
    assert not any(
        photo_number(caption.row) in photos for caption in train if caption.source.startswith("flickr")
    )
