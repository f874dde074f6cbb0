"""Bright, unsaturated, isolated stars in a mosaic, found band by band."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from batch.drizzling.coverage import COMMON_DEPTH
from batch.drizzling.lazy import FitsImage
from batch.photometry.sampling import CORE, RING, Sampling
from batch.photometry.shapes import Shape, measure_star

BAND = 512
"""Rows that are searched at a time. It is no setting: a band has its own sky and noise."""
FAINTEST = 30.0
"""Peak of a star over the noise of the sky: below, noise shapes it."""
NEIGHBOUR = 0.1
"""Nothing in the ring around a star may reach this part of its peak; its own wings stay well below."""
WIDTHS = (0.6, 2.0)
"""Limits of a star's width over the one expected: cosmic rays are narrower, galaxies and pairs wider."""
LONGEST = 0.5
"""Ellipticity beyond which it is a pair, or a trail."""
SPARE = 4
"""Candidates kept for each star wanted, because some will turn out to be none."""

Image = NDArray[np.float64]


class Star(NamedTuple):
    """Where a star is."""

    x: int
    y: int
    """Its brightest pixel in the mosaic."""
    peak: float
    """Above the sky, in the units of the mosaic."""

    def on_grid(self, factor: float) -> Star:
        """The same star on a grid of the same area with `factor` times as many pixels each way."""
        x, y = (math.floor((v + 0.5) * factor) for v in (self.x, self.y))
        # light per pixel
        return Star(x, y, self.peak / factor**2)


@dataclass(frozen=True)
class _Band:
    """Some rows of a mosaic, with what lies around them."""

    first: int
    """The mosaic's row of the first row here."""
    image: NDArray[np.float32]
    """Sky subtracted; 0 where there is no weight."""
    weight: NDArray[np.float32]
    noise: float
    depth: float
    """Weight where all exposures contribute."""


def find_stars(image: FitsImage, weight: FitsImage, sampling: Sampling, count: int) -> list[Star]:
    """Find the brightest of the stars that are fit to be measured.

    Parameters
    ----------
    image, weight : FitsImage
        A mosaic without gaps, so of a large pixfrac, and its weight.
    sampling : Sampling
    count : int
        How many are wanted.

    Returns
    -------
    list of Star
        Brightest first; fewer than `count`, even none, where there are no more. The same pixels give the same
        stars.
    """
    candidates: list[Star] = []
    for start in range(0, image.shape[0], BAND):
        band = _band(image, weight, start, sampling.reach)
        if band is not None:
            candidates += _isolated(band, range(start, start + BAND), sampling, SPARE * count)
    candidates.sort(key=lambda s: (-s.peak, s.y, s.x))
    stars: list[Star] = []
    for candidate in candidates[: SPARE * count]:
        if len(stars) == count:
            break
        shape = measure_star(*cutout(image, weight, candidate, sampling.reach), sampling)
        if shape is not None and _is_star(shape, sampling):
            stars.append(candidate)
    return stars


def cutout(image: FitsImage, weight: FitsImage, star: Star, reach: int) -> tuple[Image, Image]:
    """Pixels and weights around a star, each of shape (2 reach + 1, 2 reach + 1)."""
    rows = slice(star.y - reach, star.y + reach + 1)
    columns = slice(star.x - reach, star.x + reach + 1)
    return image[rows, columns].astype(np.float64), weight[rows, columns].astype(np.float64)


def _band(image: FitsImage, weight: FitsImage, start: int, reach: int) -> _Band | None:
    rows = slice(max(start - reach, 0), min(start + BAND + reach, image.shape[0]))
    values, weights = (np.asarray(m[rows, :], np.float32) for m in (image, weight))
    good = (weights > 0) & np.isfinite(values)
    if not good.any():
        return None
    # every fourth pixel each way tells sky and noise as well, and takes a sixteenth of the time
    thin = np.s_[::4, ::4]
    seen = values[thin][good[thin]] if good[thin].any() else values[good]
    sky = float(np.median(seen))
    # the darker half of the pixels tells the noise even where stars crowd
    noise = 1.4826 * float(np.median(sky - seen[seen <= sky]))
    depth = float(np.quantile(weights[good][::16], 0.9))
    return _Band(rows.start, np.where(good, values - np.float32(sky), np.float32(0)), weights, noise, depth)


def _isolated(band: _Band, rows: range, sampling: Sampling, most: int) -> list[Star]:
    """The brightest peaks of a band, at most `most`, that stand alone and are neither too bright nor thin."""
    reach, size = sampling.reach, 2 * round(sampling.fwhm / sampling.scale) + 1
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    radius = np.hypot(x, y)
    ring = (radius >= sampling.pixels(RING[0])) & (radius <= sampling.pixels(RING[1]))
    core = radius <= sampling.pixels(CORE)
    found = []
    for x0, y0, peak in _peaks(band, size):
        here = np.s_[y0 - reach : y0 + reach + 1, x0 - reach : x0 + reach + 1]
        pixels, weights = band.image[here], band.weight[here]
        if (
            y0 + band.first in rows
            and y0 >= reach
            and x0 >= reach
            and pixels.shape == ring.shape
            and peak < sampling.brightest
            and pixels[ring].max() < NEIGHBOUR * peak + 5 * band.noise
            and weights[core].min() > 0
            and np.median(weights[core]) >= COMMON_DEPTH * band.depth
            and np.count_nonzero(weights) >= 0.95 * weights.size
        ):
            found.append(Star(x0, y0 + band.first, peak))
        if len(found) == most:
            break
    return found


def _peaks(band: _Band, size: int) -> Iterator[tuple[int, int, float]]:
    """Zero-based columns, rows and heights of the local maxima, the highest first."""
    # seconds to import, and a report only wants cutouts
    from photutils.detection import find_peaks
    from photutils.utils.exceptions import NoDetectionsWarning

    with warnings.catch_warnings():
        # that there are none is an answer
        warnings.simplefilter("ignore", NoDetectionsWarning)
        table = find_peaks(band.image, max(FAINTEST * band.noise, 1e-30), box_size=size)
    if table is None:
        return
    columns, rows, heights = (np.asarray(table[n]) for n in ("x_peak", "y_peak", "peak_value"))
    for i in np.lexsort((columns, rows, -heights)):
        yield int(columns[i]), int(rows[i]), float(heights[i])


def _is_star(shape: Shape, sampling: Sampling) -> bool:
    width = shape.fwhm * sampling.scale / sampling.fwhm
    off = np.hypot(shape.x - sampling.reach, shape.y - sampling.reach)
    return bool(WIDTHS[0] <= width <= WIDTHS[1] and shape.ellipticity <= LONGEST and off <= 1.5)
