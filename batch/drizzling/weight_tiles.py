"""Numbers of the weight in the tiles of a mosaic: where on it a pixfrac is too small.

A tile lies whole in one block, so that its median is taken of all its values at once and its standard
deviation always adds up in the same order: both are what NumPy in float64 gives for the tile, digit by digit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FULL = 0.5
"""A tile has numbers if this part of its pixels lies in the footprint; of fewer, rms says little."""

Map = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Tiles:
    """Numbers of some tiles of a grid; all arrays of one shape (rows, columns) of tiles."""

    row: int
    column: int
    """Where the first of them lies in the grid."""
    size: Counts
    """Pixels in the footprint."""
    zeros: Counts
    """Those without weight."""
    rms: Map
    """Standard deviation (of the population) of the weight; nan of too few pixels."""
    median: Map
    """nan of too few pixels."""

    @property
    def ratio(self) -> Map:
        """rms / median; inf where the median is zero, nan of too few pixels."""
        infinite = np.where(self.median == 0, np.inf, np.nan)
        return np.divide(self.rms, self.median, out=infinite, where=self.median > 0)


def tile_block(
    weights: NDArray[np.float32], inside: NDArray[np.bool_], side: int, first: tuple[int, int]
) -> Tiles:
    """Measure the tiles of a block.

    Parameters
    ----------
    weights : ndarray of float32, shape (ny, nx)
        Finite and not negative.
    inside : ndarray of bool, shape (ny, nx)
        Which of them count.
    side : int
        Side of a tile, pixels; those at the upper rims may be cut off.
    first : tuple of int
        Row and column of the block's first pixel in the mosaic, multiples of `side`.
    """
    rows, columns = (-(-n // side) for n in weights.shape)
    tiles = _nothing(first[0] // side, first[1] // side, (rows, columns))
    for row, column in np.ndindex(rows, columns):
        cut = slice(row * side, (row + 1) * side), slice(column * side, (column + 1) * side)
        values = weights[cut][inside[cut]]
        tiles.size[row, column] = values.size
        tiles.zeros[row, column] = values.size - np.count_nonzero(values)
        if values.size >= FULL * side**2:
            tiles.rms[row, column] = values.astype(np.float64).std()
            tiles.median[row, column] = _median(values)
    return tiles


def assemble(parts: Iterable[Tiles], shape: tuple[int, int]) -> Tiles:
    """The grid of `shape` tiles out of its parts."""
    whole = _nothing(0, 0, shape)
    for part in parts:
        rows, columns = part.size.shape
        place = slice(part.row, part.row + rows), slice(part.column, part.column + columns)
        for name in ("size", "zeros", "rms", "median"):
            getattr(whole, name)[place] = getattr(part, name)
    return whole


def _nothing(row: int, column: int, shape: tuple[int, int]) -> Tiles:
    empty, unknown = np.zeros((2, *shape), dtype=np.int64), np.full((2, *shape), np.nan)
    return Tiles(row, column, empty[0], empty[1], unknown[0], unknown[1])


def _median(values: NDArray[np.float32]) -> float:
    """The median in float64; to select needs no conversion, and half the memory."""
    middle = values.size // 2
    ranks = [middle] if values.size % 2 else [middle - 1, middle]
    return float(np.partition(values, ranks)[ranks].astype(np.float64).mean())
