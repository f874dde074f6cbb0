"""The loops of the post-SM4 bias corrections, compiled: bias shift, crosstalk, stripes. Float64 inside.

A quadrant is addressed as the amp view of section 4.7.2, with the amplifier at [0, 0], without a copy: pixel
[i, j] of the view is ``sci[y0 + dy * i, x0 + dx * j]``. The order of summation is part of the result: row by
row, except in `clipped_level`, which goes column by column.

Source: calibration-steps specification, sections 4.7.2 to 4.7.4.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from batch.compile import kernel

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

PATTERN_LIMIT = 50000.0
"""e-: rows with a brighter pixel beside the bias columns do not count for the pattern."""
STRIPE_LIMIT = 70000.0
VIRTUAL_ROWS = 20


@kernel(
    "void(float64[:, ::1], float32[:, ::1], int64, int64, int64, int64, int64, float64, float64, float64,"
    " float64)"
)
def remove_bias_shift(
    out: F64,
    sci: F32,
    y0: int,
    dy: int,
    x0: int,
    dx: int,
    gap: int,
    fill: float,
    decay: float,
    ratio: float,
    sensitivity: float,
) -> None:
    """Undo the bias shift of one amp, pixel by pixel in order of readout (4.7.2).

    After each row the integrator sees `gap` pixels of value `fill`; `decay` is the specification's q.
    """
    keep = 1.0 - decay
    slope = 10.0 / 22.0
    base = fill * ratio
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            d = np.float64(sci[y0 + dy * i, x0 + dx * j])
            following = d * decay * ratio + keep * base
            out[i, j] = (d - sensitivity * following) - slope * (following - base)
            base = following
        for _ in range(gap):
            base = fill * decay * ratio + keep * base


@kernel("void(float32[:, ::1], int64, int64, int64, int64, float64[:, ::1], float64)")
def store_view(sci: F32, y0: int, dy: int, x0: int, dx: int, view: F64, level: float) -> None:
    """Put an amp view back, less a level."""
    for i in range(view.shape[0]):
        for j in range(view.shape[1]):
            sci[y0 + dy * i, x0 + dx * j] = np.float32(view[i, j] - level)


@kernel("void(float32[:, ::1])")
def remove_crosstalk(sci: F32) -> None:
    """Add 9.1e-5 of the mirrored pixel, in place: the right half sees the corrected left half (4.7.3)."""
    nx = sci.shape[1]
    for y in range(sci.shape[0]):
        for x in range(nx):
            sci[y, x] = sci[y, x] + np.float32(np.float64(sci[y, nx - 1 - x]) * 9.1e-5)


@kernel("void(float64[:, ::1], boolean[::1])")
def remove_bias_pattern(bias: F64, rows: Bools) -> None:
    """Subtract the mean pattern of the bias columns, from `rows` alone (4.7.4 step 1).

    `bias` has shape (rows, 24); each row is first referred to the mean of its columns 12 to 23.
    """
    height, width = bias.shape
    half = width // 2
    reference = np.empty(height)
    for i in range(height):
        total = 0.0
        for j in range(half, width):
            total += bias[i, j]
        reference[i] = total / half
    for j in range(width):
        mean, spread = 0.0, np.inf
        for clip in range(6):
            # passes 0 and 1 are the plain mean and its standard deviation, 2 to 5 the four clippings
            total, squares, count = 0.0, 0.0, 0
            for i in range(height):
                value = bias[i, j] - reference[i]
                if rows[i] and (clip < 2 or abs(value - mean) <= 5.0 * spread):
                    total += value
                    squares += (value - mean) * (value - mean)
                    count += 1
            if count == 0:
                break
            if clip > 0:
                spread = np.sqrt(squares / (count - 1)) if count > 1 else 0.0
            if clip != 1:
                mean = total / count
        for i in range(height):
            bias[i, j] -= mean


@kernel("void(boolean[::1], float64[:, ::1], float32[:, ::1], int64, int64, int64, int64, int64)")
def find_usable_rows(
    usable: Bools, bias: F64, sci: F32, y0: int, dy: int, x0: int, dx: int, columns: int
) -> None:
    """Rows whose bias columns can serve for the stripes (4.7.4 step 2)."""
    height, width = bias.shape
    imaging = height - VIRTUAL_ROWS
    total = 0.0
    for i in range(imaging):
        for j in range(width):
            total += bias[i, j]
    base = total / (imaging * width)
    total = 0.0
    for i in range(imaging):
        for j in range(width, columns):
            total += np.float64(sci[y0 + dy * i, x0 + dx * j]) - base
    sky = total / (imaging * (columns - width))
    usable[0] = False
    for i in range(1, height):
        total = 0.0
        for j in range(width):
            total += bias[i, j]
        for j in range(width):
            total += bias[i - 1, j]
        reference = total / (2 * width)
        total = 0.0
        saturated = False
        for j in range(width, columns):
            value = np.float64(sci[y0 + dy * i, x0 + dx * j])
            if j < width + 6 and value > STRIPE_LIMIT:
                saturated = True
            total += value - reference
        usable[i] = abs(np.trunc(total / (columns - width) - sky)) <= 100 and not saturated


@kernel("float64(float64[:, ::1], boolean[::1])")
def clipped_level(bias: F64, rows: Bools) -> float:
    """Mean of the bias columns of `rows`, clipped at six mean absolute deviations (4.7.4 step 3).

    Six passes always; up to eleven while the last one dropped pixels.
    """
    height, width = bias.shape
    kept = np.zeros((width, height), dtype=np.bool_)
    for j in range(width):
        for i in range(height):
            kept[j, i] = rows[i]
    before = -1
    mean = 0.0
    for clip in range(12):
        total, count = 0.0, 0
        for j in range(width):
            for i in range(height):
                if kept[j, i]:
                    total += bias[i, j]
                    count += 1
        if count == 0:
            return 0.0
        mean = total / count
        if clip == 11 or (clip >= 6 and count == before):
            break
        total = 0.0
        for j in range(width):
            for i in range(height):
                if kept[j, i]:
                    total += abs(bias[i, j] - mean)
        limit = 6.0 * (total / count)
        for j in range(width):
            for i in range(height):
                if kept[j, i] and abs(bias[i, j] - mean) > limit:
                    kept[j, i] = False
        before = count
    return mean


@kernel("int64(float64[::1], float64[:, :, ::1], boolean[:, ::1])")
def find_stripes(stripe: F64, bias: F64, usable: Bools) -> int:
    """Common level of the rows over the amps (4.7.4 step 4); the number of rows that have one.

    `bias` has shape (4, rows, 24), `usable` (4, rows).
    """
    amps, height, width = bias.shape
    fixed = 0
    for i in range(height):
        total, count = 0.0, 0
        for k in range(amps):
            mean = 0.0
            for j in range(width):
                mean += bias[k, i, j]
            mean /= width
            squares = 0.0
            for j in range(width):
                squares += (bias[k, i, j] - mean) * (bias[k, i, j] - mean)
            if usable[k, i] and np.sqrt(squares / (width - 1)) < 15.0:
                total += mean
                count += 1
        stripe[i] = total / count if count >= 2 else 0.0
        fixed += count >= 2
    return fixed


@kernel(
    "void(float32[:, ::1], int64, int64, int64, int64, int64, int64, float64[:, ::1], float64, float64[::1])"
)
def subtract_stripes(
    sci: F32,
    y0: int,
    dy: int,
    x0: int,
    dx: int,
    columns: int,
    gap: int,
    bias: F64,
    level: float,
    stripe: F64,
) -> None:
    """Subtract level and stripe from a view (4.7.4 steps 3 and 5); `bias` holds its first columns less level.

    The stripe is interpolated along the readout: a row takes columns + gap pixels of time.
    """
    height, width = bias.shape
    for i in range(height):
        for j in range(columns):
            place = np.float64(i) + (np.float64(j) - 11.5) / np.float64(columns + gap)
            low = min(max(int(np.floor(place)), 0), height - 2)
            value = stripe[low] + (place - low) * (stripe[low + 1] - stripe[low])
            y, x = y0 + dy * i, x0 + dx * j
            data = bias[i, j] if j < width else np.float64(sci[y, x]) - level
            sci[y, x] = np.float32(data - value)
