"""Mosaics with known stars."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from batch.drizzling.lazy import FitsImage
from batch.photometry.sampling import Sampling

NOISE = 0.01


@pytest.fixture(scope="session")
def sampling() -> Sampling:
    """WFC at 0.03 arcsec, four exposures of 300 s."""
    return Sampling(scale=0.03, native=0.05, fwhm=0.1, brightest=60.0)


@pytest.fixture(scope="session")
def gaussian() -> Callable[..., np.ndarray]:
    """The image of one elliptical star, integrated over each pixel by 9 x 9 points."""

    def build(
        size: tuple[int, int], x: float, y: float, flux: float, fwhm: float, ellipticity: float, angle: float
    ) -> np.ndarray:
        fine = (np.arange(9) - 4) / 9
        rows, columns = ((np.arange(n)[:, None] + fine).ravel() for n in size)
        dx, dy = columns[None, :] - x, rows[:, None] - y
        along = dx * np.cos(angle) + dy * np.sin(angle)
        across = dy * np.cos(angle) - dx * np.sin(angle)
        # the same area for every ellipticity
        major = fwhm / 2.3548 / np.sqrt(1 - ellipticity)
        minor = major * (1 - ellipticity)
        light = np.exp(-0.5 * ((along / major) ** 2 + (across / minor) ** 2)) / (2 * np.pi * major * minor)
        return flux * light.reshape(size[0], 9, size[1], 9).mean(axis=(1, 3))

    return build


@pytest.fixture
def field(tmp_path: Path, gaussian: Callable[..., np.ndarray]) -> Callable[..., tuple[FitsImage, FitsImage]]:
    """Write a mosaic with stars at given places, and its weight."""

    def write(
        stars: list[tuple[float, ...]],
        size: tuple[int, int] = (700, 160),
        weight: np.ndarray | None = None,
        name: str = "a",
    ) -> tuple[FitsImage, FitsImage]:
        image = np.random.default_rng(1).normal(0.5, NOISE, size)
        for x, y, flux, *shape in stars:
            fwhm, ellipticity, angle = shape or (3.3, 0.05, 0.4)
            low = max(int(y) - 30, 0), max(int(x) - 30, 0)
            cut = np.s_[low[0] : low[0] + 61, low[1] : low[1] + 61]
            part = image[cut]
            part += gaussian(part.shape, x - low[1], y - low[0], flux, fwhm, ellipticity, angle)
        weight = np.full(size, 1200.0) if weight is None else weight
        image[weight == 0] = np.nan
        fits.writeto(tmp_path / f"{name}_sci.fits", image.astype(np.float32))
        fits.writeto(tmp_path / f"{name}_wht.fits", weight.astype(np.float32))
        return tuple(FitsImage.find(tmp_path / f"{name}_{k}.fits", k) for k in ("sci", "wht"))

    return write
