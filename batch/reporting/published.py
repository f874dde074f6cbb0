"""The curve that the ACS drizzling tutorial gives for a real visit, to lay under one's own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

NAME = "J9L960010"
CURVE = {
    0.1: 0.652,
    0.2: 0.571,
    0.3: 0.500,
    0.4: 0.426,
    0.5: 0.351,
    0.6: 0.277,
    0.7: 0.205,
    0.8: 0.141,
    0.9: 0.090,
    1.0: 0.068,
}
"""RMS/median of the weight by pixfrac: WFC, four exposures, square kernel, output pixels of 0.03 arcsec."""
_EXPOSURES, _SCALE = 4, 0.03


def is_comparable(
    wish: Literal["auto", "always", "never"],
    detectors: Sequence[str],
    grid: Mapping[str, Any],
    kernel: str,
) -> bool:
    """Tell whether the published curve belongs in a picture.

    Parameters
    ----------
    wish : str
        The setting; ``auto`` asks that the visit be like the published one.
    detectors : sequence of str
        Of each exposure.
    grid : mapping
        With the CD matrix of the mosaic, ``cd``, deg per pixel.
    kernel : str
        Of the drizzle.
    """
    if wish != "auto":
        return wish == "always"
    if "cd" not in grid:
        return False
    (a, b), (c, d) = grid["cd"]
    scale = 3600 * math.sqrt(abs(a * d - b * c))
    return list(detectors) == ["WFC"] * _EXPOSURES and kernel == "square" and abs(scale / _SCALE - 1) < 0.01
