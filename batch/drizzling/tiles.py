"""Compiled loops over a tile of the output: what reaches it, which chips did, and its finished pixels.

Output coordinates: pixel i covers i <= x < i + 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from batch.compile import inner, kernel

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Words = NDArray[np.uint32]


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
        sums_, seen_, context_ = sums[y + pad, 2 * pad :], seen[y], context[y]
        for x in range(seen_.size):
            u = np.uint64(x)
            weight = sums_[np.uint64(2 * x + 1)]
            context_[u] |= sign if weight != seen_[u] else np.int32(0)
            seen_[u] = weight


@inner
def _swap(words: Words) -> None:
    """Bring bytes into the order of FITS."""
    for x in range(words.size):
        n = words[np.uint64(x)]
        low = (n << np.uint32(24)) | ((n & np.uint32(0xFF00)) << np.uint32(8))
        words[np.uint64(x)] = np.uint32(
            low | ((n >> np.uint32(8)) & np.uint32(0xFF00)) | (n >> np.uint32(24))
        )


@kernel(
    "void(float64[:, ::1], float32[:, ::1], int32[:, :, ::1], int64, "
    "float32[:, :, ::1], uint32[:, :, ::1], int64, int64[::1])"
)
def finish(
    sums: Floats,
    void: Singles,
    context: NDArray[np.int32],
    pad: int,
    images: Singles,
    words: Words,
    column: int,
    counts: NDArray[np.int64],
) -> None:
    """Write a tile into a band of the output, big-endian as in FITS.

    Parameters
    ----------
    sums, void
        As in `kernels.drop`, with `pad` pixels around the tile; `void` is what pixels without weight get.
    context : int32 (planes, height, width)
    pad : int
    images, words : float32 and uint32 (2 + planes, height, columns of the output)
        The same memory: values and weights, then the planes of the context.
    column : int
        Where the tile begins.
    counts : int64 (2,)
        Pixels with weight, and those among them that are not finite, are added to these.
    """
    planes, height, width = context.shape
    end = column + width
    covered = not_finite = 0
    for y in range(height):
        sums_, void_ = sums[y + pad, 2 * pad :], void[y + pad, pad:]
        science, weights = images[0, y, column:end], images[1, y, column:end]
        for x in range(width):
            u = np.uint64(x)
            weight, value = sums_[np.uint64(2 * x + 1)], sums_[np.uint64(2 * x)]
            empty = np.float64(void_[u])
            science[u] = value / weight if weight > 0.0 else empty
            weights[u] = weight
        for x in range(width):
            u = np.uint64(x)
            used = weights[u] > 0
            covered += used
            not_finite += used & (not abs(science[u]) < np.inf)
        for plane in range(planes):
            bits, row = context[plane, y], words[2 + plane, y, column:end]
            for x in range(width):
                row[np.uint64(x)] = np.uint32(bits[np.uint64(x)])
        for image in range(2 + planes):
            _swap(words[image, y, column:end])
    counts[0] += covered
    counts[1] += not_finite
