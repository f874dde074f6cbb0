"""Weight maps with known truth: square drops of a regular grid, laid on output pixels by exact overlap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

PITCH = 5 / 3
"""Input pixels in output pixels, as 0.05 arcsec in 0.03 arcsec."""


def _profile(size: int, offset: float, pixfrac: float, margin: int) -> np.ndarray:
    """Coverage of each output pixel of a line by drops of the given pixfrac; its mean is 1."""
    profile = np.zeros(size)
    for k in range(int(margin / PITCH), int((size - margin) / PITCH)):
        centre = (k + 0.5 + offset) * PITCH
        low, high = centre - pixfrac * PITCH / 2, centre + pixfrac * PITCH / 2
        for pixel in range(int(low), int(high) + 1):
            profile[pixel] += max(min(high, pixel + 1) - max(low, pixel), 0) / pixfrac
    return profile


@pytest.fixture
def drizzled() -> Callable[..., np.ndarray]:
    """Build the weight map of dithered exposures on an otherwise empty grid."""

    def build(
        pixfrac: float,
        size: int = 200,
        exptimes: Sequence[float] = (339.0, 339.0, 339.0, 339.0),
        margin: int = 10,
    ) -> np.ndarray:
        dithers = np.random.default_rng(8).uniform(0, 1, (len(exptimes), 2))
        return sum(
            t * np.outer(_profile(size, dy, pixfrac, margin), _profile(size, dx, pixfrac, margin))
            for t, (dy, dx) in zip(exptimes, dithers, strict=True)
        ).astype(np.float32)

    return build


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., dict[float, Path]]:
    """Write weight maps as AstroDrizzle does with build=False: in the primary HDU."""

    def write(maps: dict[float, np.ndarray]) -> dict[float, Path]:
        paths = {p: tmp_path / f"v_pf{p:g}_drz_wht.fits" for p in maps}
        for p, path in paths.items():
            fits.writeto(path, maps[p])
        return paths

    return write
