"""Small versions of large mosaics, and the part of one that is worth a closer look; read band by band."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from batch.drizzling.coverage import PixelBox
from batch.drizzling.lazy import FitsImage

Picture = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Reduced:
    """A mosaic and its weight map, averaged over squares of `factor` x `factor` pixels."""

    factor: int
    image: Picture
    """Mean of the pixels with weight; nan where there are none. Shape (rows, columns)."""
    weight: Picture
    """Mean weight. Shape (rows, columns)."""


def reduce(image: FitsImage, weight: FitsImage, longest: int) -> Reduced:
    """Average a mosaic down until its longest side has at most `longest` pixels.

    Parameters
    ----------
    image, weight : FitsImage
        On one grid.
    longest : int
        Pixels.
    """
    factor = max(-(-max(image.shape) // longest), 1)
    rows, columns = (-(-n // factor) for n in image.shape)
    pictures = np.empty((2, rows, columns), dtype=np.float32)
    # at least 64 rows at a time: opening a file for a few rows costs more than reading them
    step = max(64 // factor, 1) * factor
    for first in range(0, image.shape[0], step):
        pixels, weights = (np.asarray(m[first : first + step, :], np.float64) for m in (image, weight))
        used = (weights > 0) & np.isfinite(pixels)
        total = _squares(np.where(used, pixels, 0), factor)
        count = _squares(used, factor)
        area = _squares(np.ones(used.shape), factor)
        target = slice(first // factor, first // factor + total.shape[0])
        with np.errstate(invalid="ignore"):
            pictures[0, target] = total / count
        pictures[1, target] = _squares(np.where(weights > 0, weights, 0), factor) / area
    return Reduced(factor, pictures[0], pictures[1])


def crowded(reduced: Reduced, side: int, shape: tuple[int, int]) -> PixelBox:
    """The most crowded part of a mosaic, to show at full resolution.

    It is the square with the most peaks, among those that have weight throughout; one saturated star with its
    trails is bright, but has few.

    Parameters
    ----------
    reduced : Reduced
    side : int
        Side of the part, pixels of the mosaic; less where the mosaic is smaller.
    shape : tuple of int
        Rows and columns of the mosaic.
    """
    side = min(side, *shape)
    tile = max(side // reduced.factor, 1)
    peaks = _peaks(reduced.image)
    candidates = [
        candidate
        for y0 in {0, tile // 2}
        for x0 in {0, tile // 2}
        for candidate in _tiles(peaks, reduced.weight > 0, tile, y0, x0)
    ]
    whole = max(c.covered for c in candidates)
    best = max((c for c in candidates if c.covered >= 0.98 * whole), key=lambda c: (c.peaks, -c.y, -c.x))
    y, x = (min(cell * reduced.factor, n - side) for cell, n in zip((best.y, best.x), shape, strict=True))
    return PixelBox(x, x + side, y, y + side)


class _Tile(NamedTuple):
    y: int
    x: int
    peaks: int
    covered: float
    """Fraction of its pixels that have weight."""


def _tiles(peaks: Mask, covered: Mask, tile: int, y0: int, x0: int) -> Iterator[_Tile]:
    """The squares of a grid that begins at row y0 and column x0, pixels of the reduced picture."""
    for y in range(y0, peaks.shape[0] - tile + 1, tile):
        for x in range(x0, peaks.shape[1] - tile + 1, tile):
            cut = slice(y, y + tile), slice(x, x + tile)
            yield _Tile(y, x, int(np.count_nonzero(peaks[cut])), float(covered[cut].mean()))


def _peaks(image: Picture) -> Mask:
    """Stars: pixels five times the noise above the sky, and well above all that lie two pixels away.

    Along the trail of a saturated star there is always a pixel two steps away that is as bright.
    """
    known = np.isfinite(image)
    if not known.any():
        return known
    sky = float(np.median(image[known]))
    # the darker half of the pixels tells the noise even where stars crowd
    noise = 1.4826 * float(np.median(sky - image[known & (image <= sky)]))
    filled = np.where(known, image, -np.inf)
    ring = np.ones((5, 5), dtype=bool)
    ring[1:4, 1:4] = False
    highest = filled == ndimage.maximum_filter(filled, size=3)
    alone = filled - sky > 1.3 * (ndimage.maximum_filter(filled, footprint=ring) - sky)
    peaks: Mask = highest & alone & (filled > sky + 5 * noise)
    return peaks


def _squares(values: NDArray[np.generic], factor: int) -> NDArray[np.float64]:
    """Sums over squares; those at the upper rims may be cut off."""
    starts = [np.arange(0, n, factor) for n in values.shape]
    rows = np.add.reduceat(values.astype(np.float64), starts[0], axis=0)
    result: NDArray[np.float64] = np.add.reduceat(rows, starts[1], axis=1)
    return result
