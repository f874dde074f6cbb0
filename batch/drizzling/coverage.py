"""Where a mosaic ought to have data, and where to measure: the footprint and the boxes.

Everything here works on *cells* of 8 x 8 output pixels of one weight map, that of the largest pixfrac. The
mean weight of a cell hardly depends on pixfrac (drizzling conserves weight), and bad pixels and gaps between
drops are smaller than a cell. At 1/64 of the pixels a 9,000 x 9,000 mosaic needs 10 MB, so that hole filling
and erosion, which cannot be done chunk by chunk, are done at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from batch.errors import InputError

CELL = 8
"""Side of a cell, output pixels."""
EDGE_CELLS = 2
"""So many cells are shaved off the footprint's rim: one may be covered in part, and in the next the outermost
drops of the single exposures end."""
HALF_DEPTH = 0.5
"""A place ought to have data if it has this fraction of the median depth: thin rims are left out."""
COMMON_DEPTH = 0.8
"""A cell belongs to the common coverage if it has this fraction of the greatest depth. One exposure of four
takes a quarter away; rejected cosmic rays and the varying size of WFC's pixels on the sky take less."""
_BLEMISH_CELLS = (
    2  # a star's core or a bad column, up to twice as wide, does not interrupt the common coverage
)
_MARGIN_CELLS = 4  # between boxes and the rim of the common coverage, where depth falls off
_SMALLEST_BOX = 16

Cells = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class PixelBox:
    """A rectangle of output pixels; zero-based, the upper limits are outside."""

    x0: int
    x1: int
    y0: int
    y1: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    def on_grid(self, factor: float) -> PixelBox:
        """The whole pixels of it on a grid of the same area with `factor` times as many pixels each way.

        Raises
        ------
        InputError
            If they are fewer than two each way.
        """
        # a box that spans whole pixels exactly must not lose some of them to rounding
        lows = (math.ceil(v * factor - 1e-6) for v in (self.x0, self.y0))
        highs = (math.floor(v * factor + 1e-6) for v in (self.x1, self.y1))
        (x0, y0), (x1, y1) = lows, highs
        if min(x1 - x0, y1 - y0) < 2:
            raise InputError.about(
                f"statistics.boxes {self}",
                f"holds {x1 - x0} x {y1 - y0} whole pixels of the coarsest grid",
                "give larger boxes, or leave out the coarsest of sweep.scale",
            )
        return PixelBox(x0, x1, y0, y1)

    def __str__(self) -> str:
        return f"x {self.x0}:{self.x1}, y {self.y0}:{self.y1}"


def cell_means(block: NDArray[np.float32]) -> Cells:
    """Mean of each cell.

    Parameters
    ----------
    block : ndarray of float32, shape (ny, nx)
        Weights; a cell that the block cuts off counts zeros outside.

    Returns
    -------
    ndarray of float64, shape (ceil(ny / 8), ceil(nx / 8))
    """
    ny, nx = (-(-n // CELL) * CELL for n in block.shape)
    whole = np.zeros((ny, nx), dtype=np.float64)
    whole[: block.shape[0], : block.shape[1]] = block
    # Sixteen additions in a fixed order: np.sum picks its order by the shape of the block, and the last digit
    # of a cell would depend on the chunks.
    columns = np.zeros((ny, nx // CELL))
    for i in range(CELL):
        columns += whole[:, i::CELL]
    total = np.zeros((ny // CELL, nx // CELL))
    for i in range(CELL):
        total += columns[i::CELL]
    return total / CELL**2


@dataclass(frozen=True)
class Coverage:
    """What the cells of the largest pixfrac's weight map tell."""

    depth: Cells
    """Mean weight of each cell."""
    covered: Mask
    """Cells with any weight, enclosed holes filled."""
    interior: Mask
    """`covered` without its rim."""
    nominal: float
    """Median depth of the interior's cells that have weight; 0 if there are none."""

    @property
    def deep(self) -> Mask:
        """Interior cells of at least half the nominal depth."""
        return self.interior & (self.depth >= HALF_DEPTH * self.nominal)

    @property
    def common(self) -> Mask:
        """Cells where all exposures contribute, small blemishes closed and the rim shaved off."""
        # the greatest depth, but for a few cells where chips or dithers happen to pile up
        greatest = np.quantile(self.depth[self.interior], 0.98, method="lower")
        deep = self.interior & (self.depth >= COMMON_DEPTH * greatest)
        closed = ndimage.binary_closing(deep, iterations=_BLEMISH_CELLS) & self.interior
        common: Mask = ndimage.binary_erosion(closed, iterations=_MARGIN_CELLS)
        return common


def survey(depth: Cells) -> Coverage:
    """Find the footprint.

    Parameters
    ----------
    depth : ndarray of float64, shape (rows, columns) of cells
        From `cell_means`.
    """
    covered = ndimage.binary_fill_holes(depth > 0)
    interior = ndimage.binary_erosion(covered, iterations=EDGE_CELLS)
    inside = depth[interior & (depth > 0)]
    return Coverage(depth, covered, interior, float(np.median(inside)) if inside.size else 0.0)


def check_boxes(boxes: tuple[PixelBox, ...], coverage: Coverage, shape: tuple[int, int]) -> None:
    """See that the user's boxes lie on the mosaic and inside the region covered.

    Raises
    ------
    InputError
        If one does not; the message says which and how far the coverage goes.
    """
    for box in boxes:
        sound = 0 <= box.x0 < box.x1 <= shape[1] and 0 <= box.y0 < box.y1 <= shape[0]
        if not (sound and coverage.covered[_cells(box, 1.0)].all()):
            raise _outside(box, coverage, shape, 1.0)


def try_boxes(boxes: tuple[PixelBox, ...], coverage: Coverage, shape: tuple[int, int], factor: float) -> None:
    """The same on an earlier mosaic of the same area; only what cannot come right later is refused.

    Parameters
    ----------
    boxes : tuple of PixelBox
        On the later grid.
    coverage : Coverage
    shape : tuple of int
        Rows and columns of the earlier mosaic.
    factor : float
        How many times as many pixels it has each way.

    Raises
    ------
    InputError
        As for `check_boxes`.
    """
    # drops of another size end in the next cell
    covered = ndimage.binary_dilation(np.pad(coverage.covered, 1), np.ones((3, 3)))
    for box in boxes:
        y, x = _cells(box, factor)
        inside = covered[y.start + 1 : y.stop + 1, x.start + 1 : x.stop + 1]
        if inside.shape != (y.stop - y.start, x.stop - x.start) or not inside.all():
            raise _outside(box, coverage, shape, factor)


def _cells(box: PixelBox, factor: float) -> tuple[slice, slice]:
    """Rows and columns of the cells that a box touches, on a grid with `factor` times as many pixels."""
    y, x = (
        slice(math.floor(low * factor / CELL), math.ceil(high * factor / CELL))
        for low, high in ((box.y0, box.y1), (box.x0, box.x1))
    )
    return y, x


def _outside(box: PixelBox, coverage: Coverage, shape: tuple[int, int], factor: float) -> InputError:
    rows, columns = (np.flatnonzero(coverage.covered.any(axis=a)) for a in (1, 0))
    ends = (int(columns[-1] + 1) * CELL, shape[1]), (int(rows[-1] + 1) * CELL, shape[0])
    x0, y0, x1, y1, width, height = (
        round(v / factor)
        for v in (int(columns[0]) * CELL, int(rows[0]) * CELL, *(min(e) for e in ends), shape[1], shape[0])
    )
    return InputError.about(
        f"statistics.boxes {box}",
        "lies outside the footprint of the exposures, at least in part",
        f"choose it inside; the {width} x {height} mosaic is covered within {PixelBox(x0, x1, y0, y1)}, "
        "but not all of that rectangle need be",
    )


def choose_boxes(coverage: Coverage, shape: tuple[int, int], size: int, count: int) -> tuple[PixelBox, ...]:
    """Place boxes in the common coverage, as far apart as they can be: its corners first.

    Parameters
    ----------
    coverage : Coverage
    shape : tuple of int
        Rows and columns of the mosaic, output pixels.
    size : int
        Side wanted, output pixels; rounded down to whole cells and halved until a box fits.
    count : int
        How many boxes at most; they do not overlap.

    Raises
    ------
    InputError
        If not even a box of 16 x 16 pixels fits.
    """
    common = coverage.common
    side = max(size, _SMALLEST_BOX) // CELL
    while side * CELL >= _SMALLEST_BOX:
        corners = _places(common, side, shape)
        if corners.size:
            return tuple(
                PixelBox(int(x) * CELL, int(x + side) * CELL, int(y) * CELL, int(y + side) * CELL)
                for y, x in _spread(corners, np.argwhere(common).mean(axis=0) - side / 2, side, count)
            )
        side //= 2
    raise InputError.about(
        "weight maps",
        f"no box of {_SMALLEST_BOX} x {_SMALLEST_BOX} pixels fits where all exposures contribute",
        "see that the exposures overlap, or give statistics.boxes",
    )


def _places(common: Mask, side: int, shape: tuple[int, int]) -> NDArray[np.int64]:
    """Lower left cells, shape (n, 2), of the squares of `side` cells that lie in the common coverage."""
    whole = common[: shape[0] // CELL, : shape[1] // CELL]
    if min(whole.shape) < side:
        return np.empty((0, 2), dtype=np.int64)
    total = np.zeros((whole.shape[0] + 1, whole.shape[1] + 1), dtype=np.int64)
    total[1:, 1:] = whole.cumsum(axis=0).cumsum(axis=1)
    inside = total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side]
    return np.argwhere(inside == side * side)


def _spread(
    corners: NDArray[np.int64], centre: NDArray[np.float64], side: int, count: int
) -> list[NDArray[np.int64]]:
    """The place farthest from the centre, then again and again the one farthest from those taken."""
    chosen = [corners[int(np.argmax(np.hypot(*(corners - centre).T)))]]
    apart = np.full(len(corners), np.inf)
    while len(chosen) < count:
        apart = np.minimum(apart, np.abs(corners - chosen[-1]).max(axis=1))
        farthest = int(np.argmax(apart))
        if apart[farthest] < side:
            break
        chosen.append(corners[farthest])
    return chosen
