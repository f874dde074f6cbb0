"""The smoothest image that is compatible with the observed one, given the read noise.

Source: specification of the CTE correction, section 5; Anderson & Bedin 2010 (PASP 122, 1035),
ACS ISR 2018-04.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batch.compile import inner, kernel

_MOST_ITERATIONS = 100
_COLUMNS_PER_TURN = 64

Image = NDArray[np.float32]
Share = Callable[[Callable[[int, int], Any], int, int], list[Any]]


def smooth(
    observed: Image, noise: float, share: Callable[[Callable[[int, int], Any], int, int], list[Any]]
) -> Image:
    """Take out of an amp what read noise alone would do.

    Parameters
    ----------
    observed : ndarray of float32, shape (n_columns, n_rows)
        The amp in the model frame, e-; the second axis is the direction of transfer.
    noise : float
        Read noise, e-. Below 0.1 nothing is done.
    share : callable
        From `batch.calibration.cte_pass.shared_among`.

    Returns
    -------
    ndarray of float32, shape (n_columns, n_rows)
        A new array, e-.
    """
    current = observed.copy()
    if noise < 0.1:
        return current
    following = np.empty_like(current)
    squares = np.zeros(len(current))  # by column: the order of the sum depends on neither turns nor threads
    counts = np.zeros(len(current), np.int64)
    for _ in range(_MOST_ITERATIONS):

        def work(first: int, stop: int, now: Image = current, then: Image = following) -> None:
            smooth_step(observed, now, then, squares, counts, first, stop, noise)

        share(work, len(observed), _COLUMNS_PER_TURN)
        current, following = following, current
        count = int(counts.sum())
        # no pixel above the mask: the test is undefined, and 100 iterations change nothing
        rms = math.sqrt(squares.sum() / count) if count else math.nan
        if noise - rms < 0.00001:
            break
    return current


@inner
def _difference(a: NDArray[np.float32], b: NDArray[np.float32], out: NDArray[np.float64]) -> None:
    for r in range(a.size):
        out[r] = np.float64(a[r]) - np.float64(b[r])


@kernel(
    "void(float32[:, ::1], float32[:, ::1], float32[:, ::1], float64[::1], int64[::1], int64, int64, float64)"
)
def smooth_step(
    observed: Image,
    current: Image,
    following: Image,
    squares: NDArray[np.float64],
    counts: NDArray[np.int64],
    first: int,
    stop: int,
    noise: float,
) -> None:
    """One iteration for the columns first..stop-1 (section 5, a to c).

    The terms of both neighbours along a column are odd functions of one difference, so they are taken once
    an edge; the terms of the pixel and of its 3 x 3 block share a denominator.

    Parameters
    ----------
    observed, current, following : ndarray of float32, shape (n_columns, n_rows)
        The image, the result so far, the next one (e-).
    squares, counts : ndarray, shape (n_columns,)
        Receive by column the sum of squares of the noise (e-2) and how many pixels it is over.
    noise : float
        Read noise, e-.
    """
    n_columns, n = observed.shape
    bound = 0.33 * noise
    variance = noise * noise
    v4 = 4.0 * variance
    v18 = 18.0 * variance
    left = np.zeros(n)
    here = np.empty(n)
    right = np.zeros(n)
    block = np.zeros(n + 2)
    edge = np.zeros(n + 1)
    if first > 0:
        _difference(observed[first - 1], current[first - 1], left)
    _difference(observed[first], current[first], here)
    for c in range(first, stop):
        o = observed[c]
        s = current[c]
        result = following[c]
        inside = 0 < c < n_columns - 1
        if c < n_columns - 1:
            _difference(observed[c + 1], current[c + 1], right)
        if inside:
            for r in range(n):
                block[r] = left[r] + here[r] + right[r]
        for r in range(n - 1):
            g = np.float64(s[r + 1]) - np.float64(s[r])
            edge[r + 1] = min(max(g, -bound), bound) * (v4 / (g * g + v4))
        for r in range(n):
            e0 = here[r]
            e9 = 0.0
            if inside and 0 < r < n - 1:
                e9 = (block[r - 1] + block[r] + block[r + 1]) / 9.0
            q0 = e0 * e0
            q9 = e9 * e9
            d0 = q0 + v4
            d9 = q9 + v18
            p0 = min(max(e0, -1.0), 1.0) * q0
            p9 = min(max(e9, -bound), bound) * q9
            adjust = np.float32(0.25 * ((p0 * d9 + p9 * d0) / (d0 * d9) + (edge[r + 1] - edge[r])))
            result[r] = np.float32(np.float64(s[r]) + 0.75 * np.float64(adjust))
        total = 0.0
        count = 0
        for r in range(n):
            if abs(o[r]) > np.float32(0.1) or abs(result[r]) > np.float32(0.1):
                nu = np.float64(o[r] - result[r])
                total += nu * nu
                count += 1
        squares[c] = total
        counts[c] = count
        left, here, right = here, right, left
