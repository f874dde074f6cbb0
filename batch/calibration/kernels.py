"""The loops over pixels, compiled. Arithmetic is float32, one rounding an operation, unless it says float64.

All arrays are C-contiguous; what a kernel changes stands first. Source: calibration-steps specification, the
section named with each kernel.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from batch.compile import kernel

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I16 = npt.NDArray[np.int16]
I64 = npt.NDArray[np.int64]


@kernel(
    "void(float32[:, ::1], float32[:, ::1], int16[:, ::1], float32[:, ::1], float32[:, ::1], int16[:, ::1])"
)
def subtract(sci: F32, err: F32, dq: I16, ref: F32, ref_err: F32, ref_dq: I16) -> None:
    """Subtract a reference image and add its error in quadrature (4.5)."""
    for y in range(sci.shape[0]):
        for x in range(sci.shape[1]):
            sci[y, x] = sci[y, x] - ref[y, x]
            err[y, x] = np.sqrt(err[y, x] * err[y, x] + ref_err[y, x] * ref_err[y, x])
            dq[y, x] |= ref_dq[y, x]


@kernel(
    "void(float32[:, ::1], float32[:, ::1], int16[:, ::1], float32[:, ::1], float32[:, ::1], int16[:, ::1],"
    " float32, int16, float64[::1], int64[::1])"
)
def subtract_scaled(
    sci: F32,
    err: F32,
    dq: I16,
    ref: F32,
    ref_err: F32,
    ref_dq: I16,
    factor: np.float32,
    good_bits: np.int16,
    row_sum: F64,
    row_count: I64,
) -> None:
    """Subtract factor x reference; float64 sum and number of its good pixels by row (6.1, 6.2)."""
    for y in range(sci.shape[0]):
        total = 0.0
        count = 0
        for x in range(sci.shape[1]):
            s = factor * ref[y, x]
            e = factor * ref_err[y, x]
            sci[y, x] = sci[y, x] - s
            err[y, x] = np.sqrt(err[y, x] * err[y, x] + e * e)
            dq[y, x] |= ref_dq[y, x]
            if ref_dq[y, x] & good_bits == 0:
                total += np.float64(s)
                count += 1
        row_sum[y] = total
        row_count[y] = count


@kernel(
    "void(float32[:, ::1], float32[:, ::1], int16[:, ::1], float32[:, ::1], float32[:, ::1], int16[:, ::1])"
)
def divide(sci: F32, err: F32, dq: I16, ref: F32, ref_err: F32, ref_dq: I16) -> None:
    """Divide by a reference image; where it is 0 the pixel stays and gets bit 512 (6)."""
    for y in range(sci.shape[0]):
        for x in range(sci.shape[1]):
            s = ref[y, x]
            flag = ref_dq[y, x]
            if s != np.float32(0.0):
                a = err[y, x] / s
                b = ((ref_err[y, x] * sci[y, x]) / s) / s
                sci[y, x] = sci[y, x] / s
                err[y, x] = np.sqrt(a * a + b * b)
            else:
                flag |= np.int16(512)
            dq[y, x] |= flag


@kernel("void(float32[:, ::1], int64, int64, float32, float32, float32, float32)")
def multiply_quadrants(
    image: F32,
    split_x: int,
    split_y: int,
    top_left: np.float32,
    top_right: np.float32,
    bottom_left: np.float32,
    bottom_right: np.float32,
) -> None:
    """Multiply each amp's part of an array (4.6); top is rows >= split_y."""
    for y in range(image.shape[0]):
        left = top_left if y >= split_y else bottom_left
        right = top_right if y >= split_y else bottom_right
        for x in range(split_x):
            image[y, x] = image[y, x] * left
        for x in range(split_x, image.shape[1]):
            image[y, x] = image[y, x] * right


@kernel("void(float32[:, ::1], float32[:, ::1], int64, int64, float32, float32, float32, float32)")
def add_noise_quadrants(
    err: F32,
    sci: F32,
    split_x: int,
    split_y: int,
    top_left: np.float32,
    top_right: np.float32,
    bottom_left: np.float32,
    bottom_right: np.float32,
) -> None:
    """ERR from photon noise, read noise and the ERR there is (4.10); all in electrons."""
    zero = np.float32(0.0)
    for y in range(err.shape[0]):
        left = top_left if y >= split_y else bottom_left
        right = top_right if y >= split_y else bottom_right
        left2, right2 = left * left, right * right
        for x in range(split_x):
            err[y, x] = np.sqrt((max(sci[y, x], zero) + left2) + err[y, x] * err[y, x])
        for x in range(split_x, err.shape[1]):
            err[y, x] = np.sqrt((max(sci[y, x], zero) + right2) + err[y, x] * err[y, x])


@kernel("void(int16[:, ::1], int64[::1], int64[::1], int64[::1], int64[::1], int16[::1])")
def flag_runs(dq: I16, first_x: I64, first_y: I64, length: I64, axis: I64, value: I16) -> None:
    """Set bits along rows (axis 1) or columns (axis 2), clipped to the array (4.3)."""
    ny, nx = dq.shape
    for k in range(first_x.size):
        x, y = first_x[k], first_y[k]
        if axis[k] == 1:
            if 0 <= y < ny:
                for i in range(max(x, 0), min(x + length[k], nx)):
                    dq[y, i] |= value[k]
        elif 0 <= x < nx:
            for j in range(max(y, 0), min(y + length[k], ny)):
                dq[j, x] |= value[k]


@kernel("void(int16[:, ::1], float32[:, ::1], float32[:, ::1], int64, boolean[::1], float32[::1])")
def flag_sinks(dq: I16, sci: F32, sink: F32, step: int, active: npt.NDArray[np.bool_], depth: F32) -> None:
    """Flag sink pixels and their trails, column by column (4.11).

    `step` is 1 to visit rows upwards, -1 downwards; `active` and `depth` carry each column's state from one
    block of rows to the next.
    """
    ny, nx = sci.shape
    for n in range(ny):
        y = n if step > 0 else ny - 1 - n
        for x in range(nx):
            k = sink[y, x]
            if k < np.float32(0.0):
                active[x] = True
                if k < np.float32(-1.0):
                    depth[x] = sci[y, x]
                dq[y, x] |= np.int16(1024)
            elif k > np.float32(0.0):
                if active[x]:
                    if k > depth[x]:
                        dq[y, x] |= np.int16(1024)
                    else:
                        active[x] = False
            else:
                active[x] = False


@kernel("void(float32[:, ::1], float32[:, ::1], int16[:, ::1], int16, float64[::1])")
def statistics(sci: F32, err: F32, dq: I16, good_bits: np.int16, result: F64) -> None:
    """Number, extremes and float64 sums over good pixels (6.6).

    `result` holds the number, then minimum, maximum and sum of SCI, of SCI/ERR and of ERR.
    """
    count = 0
    zero = np.float32(0.0)
    sci_min, sci_max, snr_min, snr_max, err_min, err_max = zero, zero, zero, zero, zero, zero
    sci_sum, snr_sum, err_sum = 0.0, 0.0, 0.0
    for y in range(sci.shape[0]):
        for x in range(sci.shape[1]):
            if dq[y, x] & good_bits != 0 or err[y, x] <= zero:
                continue
            s, e = sci[y, x], err[y, x]
            r = s / e
            if count == 0:
                sci_min, sci_max, snr_min, snr_max, err_min, err_max = s, s, r, r, e, e
            sci_min, sci_max = min(sci_min, s), max(sci_max, s)
            snr_min, snr_max = min(snr_min, r), max(snr_max, r)
            err_min, err_max = min(err_min, e), max(err_max, e)
            sci_sum += np.float64(s)
            snr_sum += np.float64(r)
            err_sum += np.float64(e)
            count += 1
    result[0] = count
    result[1], result[2], result[3] = sci_min, sci_max, sci_sum
    result[4], result[5], result[6] = snr_min, snr_max, snr_sum
    result[7], result[8], result[9] = err_min, err_max, err_sum


@kernel("void(float32[:, ::1], int64, int64, int64, int64, int64, float64, float64, float64, float64)")
def subtract_level(
    sci: F32,
    y0: int,
    y1: int,
    x0: int,
    x1: int,
    middle: int,
    slope: float,
    level: float,
    drift: float,
    origin: float,
) -> None:
    """Subtract the overscan line and the drift along rows (4.7.1 g), in float64.

    Rows y0 to y1, columns x0 to x1 (outside); the line is slope * (row - middle) + level, the drift
    drift * (column - origin).
    """
    for y in range(y0, y1):
        line = np.float64(y - middle) * slope + level
        for x in range(x0, x1):
            along = (np.float64(x) - origin) * drift
            sci[y, x] = np.float32((np.float64(sci[y, x]) - line) - along)
