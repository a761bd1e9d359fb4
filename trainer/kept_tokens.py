"""Tokens that are made once and kept for every epoch, in a file without a name that worker processes share.

A caption costs 0.13 ms, a twentieth of what its image costs. A row is a checksum, the padding, the tokens before it;
the checksum says whether the row is whole, so that processes need no lock: they would all write the same.
"""

import mmap
import os
import tempfile
from collections.abc import Callable
from typing import Final

import numpy as np
import torch
from torch import Tensor

WIDTH: Final = 32
"""Tokens of a row: a caption that has more is made into tokens again each time."""
_LARGEST: Final = 2**16 - 1


class KeptTokens:
    """One row of tokens for each place; what cannot be kept is made anew."""

    def __init__(self, tokenizer: Callable[[list[str]], Tensor], num: int) -> None:
        self._tokenizer = tokenizer
        self._rows = _shared(num)

    def tokens(self, place: int | None, text: str) -> Tensor:
        """The text's tokens (L,); `place` is the text's own, in which no other is ever asked for; None: not kept."""
        if self._rows is None or place is None:
            return self._tokenizer([text])[0]
        row = self._rows[place]
        if row[0] and row[0] == _check(row):
            length, padding = int(row[1]), int(row[2])
            text_L = torch.full((length,), padding)
            text_L[:WIDTH] = torch.from_numpy(row[3 : 3 + length].astype(np.int64))
            return text_L
        text_L = self._tokenizer([text])[0]
        padding, tail = int(text_L[-1]), text_L[WIDTH:]
        if text_L.dtype == torch.int64 and int(text_L.max()) <= _LARGEST and bool((tail == padding).all()):
            row[1], row[2], row[3 : 3 + len(text_L)] = len(text_L), padding, text_L[:WIDTH].numpy()
            row[0] = _check(row)
        return text_L


def _check(row: "np.ndarray[tuple[int, ...], np.dtype[np.uint16]]") -> int:
    weights = np.arange(1, len(row), dtype=np.uint32)
    return int((row[1:] * weights).sum()) % _LARGEST + 1


def _shared(num: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint16]] | None":
    """Rows of zeros that forked processes share; None where the disk for temporary files has no place for them."""
    size = num * (3 + WIDTH) * 2
    try:
        with tempfile.TemporaryFile() as file:
            os.posix_fallocate(
                file.fileno(), 0, size
            )  # a page without a place on the disk would end the process
            memory = mmap.mmap(file.fileno(), size)
    except (OSError, AttributeError, ValueError):
        return None
    return np.frombuffer(memory, dtype=np.uint16).reshape(num, 3 + WIDTH)
