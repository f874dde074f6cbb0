"""Compiled loops of the drizzle: corners of drops, overlap areas, sums.

A drop is an input pixel shrunk by pixfrac about its centre; its four corners are mapped to the output, and
its weight is shared among output pixels in proportion to the overlap with the quadrilateral between them
(Fruchter & Hook 2002, PASP 114, 144, kernel "square").

Work goes by runs of drops of one input row, so that loops over the drops of a run become vector
instructions. The state of a run is one array of rows of LANES numbers:

======== ==========================================================================================
0 .. 3   x of the corners (left bottom, right bottom, right top, left top)
4 .. 7   y of the corners
0 .. 19  in place of the corners, for each edge in turn: y of its lower end, x and y of its upper end,
         slope dx / dy, and dy / |dx| with the sign of the sense in which it is passed
20       number of the tile's pixel (row by row) at the lower left of the drop's bounding box, from
         which coordinates are measured; -1 where the box does not lie in the tile
21, 22   one over the area of the drop; the area that is taken for no overlap
23 ..    overlaps by output pixel, K x K row by row
======== ==========================================================================================

The area of a polygon where x > c and y > r is the sum over its edges, cut at y = r, of the integral of
max(x - c, 0) dy. With a and b the values of max(x - c, 0) at the ends of the cut edge that is half of
dy / |dx| (a + b) |a - b|, and |a - b| is the smaller of max(a, b) and the cut edge's |dx|: no small
difference is taken however upright the edge. Overlaps with pixels are second differences of these areas;
all are doubled, as they end as fractions of the drop.

Output coordinates: pixel i covers i <= x < i + 1. Every sum is made in one order, that of the chips, rows
and columns of the input, however the output is cut up.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from batch.compile import inner, kernel
from batch.drizzling import pairs
from batch.drizzling.pairs import add_pair

LANES = 112
VECTOR = 16
"""Loops over lanes run in multiples of this: the compiler takes four vectors at a time at most, and lanes
that are left over one by one."""
STATE = 23
SIZES = (2, 3, 4, 6, 12)
"""Sides of the boxes of output pixels that drops may reach; the smallest that fits is used."""
PAD = SIZES[-1]
"""Pixels around a tile that drops at its border may spill into."""

_TWO, _THREE, _FOUR, _SIX, _TWELVE = (tuple(float(c) for c in range(size)) for size in SIZES)
_ROW = tuple(np.uint64(number * LANES) for number in range(STATE))
"""Where the rows of the state begin (`_row`): as an argument each number would be compiled by itself."""
_STEPS = np.arange(LANES + 1.0)
"""Whole numbers: there is no vector instruction that makes them from integers of 64 bits."""
_UPRIGHT = 1e-12
_LEVEL = 1e-30
"""Least |dx| of an edge in divisions, and what keeps dy from zero, output pixels; corners stay in place."""
_ROUNDING = 1e-14

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Frame = tuple[float, float, float, float, float]
"""Output column and row of a tile's first pixel, column and row in it where the last box may begin, width."""


@inner
def _row(number: int) -> np.uint64:
    """Where a row of the state begins; unsigned, so that no index is tested for being negative."""
    return np.uint64(number * LANES)


@inner
def _edge(xa: float, ya: float, xb: float, yb: float) -> tuple[float, float, float, float, float]:
    """The five numbers of an edge from corner a to corner b."""
    dx, dy = xb - xa, yb - ya
    run, rise = max(abs(dx), _UPRIGHT), dy + _LEVEL
    # one division for both quotients: it takes as long as ten products
    inverse = 1.0 / (run * rise)
    slope = (run if dx >= 0.0 else -run) * run * inverse
    return min(ya, yb), xb if dy >= 0.0 else xa, max(ya, yb), slope, dy * rise * inverse


@inner
def _edges(s: Floats, count: int, frame: Frame) -> None:
    """Corners to edges."""
    left, bottom, right, top, width = frame
    for lane in range(count):
        u = np.uint64(lane)
        x0, x1, x2, x3 = s[u], s[u + _ROW[1]], s[u + _ROW[2]], s[u + _ROW[3]]
        y0, y1, y2, y3 = s[u + _ROW[4]], s[u + _ROW[5]], s[u + _ROW[6]], s[u + _ROW[7]]
        i = np.floor(min(min(x0, x1), min(x2, x3)))
        j = np.floor(min(min(y0, y1), min(y2, y3)))
        x0, x1, x2, x3 = x0 - i, x1 - i, x2 - i, x3 - i
        y0, y1, y2, y3 = y0 - j, y1 - j, y2 - j, y3 - j
        x, y = i - left, j - bottom
        # also false where the mapping gave no number
        inside = (x >= 0.0) & (x <= right) & (y >= 0.0) & (y <= top)
        s[u + _ROW[20]] = y * width + x if inside else -1.0
        a, b, c, d, e = _edge(x0, y0, x1, y1)
        s[u], s[u + _ROW[1]], s[u + _ROW[2]], s[u + _ROW[3]], s[u + _ROW[4]] = a, b, c, d, e
        a, b, c, d, e = _edge(x1, y1, x2, y2)
        s[u + _ROW[5]], s[u + _ROW[6]], s[u + _ROW[7]], s[u + _ROW[8]], s[u + _ROW[9]] = a, b, c, d, e
        a, b, c, d, e = _edge(x2, y2, x3, y3)
        s[u + _ROW[10]], s[u + _ROW[11]], s[u + _ROW[12]], s[u + _ROW[13]], s[u + _ROW[14]] = a, b, c, d, e
        a, b, c, d, e = _edge(x3, y3, x0, y0)
        s[u + _ROW[15]], s[u + _ROW[16]], s[u + _ROW[17]], s[u + _ROW[18]], s[u + _ROW[19]] = a, b, c, d, e


@inner
def _cut(s: Floats, u: np.uint64, r: float) -> tuple[float, float]:
    """An edge above y = r: x where it begins, and its |dx|."""
    y1 = s[u + _ROW[2]]
    height = y1 - min(max(s[u], r), y1)
    dx = s[u + _ROW[3]] * height
    return s[u + _ROW[1]] - dx, abs(dx)


@inner
def _right(x1: float, x: float, dx: float, factor: float, c: float) -> float:
    """What a cut edge adds to the area right of x = c."""
    if c == 0.0:  # all of it
        return factor * dx * (x1 + x)
    a, b = max(x1 - c, 0.0), max(x - c, 0.0)
    return factor * (a + b) * min(dx, max(a, b))


@inner
def _areas(s: Floats, count: int, frame: Frame, columns: Any) -> None:
    """Overlap of each drop with the pixels of its box, as fractions of the drop.

    The length of the tuple `columns` is K: a part of its type, so that loops over it are unrolled.
    """
    size = len(columns)
    _edges(s, count, frame)
    for r in range(size):
        at = _row(STATE + r * size)
        for lane in range(count):
            u = np.uint64(lane)
            p1, p, p_dx, p_factor = (s[u + _ROW[1]], *_cut(s, u, r), s[u + _ROW[4]])
            q1, q, q_dx, q_factor = (s[u + _ROW[6]], *_cut(s, u + _ROW[5], r), s[u + _ROW[9]])
            v1, v, v_dx, v_factor = (s[u + _ROW[11]], *_cut(s, u + _ROW[10], r), s[u + _ROW[14]])
            w1, w, w_dx, w_factor = (s[u + _ROW[16]], *_cut(s, u + _ROW[15], r), s[u + _ROW[19]])
            right = 0.0
            for n in range(size):
                c = size - 1 - n
                area = (
                    _right(p1, p, p_dx, p_factor, c)
                    + _right(q1, q, q_dx, q_factor, c)
                    + _right(v1, v, v_dx, v_factor, c)
                    + _right(w1, w, w_dx, w_factor, c)
                )
                s[u + at + _row(c)] = area - right
                right = area
    for lane in range(count):
        u = np.uint64(lane)
        whole = 0.0
        for c in range(size):
            whole += s[u + _row(STATE + c)]
        inverse = 1.0 / whole if whole != 0.0 else 0.0
        s[u + _ROW[21]] = inverse
        s[u + _ROW[22]] = _ROUNDING * abs(inverse)
    for r in range(size):
        at = _row(STATE + r * size)
        for lane in range(count):
            u = np.uint64(lane)
            inverse, nothing = s[u + _ROW[21]], s[u + _ROW[22]]
            for c in range(size):
                area = s[u + at + _row(c)]
                if r + 1 < size:
                    area -= s[u + at + _row(c + size)]
                area *= inverse
                s[u + at + _row(c)] = area if area > nothing else 0.0


@inner
def _add(
    s: Floats,
    first: int,
    last: int,
    values: Singles,
    weights: Singles,
    start: int,
    sums: Floats,
    void: Singles,
    columns: Any,
) -> None:
    """Add drops `first` to `last` of a run, which are input columns `start` + lane, to the tile's sums."""
    size = len(columns)
    width = np.uint64(void.shape[1])
    all_sums, all_void = sums.reshape(-1), void.reshape(-1)
    for lane in range(first, last):
        u = np.uint64(lane)
        if s[u + _ROW[20]] < 0.0:
            continue
        # by way of a signed one, for which there is an instruction
        pixel = np.uint64(np.int64(s[u + _ROW[20]]))
        column = np.uint64(start + lane)
        value, weight = np.float64(values[column]), np.float64(weights[column])
        if weight > 0.0:
            value *= weight
            for r in range(size):
                at = pixel + np.uint64(r) * width
                for c in range(size):
                    share = s[u + _row(STATE + r * size + c)]
                    add_pair(all_sums, np.uint64(2) * (at + np.uint64(c)), share, value, weight)
        else:
            for r in range(size):
                at = pixel + np.uint64(r) * width
                for c in range(size):
                    if s[u + _row(STATE + r * size + c)] > 0.0:
                        all_void[at + np.uint64(c)] = value


@inner
def _share(
    s: Floats,
    count: int,
    first: int,
    last: int,
    values: Singles,
    weights: Singles,
    start: int,
    origin: NDArray[np.int64],
    size: int,
    sums: Floats,
    void: Singles,
) -> None:
    """Areas and sums of a run whose corners are set."""
    # what stands in the lanes on to the next whole vector is of no use, and of no harm
    count = -(-count // VECTOR) * VECTOR
    right, top, width = void.shape[1] - size, void.shape[0] - size, void.shape[1]
    frame = float(origin[0]), float(origin[1]), float(right), float(top), float(width)
    if size == 2:
        _areas(s, count, frame, _TWO)
        _add(s, first, last, values, weights, start, sums, void, _TWO)
    elif size == 3:
        _areas(s, count, frame, _THREE)
        _add(s, first, last, values, weights, start, sums, void, _THREE)
    elif size == 4:
        _areas(s, count, frame, _FOUR)
        _add(s, first, last, values, weights, start, sums, void, _FOUR)
    elif size == 6:
        _areas(s, count, frame, _SIX)
        _add(s, first, last, values, weights, start, sums, void, _SIX)
    else:
        _areas(s, count, frame, _TWELVE)
        _add(s, first, last, values, weights, start, sums, void, _TWELVE)


@inner
def _line(nodes: Floats, step: int, y: float, first: int, last: int, line: Floats) -> None:
    """Nodes `first` to `last` of the mapping, interpolated at input row coordinate `y`."""
    k = int(y // step)
    t = y / step - k
    for i in range(first, last + 1):
        line[i] = nodes[k, i] * (1.0 - t) + nodes[k + 1, i] * t


@inner
def _ends(
    line: Floats, first: int, last: int, step: int, half: float, s: Floats, left: np.uint64, right: np.uint64
) -> None:
    """Left and right corners of the drops of cells `first` to `last` - 1, interpolated along a line of nodes.

    Cell k holds the pixels k step to k step + step - 1 (counted from 1); the left corner of its first pixel
    lies in cell k - 1. `left` and `right` are where their rows of the state begin.
    """
    whole = -(-step // VECTOR) * VECTOR
    if first > 0:
        s[left] = line[first - 1] + (line[first] - line[first - 1]) / step * (step - half)
    else:
        s[left] = line[0]
    for cell in range(first, last):
        a, d = line[cell], (line[cell + 1] - line[cell]) / step
        # on to a whole vector: the next cell writes over the rest
        at = np.int64(right) + (cell - first) * step
        for t in range(whole):
            s[np.uint64(at + t)] = a + d * (_STEPS[np.uint64(t)] + half)
        at = np.int64(left) + (cell - first) * step + 1
        for t in range(whole):
            s[np.uint64(at + t)] = a + d * (_STEPS[np.uint64(t + 1)] - half)


@kernel(
    "void(float64[:, ::1], float64[:, ::1], int64, float64, float32[:, ::1], float32[:, ::1], "
    "int32[:, ::1], int64[::1], int64, float64[:, ::1], float32[:, ::1], float64[:, ::1], float64[::1])",
    uses=(pairs,),
)
def drop(
    nodes_x: Floats,
    nodes_y: Floats,
    step: int,
    pixfrac: float,
    values: Singles,
    weights: Singles,
    spans: NDArray[np.int32],
    origin: NDArray[np.int64],
    size: int,
    sums: Floats,
    void: Singles,
    lines: Floats,
    s: Floats,
) -> None:
    """Add one chip to the sums of one tile at one pixfrac, with interpolated mapping.

    Parameters
    ----------
    nodes_x, nodes_y : float64 (my, mx)
        Output coordinates of the nodes of the mapping, at input coordinates 0, step, 2 step, ... (pixel
        centres are whole numbers from 1).
    step : int
        At most LANES - VECTOR.
    pixfrac : float
    values, weights : float32 (ny, nx)
        Of the input pixels.
    spans : int32 (ny, 2)
        First and last + 1 cell of each row that may touch the tile (`spans_of_tile`).
    origin : int64 (2,)
        Output column and row of the sums' first pixel.
    size : int
        One of SIZES: no drop reaches further.
    sums : float64 (height, 2 width)
        Of weight x value and of weight by turns. Drops whose box does not lie inside are left out.
    void : float32 (height, width)
        Gets the value of pixels without weight.
    lines : float64 (4, mx)
        Work space.
    s : float64 ((STATE + size^2) LANES,)
        Work space.
    """
    half = 0.5 * pixfrac
    together = (LANES - VECTOR) // step
    for row in range(values.shape[0]):
        begin, end = spans[row, 0], spans[row, 1]
        if end <= begin:
            continue
        node = max(begin - 1, 0)
        _line(nodes_x, step, row + 1 - half, node, end, lines[0])
        _line(nodes_y, step, row + 1 - half, node, end, lines[1])
        _line(nodes_x, step, row + 1 + half, node, end, lines[2])
        _line(nodes_y, step, row + 1 + half, node, end, lines[3])
        for cell in range(begin, end, together):
            stop = min(cell + together, end)
            _ends(lines[0], cell, stop, step, half, s, _ROW[0], _ROW[1])
            _ends(lines[1], cell, stop, step, half, s, _ROW[4], _ROW[5])
            _ends(lines[2], cell, stop, step, half, s, _ROW[3], _ROW[2])
            _ends(lines[3], cell, stop, step, half, s, _ROW[7], _ROW[6])
            count = (stop - cell) * step
            start = cell * step - 1
            first, last = max(0, -start), min(count, values.shape[1] - start)
            _share(s, count, first, last, values[row], weights[row], start, origin, size, sums, void)


@kernel(
    "void(float64[:, ::1], float64[:, ::1], int64, int64, float32[:, ::1], float32[:, ::1], "
    "int64[::1], int64, float64[:, ::1], float32[:, ::1], float64[::1])",
    uses=(pairs,),
)
def drop_mapped(
    corners_x: Floats,
    corners_y: Floats,
    row: int,
    column: int,
    values: Singles,
    weights: Singles,
    origin: NDArray[np.int64],
    size: int,
    sums: Floats,
    void: Singles,
    s: Floats,
) -> None:
    """Add a part of a chip to the sums of one tile, every corner mapped by itself.

    Parameters
    ----------
    corners_x, corners_y : float64 (2 rows, 2 columns)
        Output coordinates of the drops' edges: bottom and top by turns, left and right by turns.
    row, column : int
        The input pixel that comes first in `corners_x`.

    The others are those of `drop`.
    """
    first = int(np.int64(0))  # what is given the literal 0 would be compiled for it alone
    rows, columns = corners_x.shape[0] // 2, corners_x.shape[1] // 2
    for y in range(rows):
        for begin in range(0, columns, LANES):
            count = min(LANES, columns - begin)
            for lane in range(count):
                x = 2 * (begin + lane)
                s[lane], s[4 * LANES + lane] = corners_x[2 * y, x], corners_y[2 * y, x]
                s[LANES + lane], s[5 * LANES + lane] = corners_x[2 * y, x + 1], corners_y[2 * y, x + 1]
                s[2 * LANES + lane] = corners_x[2 * y + 1, x + 1]
                s[6 * LANES + lane] = corners_y[2 * y + 1, x + 1]
                s[3 * LANES + lane], s[7 * LANES + lane] = corners_x[2 * y + 1, x], corners_y[2 * y + 1, x]
            at = column + begin
            _share(s, count, first, count, values[row + y], weights[row + y], at, origin, size, sums, void)
