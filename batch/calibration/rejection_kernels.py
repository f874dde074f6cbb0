"""The loops of cosmic-ray rejection, compiled. Arithmetic is float32, one rounding an operation.

Source: calibration-steps specification, section 7.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from batch.compile import kernel

F32 = npt.NDArray[np.float32]
I16 = npt.NDArray[np.int16]
I64 = npt.NDArray[np.int64]

BAD, HIT, SPILL = 4, 8, 2
"""Values of the mask while images are compared: bad on input, hit by a cosmic ray, beside a hit."""
REJECTED = 8192
"""The DQ bit of a pixel that was rejected as a cosmic ray."""


@kernel("void(float64[::1], float32[:, ::1], int16[:, ::1], int16)")
def sky_range(result: npt.NDArray[np.float64], sci: F32, dq: I16, bad_bits: np.int16) -> None:
    """Minimum, sum (in order, float32) and number of the pixels without bad bits."""
    low, total, count = np.float32(0), np.float32(0), 0
    for y in range(sci.shape[0]):
        for x in range(sci.shape[1]):
            if dq[y, x] & bad_bits == 0:
                value = sci[y, x]
                low = value if count == 0 else min(low, value)
                total = total + value
                count += 1
    result[0], result[1], result[2] = low, total, count


@kernel("void(int64[::1], float32[:, ::1], int16[:, ::1], float32, float32)")
def histogram(counts: I64, sci: F32, dq: I16, low: np.float32, width: np.float32) -> None:
    """Count the pixels with DQ = 0; the bin is truncated towards zero."""
    bins = counts.size
    for y in range(sci.shape[0]):
        for x in range(sci.shape[1]):
            if dq[y, x] == 0:
                place = (sci[y, x] - low) / width
                if place > np.float32(-1.0) and place < np.float32(bins):
                    counts[int(place)] += 1


@kernel("void(float32[:, ::1], float32[:, :, ::1], int16[:, :, ::1], float32[::1], float32[::1], int16)")
def guess_minimum(guess: F32, sci: F32, dq: I16, sky: F32, time: F32, bad_bits: np.int16) -> None:
    """Running minimum over images, e-/s; a bad pixel below the current value puts 0."""
    images, ny, nx = sci.shape
    for y in range(ny):
        for x in range(nx):
            first = True
            value = np.float32(0)
            for n in range(images):
                if time[n] == np.float32(0):
                    continue
                rate = (sci[n, y, x] - sky[n]) / time[n]
                if first or rate < value:
                    value = rate if dq[n, y, x] & bad_bits == 0 else np.float32(0)
                first = False
            guess[y, x] = value


@kernel("void(float32[:, ::1], float32[:, :, ::1], int16[:, :, ::1], float32[::1], float32[::1], int16)")
def guess_median(guess: F32, sci: F32, dq: I16, sky: F32, time: F32, bad_bits: np.int16) -> None:
    """Median over the good pixels of the images, e-/s; 0 where there is none."""
    images, ny, nx = sci.shape
    rates = np.empty(images, dtype=np.float32)
    for y in range(ny):
        for x in range(nx):
            count = 0
            for n in range(images):
                if time[n] != np.float32(0) and dq[n, y, x] & bad_bits == 0:
                    rate = (sci[n, y, x] - sky[n]) / time[n]
                    k = count
                    while k > 0 and rates[k - 1] > rate:
                        rates[k] = rates[k - 1]
                        k -= 1
                    rates[k] = rate
                    count += 1
            if count == 0:
                guess[y, x] = np.float32(0)
            elif count % 2:
                guess[y, x] = rates[count // 2]
            else:
                guess[y, x] = (rates[count // 2 - 1] + rates[count // 2]) / np.float32(2)


@kernel(
    "void(float32[:, ::1], float32[:, ::1], float32[:, ::1], int16[:, ::1], int16[:, :, ::1],"
    " float32[:, :, ::1], float32[:, :, ::1], float32[::1], float32[::1],"
    " float32, float32, float32, float32, int16, int16)"
)
def reject(
    rate: F32,
    exposure: F32,
    variance: F32,
    dq: I16,
    mask: I16,
    sci: F32,
    err: F32,
    sky: F32,
    time: F32,
    sigma: np.float32,
    scale: np.float32,
    threshold: np.float32,
    radius: np.float32,
    bad_bits: np.int16,
    reject_bits: np.int16,
) -> None:
    """One iteration: mark pixels that stand out of `rate`, and average the rest anew.

    Parameters
    ----------
    rate : float32, shape (ny, nx)
        On input the current image, e-/s; on output the mean of the pixels that were kept, unchanged where
        none was.
    exposure, variance : float32, shape (ny, nx)
        Output: exposure time (s) and sum of ERR squared (e-^2) of the pixels kept.
    dq : int16, shape (ny, nx)
        Output: the OR of the masks as they were before the row was compared, without bits 2 and 8192; bit
        8192 where every image was rejected.
    mask : int16, shape (images, ny, nx)
        On input DQ of each image; on output 8 for hits, 2 for pixels beside a hit, 4 for bad ones. Growth
        goes along the row and to higher rows only, as in calacs.
    sci, err : float32, shape (images, ny, nx)
        e-
    sky : float32, shape (images,)
        e-
    time : float32, shape (images,)
        s; images of 0 s are left out.
    sigma, scale, threshold, radius : float32
        CRSIGMAS of this iteration, SCALENSE / 100, CRTHRESH, CRRADIUS (pixels).
    bad_bits, reject_bits : int16
        DQ bits that make a pixel bad on input; mask bits that keep it out of the mean.
    """
    images, ny, nx = sci.shape
    zero = np.float32(0)
    sigma2, threshold2, radius2 = sigma * sigma, threshold * threshold, radius * radius
    reach = int(np.ceil(radius))
    total = np.empty(nx, dtype=np.float32)
    everywhere = np.empty(nx, dtype=np.bool_)
    for y in range(ny):
        for x in range(nx):
            total[x] = zero
            exposure[y, x] = zero
            variance[y, x] = zero
            dq[y, x] = 0
            everywhere[x] = True
        for n in range(images):
            t = time[n]
            if t == zero:
                continue
            t2 = t * t
            for x in range(nx):
                m = mask[n, y, x]
                dq[y, x] = (dq[y, x] | m) & ~(SPILL | REJECTED)
                if m & bad_bits != 0 and m != SPILL:
                    mask[n, y, x] = BAD
            for x in range(nx):
                e = err[n, y, x]
                noise = scale * max(rate[y, x] * t, zero)
                limit = sigma2 * (e * e + noise * noise) / t2
                off = (sci[n, y, x] - sky[n]) / t - rate[y, x]
                if off * off > limit and mask[n, y, x] != BAD:
                    mask[n, y, x] = HIT
                    for j in range(y, min(y + reach, ny - 1) + 1):
                        for i in range(max(x - reach, 0), min(x + reach, nx - 1) + 1):
                            dx, dy = np.float32(i - x), np.float32(j - y)
                            if dx * dx + dy * dy > radius2 or mask[n, j, i] == HIT:
                                continue
                            e = err[n, j, i]
                            near = (sci[n, j, i] - sky[n]) / t - rate[j, i]
                            if threshold <= zero or near * near > threshold2 * (sigma2 * (e * e) / t2):
                                mask[n, j, i] = SPILL
            for x in range(nx):
                m = mask[n, y, x]
                if m & reject_bits == 0:
                    total[x] = total[x] + ((sci[n, y, x] - sky[n]) / t) * t
                    exposure[y, x] = exposure[y, x] + t
                    variance[y, x] = variance[y, x] + err[n, y, x] * err[n, y, x]
                if m != HIT and m != SPILL:
                    everywhere[x] = False
        for x in range(nx):
            if everywhere[x]:
                dq[y, x] |= REJECTED
            if exposure[y, x] > zero:
                rate[y, x] = total[x] / exposure[y, x]
