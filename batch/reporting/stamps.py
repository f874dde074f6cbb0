"""A few stars side by side, pixel by pixel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from batch.reporting.figures import NO_DATA, Rgb

_SEAM = 1
SOFTENING = 0.02
"""Where the stretch turns from linear to logarithmic, as a part of the peak: wings show, noise does not."""

Image = NDArray[np.float64]


def four(stars: Sequence[tuple[Image, Image]], peaks: Sequence[float], paper: tuple[int, int, int]) -> Rgb:
    """Up to four stars as a square, each from its sky to its peak.

    Parameters
    ----------
    stars : sequence of (ndarray, ndarray), shape (n, n)
        Pixels and weights around each; those without weight become slate.
    peaks : sequence of float
        What is white in each, above the sky.
    paper : tuple of int
        Colour between the stars.
    """
    side = stars[0][0].shape[0]
    canvas = np.empty((2 * side + _SEAM, 2 * side + _SEAM, 3), dtype=np.uint8)
    canvas[:] = paper
    for number, ((image, weight), peak) in enumerate(zip(stars[:4], peaks, strict=False)):
        # the first row of a picture is at the bottom
        y = (1 - number // 2) * (side + _SEAM)
        x = number % 2 * (side + _SEAM)
        canvas[y : y + side, x : x + side] = _stamp(image, weight, peak)
    return canvas


def _stamp(image: Image, weight: Image, peak: float) -> Rgb:
    good = (weight > 0) & np.isfinite(image)
    sky = float(np.median(image[good])) if good.any() else 0.0
    scaled = np.clip((np.where(good, image, sky) - sky) / peak, 0, 1)
    grey = 255 * np.arcsinh(scaled / SOFTENING) / np.arcsinh(1 / SOFTENING)
    rgb: Rgb = np.repeat(np.rint(grey).astype(np.uint8)[..., None], 3, axis=2)
    rgb[~good] = NO_DATA
    return rgb
