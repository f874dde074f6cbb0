"""Independent streams of random numbers, one for each purpose."""

from __future__ import annotations

import zlib

import numpy as np


def stream(seed: int, *purpose: str | int) -> np.random.Generator:
    """Give the generator that belongs to a purpose.

    Two purposes never share a stream, so that one more exposure, or cosmic rays switched off, leave the rest
    of a visit as it was.
    """
    return np.random.default_rng([seed, *(zlib.crc32(str(p).encode()) for p in purpose)])
