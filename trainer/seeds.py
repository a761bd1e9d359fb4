"""Randomness from what is given: the same numbers on every machine, with every version of torch."""

import hashlib
import math

import numpy as np
import torch
from torch import Tensor


def seeded_int(*parts: object) -> int:
    """A 63-bit seed from what is given, the same on every machine."""
    text = ":".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


def seeded_bytes(shape: tuple[int, ...], *parts: object) -> Tensor:
    """Uniform random bytes from what is given, the same with every version of torch: uint8 of that shape."""
    count = math.prod(shape)
    words = np.random.PCG64(seeded_int(*parts)).random_raw(-(-count // 8))
    return torch.from_numpy(words.astype("<u8").view(np.uint8)[:count]).reshape(shape)
