"""Counts of pairs are written and read back, and the committed ones are whole."""

from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.lexicons.loading import default_folder
from pipeline.lexicons.pairs import ANY, OBJECTS, PAIRS_FILE, RELATIONS, PairCounts, read_pairs, write_pairs


def test_pairs_are_read_as_they_were_written_without_those_seen_once(tmp_path: Path) -> None:
    counts = PairCounts()
    counts.links[OBJECTS]["ride"].update({"mountain bike": 3, "horse": 5, "wave": 1})
    counts.links[RELATIONS][ANY].update({"@near": 2, "near": 4})
    (tmp_path / PAIRS_FILE).write_bytes(write_pairs(counts))
    found = read_pairs(tmp_path / PAIRS_FILE)
    assert found.of(OBJECTS, "ride") == {"horse": 5, "mountain bike": 3}
    assert found.of(OBJECTS, "eat") == {}
    assert found.count("relations", "near") == 6
    assert write_pairs(found) == write_pairs(counts)


@pytest.mark.parametrize("line", ["objects\tride\thorse", "friends\tride\thorse 3"])
def test_a_broken_line_is_told(tmp_path: Path, line: str) -> None:
    (tmp_path / PAIRS_FILE).write_text(line + "\n")
    with pytest.raises(UserError, match="line 1: not a line of pairs"):
        read_pairs(tmp_path / PAIRS_FILE)


def test_the_committed_pairs_are_small_and_know_what_is_ridden() -> None:
    file = default_folder() / PAIRS_FILE
    assert file.stat().st_size <= 5_000_000
    counts = read_pairs(file)
    ridden = counts.of(OBJECTS, "ride")
    assert {"bike", "horse", "wave"} <= set(sorted(ridden, key=lambda noun: -ridden[noun])[:20])
    assert write_pairs(counts) == file.read_bytes()
