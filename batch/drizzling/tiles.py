"""Compiled loops over a tile of the output: what reaches it, which chips did, and its finished pixels.

Output coordinates: pixel i covers i <= x < i + 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from batch.compile import inner, kernel

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

_LARGEST = 3.4e38
"""A little below the largest float32."""


@kernel("void(float64[:, ::1], float64[:, ::1], int64, int64, float64, float64[::1], int32[:, ::1])")
def spans_of_tile(
    nodes_x: Floats,
    nodes_y: Floats,
    step: int,
    columns: int,
    margin: float,
    box: Floats,
    spans: NDArray[np.int32],
) -> None:
    """Find, for every row of a chip, the cells whose drops may touch a part of the output.

    Parameters
    ----------
    nodes_x, nodes_y : float64 (my, mx)
    step : int
    columns : int
        Pixels in a row of the chip.
    margin : float
        No drop reaches further from the line through the pixel centres of its row, output pixels.
    box : float64 (4,)
        The part: x0, y0, x1, y1.
    spans : int32 (ny, 2)
        Result: first and last + 1 cell, both 0 where there is none.
    """
    cells = columns // step + 1
    x0, y0, x1, y1 = box[0] - margin, box[1] - margin, box[2] + margin, box[3] + margin
    for row in range(spans.shape[0]):
        spans[row, 0] = spans[row, 1] = 0
    for band in range(spans.shape[0] // step + 1):
        first, last = cells, -1
        for k in range(cells):
            a, b, c, d = (
                nodes_x[band, k],
                nodes_x[band, k + 1],
                nodes_x[band + 1, k],
                nodes_x[band + 1, k + 1],
            )
            if max(max(a, b), max(c, d)) < x0 or min(min(a, b), min(c, d)) > x1:
                continue
            a, b, c, d = (
                nodes_y[band, k],
                nodes_y[band, k + 1],
                nodes_y[band + 1, k],
                nodes_y[band + 1, k + 1],
            )
            if max(max(a, b), max(c, d)) < y0 or min(min(a, b), min(c, d)) > y1:
                continue
            first, last = min(first, k), k
        for row in range(max(band * step - 1, 0), min(band * step + step - 1, spans.shape[0])):
            t = (row + 1) / step - band
            begin, end = cells, -1
            for k in range(first, last + 1):
                a = nodes_x[band, k] * (1 - t) + nodes_x[band + 1, k] * t
                b = nodes_x[band, k + 1] * (1 - t) + nodes_x[band + 1, k + 1] * t
                c = nodes_y[band, k] * (1 - t) + nodes_y[band + 1, k] * t
                d = nodes_y[band, k + 1] * (1 - t) + nodes_y[band + 1, k + 1] * t
                if max(a, b) >= x0 and min(a, b) <= x1 and max(c, d) >= y0 and min(c, d) <= y1:
                    begin, end = min(begin, k), k
            if end >= begin:
                spans[row, 0], spans[row, 1] = begin, end + 1


@kernel("void(float64[:, ::1], float64[:, ::1], int32[:, ::1], int64, int64)")
def mark(sums: Floats, seen: Floats, context: NDArray[np.int32], pad: int, bit: int) -> None:
    """Set a chip's bit where the weight has grown since the last call.

    Parameters
    ----------
    sums : float64 (height + 2 pad, 2 (width + 2 pad))
    seen, context : float64, int32 (height, width)
        The weights at the last call, and the bits; both are brought up to date.
    pad : int
    bit : int
    """
    # the last of 32 bits is the sign
    sign = np.int32(np.uint32(bit))
    for y in range(seen.shape[0]):
        for x in range(seen.shape[1]):
            weight = sums[y + pad, 2 * (x + pad) + 1]
            context[y, x] |= sign if weight != seen[y, x] else np.int32(0)
            seen[y, x] = weight


@inner
def _bits(number: float) -> np.uint32:
    """Those of a float32."""
    return np.uint32(np.float32(number).view(np.uint32))


@inner
def _swapped(number: np.uint32) -> np.uint32:
    """The bytes in the order of FITS."""
    low = (number << np.uint32(24)) | ((number & np.uint32(0xFF00)) << np.uint32(8))
    return np.uint32(low | ((number >> np.uint32(8)) & np.uint32(0xFF00)) | (number >> np.uint32(24)))


@kernel(
    "void(float64[:, ::1], float32[:, ::1], int32[:, :, ::1], int64, "
    "uint32[:, ::1], uint32[:, ::1], uint32[:, :, ::1], int64, int64[::1])"
)
def finish(
    sums: Floats,
    void: Singles,
    context: NDArray[np.int32],
    pad: int,
    science: NDArray[np.uint32],
    weights: NDArray[np.uint32],
    contexts: NDArray[np.uint32],
    column: int,
    counts: NDArray[np.int64],
) -> None:
    """Write a tile into a band of the output, big-endian as in FITS.

    Parameters
    ----------
    sums, void
        As in `mark`; `void` is what pixels without weight get.
    context : int32 (planes, height, width)
    pad : int
    science, weights : uint32 (height, columns of the output)
        The bytes of float32 images.
    contexts : uint32 (planes, height, columns of the output)
        The bytes of int32 images.
    column : int
        Where the tile begins.
    counts : int64 (2,)
        Pixels with weight, and those among them that are not finite, are added to these.
    """
    for y in range(context.shape[1]):
        for x in range(context.shape[2]):
            weight = sums[y + pad, 2 * (x + pad) + 1]
            value = (
                sums[y + pad, 2 * (x + pad)] / weight if weight > 0.0 else np.float64(void[y + pad, x + pad])
            )
            counts[0] += weight > 0.0
            counts[1] += weight > 0.0 and not abs(value) < _LARGEST
            science[y, column + x] = _swapped(
                _bits(value if weight > 0.0 else np.float64(void[y + pad, x + pad]))
            )
            weights[y, column + x] = _swapped(_bits(weight))
    for plane in range(context.shape[0]):
        for y in range(context.shape[1]):
            for x in range(context.shape[2]):
                contexts[plane, y, column + x] = _swapped(np.uint32(context[plane, y, x]))
