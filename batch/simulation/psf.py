"""The point spread function: three round Gaussians, integrated over pixels."""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

# A core of 1.8 pixels (0.09 arcsec) full width at half maximum once pixels are integrated over, as in F606W,
# and wings that fall off faster than the real ones, so that a crowded field keeps a measurable sky.
WEIGHTS = np.array([0.78, 0.17, 0.05])
SIGMAS = np.array([0.66, 1.55, 5.0])
"""Pixels, before integration over pixels."""


def encircled(radius: float) -> float:
    """Fraction of a star's light within `radius` pixels of its centre.

    As aperture photometry sees it, which spreads each pixel's light evenly over the pixel; good to 0.5 % from
    2 pixels on.
    """
    # Twice the variance of a pixel: from the detector's integration, and from the spreading.
    variance = SIGMAS**2 + 2 / 12
    return float(np.sum(WEIGHTS * (1 - np.exp(-(radius**2) / (2 * variance)))))


@numba.njit(nogil=True, cache=False)
def _edges(out, centre, first, count, sigma):  # type: ignore[no-untyped-def]
    low = 0.5 * math.erf((first - 0.5 - centre) / (sigma * math.sqrt(2.0)))
    for i in range(count):
        high = 0.5 * math.erf((first + i + 0.5 - centre) / (sigma * math.sqrt(2.0)))
        out[i] = high - low
        low = high


@numba.njit(nogil=True, cache=False)
def _render(image, x, y, electrons, weights, sigmas):  # type: ignore[no-untyped-def]
    ny, nx = image.shape
    fx = np.empty(129)
    fy = np.empty(129)
    for s in range(x.size):
        for k in range(weights.size):
            peak = electrons[s] * weights[k] / (2 * math.pi * sigmas[k] ** 2)
            # As far as a thousandth of an electron a pixel, and 12 sigma at most.
            reach = 1.0 + sigmas[k] * math.sqrt(2 * math.log(max(peak, 1e-3) / 1e-3))
            reach = min(reach, 12 * sigmas[k] + 1, 64.0)
            x0 = max(math.floor(x[s] - reach), 0)
            x1 = min(math.ceil(x[s] + reach), nx - 1)
            y0 = max(math.floor(y[s] - reach), 0)
            y1 = min(math.ceil(y[s] + reach), ny - 1)
            if x1 < x0 or y1 < y0:
                continue
            _edges(fx, x[s], x0, x1 - x0 + 1, sigmas[k])
            _edges(fy, y[s], y0, y1 - y0 + 1, sigmas[k])
            total = electrons[s] * weights[k]
            for j in range(y0, y1 + 1):
                row = total * fy[j - y0]
                for i in range(x0, x1 + 1):
                    image[j, i] += row * fx[i - x0]


def add_stars(
    image: NDArray[np.float32],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    electrons: NDArray[np.float64],
) -> None:
    """Add stars to an image, in place.

    Parameters
    ----------
    image : (ny, nx) float32
        Electrons.
    x, y : (n,) float64
        Zero-based positions: the centre of the first pixel is 0, 0. They may lie outside.
    electrons : (n,) float64
        Each star's total.
    """
    _render(image, x, y, electrons, WEIGHTS, SIGMAS)
