"""The blind test finds what gives negatives away, and nothing where nothing does."""

import random
from pathlib import Path

import pytest

from pipeline.captions.readers import InputOptions
from pipeline.errors import UserError
from pipeline.looking.audit import AuditOptions, Pair, audit, blind_test, read_rows
from pipeline.stages import PipelineOptions, run_stages

NOUNS = ("dog", "cat", "horse", "bird", "cow", "sheep")


def rows(negative: str, *, num: int = 200) -> list[list[Pair]]:
    """Captions whose positives and negatives are drawn alike, but for the form of the negative."""
    rng = random.Random(0)
    return [
        [
            Pair(
                positive=f"{rng.choice(NOUNS)} on {rng.choice(NOUNS)}",
                negative=negative.format(rng.choice(NOUNS), rng.choice(NOUNS)),
                kind="object",
            )
        ]
        for _ in range(num)
    ]


def test_negatives_like_positives_are_not_told() -> None:
    every, _, _, objects = blind_test(rows("{} on {}"), rows("{} on {}", num=150))
    assert (every.kind, every.learnt, every.tried) == ("all", 200, 150)
    assert objects.kind == "object"
    for area in (every.words, every.form, objects.words, objects.form):
        assert area == pytest.approx(0.5, abs=0.1)


def test_a_word_of_negatives_alone_is_told_by_words() -> None:
    every = blind_test(rows("{} on zebra{}"), rows("{} on zebra{}"))[0]
    assert every.words == pytest.approx(1, abs=0.01)


def test_spacing_is_told_by_form_alone() -> None:
    every = blind_test(rows("{}  on {}"), rows("{}  on {}"))[0]
    assert every.words == pytest.approx(0.5, abs=0.1)
    assert every.form == 1


def test_a_kind_with_too_few_captions_has_no_figure() -> None:
    attribute = blind_test(rows("{} on {}"), rows("{} on {}"))[1]
    assert (attribute.kind, attribute.learnt, attribute.words, attribute.form) == ("attribute", 0, None, None)


def made(tmp_path: Path, lines: list[str]) -> Path:
    source = tmp_path / "captions.tsv"
    source.write_text("".join(f"{line}\thttp://x\n" for line in lines))
    run_stages(
        PipelineOptions(
            source=InputOptions(input=str(source)),
            out=tmp_path / "out",
            stages=("captions", "scene_graphs", "subcaptions"),
        )
    )
    return tmp_path / "out"


def test_a_folder_is_read_each_text_once_and_in_the_seeds_order(tmp_path: Path) -> None:
    out = made(
        tmp_path,
        [*(f"a black dog chasing a red {noun}" for noun in NOUNS), "a black dog chasing a red cat", "!"],
    )
    found = read_rows(out, num=10, seed=0)
    assert len(found) == len(NOUNS)
    assert all(len(pairs) == 10 and pairs[0].positive.startswith("black dog chasing red") for pairs in found)
    assert found == read_rows(out, num=10, seed=0) != read_rows(out, num=10, seed=1)
    assert found[:2] == read_rows(out, num=2, seed=0)
    halves, across = audit(out, AuditOptions())[0], audit(out, AuditOptions(tried_on=out))[0]
    assert (halves.learnt, halves.tried, across.learnt, across.tried) == (3, 3, 6, 6)


def test_mistakes_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="augment-captions"):
        audit(tmp_path, AuditOptions())
    with pytest.raises(UserError, match="--captions 3: give 40 or more"):
        AuditOptions(captions=3)
