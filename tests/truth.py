"""What a mosaic shows of the truth of a simulated visit: positions and fluxes of stars."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from astropy.table import Table
from astropy.wcs import WCS
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, maximum_filter
from scipy.spatial import cKDTree

from batch.simulation.psf import encircled

APERTURE = 10.0
"""Radius of the photometry, output pixels of 0.03 arcsec."""
SKY = (24.0, 34.0)
"""Ring of its sky."""


@dataclass(frozen=True)
class Measured:
    """Isolated, unsaturated stars in a mosaic, all exposures deep."""

    offset: NDArray[np.float64]
    """(stars, 2): measured minus true position, output pixels."""
    ratio: NDArray[np.float64]
    """Measured over true flux."""


def measure(
    image: NDArray[np.float64], wcs: WCS, context: NDArray[np.int32], exposures: int, stars: Table
) -> Measured:
    """Find the stars of the truth in a mosaic, and measure those that stand alone.

    Parameters
    ----------
    image : ndarray of float64, shape (rows, columns)
        e-/s; NaN or 0 without weight.
    wcs : WCS
        Of the mosaic.
    context : ndarray of int32, shape (rows, columns)
        Which exposures lie on a pixel, as bits.
    exposures : int
        How many there are: only stars that all of them cover are measured.
    stars : Table
        RA, DEC (deg), FLUX (e-/s).
    """
    image = _filled(image)
    context = context[0] if context.ndim == 3 else context
    x, y = wcs.all_world2pix(stars["RA"], stars["DEC"], 0)
    flux = np.asarray(stars["FLUX"])
    shift = _common_shift(image, np.column_stack([x, y])[(flux > 20) & (flux < 300)])
    tree = cKDTree(np.column_stack([x, y]))
    offsets, ratios = [], []
    for i in np.flatnonzero((flux > 20) & (flux < 190)):
        near = [j for j in tree.query_ball_point([x[i], y[i]], 20) if j != i]
        near += [j for j in tree.query_ball_point([x[i], y[i]], 70) if flux[j] > 20 * flux[i]]
        col, row = (round(float(v)) for v in (x[i] + shift[0], y[i] + shift[1]))
        box = np.s_[row - 40 : row + 41, col - 40 : col + 41]
        if (
            flux[near].sum() > 0.01 * flux[i]
            or image[box].shape != (81, 81)
            or not np.isfinite(image[box].sum())
        ):
            continue
        if not (context[box][28:53, 28:53] == 2**exposures - 1).all():
            continue
        u, v = _windowed(image[box], x[i] + shift[0] - col + 40, y[i] + shift[1] - row + 40)
        offsets.append((u + col - 40 - x[i], v + row - 40 - y[i]))
        ratios.append(_aperture(image[box], u, v) / (flux[i] * encircled(APERTURE * 0.03 / 0.05)))
    return Measured(np.array(offsets), np.array(ratios))


def _filled(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pixels without weight, single ones inside the field at a small pixfrac, from those around them."""
    good = np.isfinite(image)
    value, weight = (gaussian_filter(a, 1.0) for a in (np.where(good, image, 0.0), good.astype(float)))
    return np.where(good, image, value / np.maximum(weight, 0.1))


def _common_shift(image: NDArray[np.float64], stars: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where the histogram of offsets between peaks and stars has its maximum, within 60 pixels."""
    smooth = gaussian_filter(np.nan_to_num(image), 1.5)
    rows, cols = np.nonzero((smooth == maximum_filter(smooth, 15)) & (smooth > 0.4))
    peaks = np.column_stack([cols, rows])
    pairs = cKDTree(peaks).query_ball_point(stars, 60)
    offsets = np.concatenate([peaks[p] - s for p, s in zip(pairs, stars, strict=True) if p])
    counts, *edges = np.histogram2d(*offsets.T, bins=120, range=[[-60, 60]] * 2)
    peak = np.unravel_index(np.argmax(counts), counts.shape)
    guess = np.array([e[p] + 0.5 for e, p in zip(edges, peak, strict=True)])
    return np.asarray(np.median(offsets[np.abs(offsets - guess).max(axis=1) < 1.5], axis=0))


def _windowed(image: NDArray[np.float64], x: float, y: float, sigma: float = 2.0) -> tuple[float, float]:
    """Centroid in a Gaussian window that follows it."""
    rows, cols = np.indices(image.shape)
    for _ in range(20):
        weight = image * np.exp(-((cols - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))
        x += 2 * float((weight * (cols - x)).sum() / weight.sum())
        y += 2 * float((weight * (rows - y)).sum() / weight.sum())
    return x, y


def _aperture(image: NDArray[np.float64], x: float, y: float) -> float:
    rows, cols = np.indices(image.shape)
    distance = np.hypot(cols - x, rows - y)
    sky = np.median(image[(distance > SKY[0]) & (distance < SKY[1])])
    return float((np.clip(APERTURE + 0.5 - distance, 0, 1) * (image - sky)).sum())


def rms(offsets: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sqrt(np.mean(offsets**2, axis=0))
