"""Keys in one block of bytes: a sequence of texts like any other, and small."""

import random
import tracemalloc

import pytest

from pipeline.errors import UserError
from trainer import keys as keys_module
from trainer.keys import Keys

ODD = ["", "a", "000123", "größer/猫", "\udcff of a damaged name", "a\n", "x" * 300]


def test_keys_are_a_sequence_of_texts() -> None:
    keys = Keys(ODD)
    assert list(keys) == [keys[place] for place in range(len(keys))] == ODD
    assert (keys[-1], keys[1:3], keys[::-2]) == (ODD[-1], tuple(ODD[1:3]), tuple(ODD[::-2]))
    assert keys == Keys(ODD)
    assert keys not in (Keys(ODD[:-1]), Keys(["", "", *ODD[1:]]), ODD)
    for outside in (len(ODD), -len(ODD) - 1):
        with pytest.raises(IndexError):
            keys[outside]


def test_a_repeated_key_is_found() -> None:
    names = [f"{number:05d}" for number in range(2_000)]
    random.Random(0).shuffle(names)
    assert Keys(names).repeated() is None
    assert Keys([*names, "00777"]).repeated() == "00777"


def test_a_key_takes_its_bytes_and_few_more() -> None:
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    keys = Keys(f"{number:09d}" for number in range(50_000))
    each = (tracemalloc.get_traced_memory()[0] - before) / len(keys)
    tracemalloc.stop()
    assert 13 <= each < 16


def test_more_keys_than_fit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys_module, "MOST_BYTES", 10)
    with pytest.raises(UserError, match=r"first 2 samples take 4 GB"):
        Keys(["12345", "12345", "1"])
