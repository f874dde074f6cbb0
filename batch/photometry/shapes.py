"""Width, ellipticity and flux of one star in a cutout of a mosaic."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from batch.photometry.sampling import APERTURES, CORE, SKY, Sampling

Image = NDArray[np.float64]

_SIGMA = 1 / math.sqrt(8 * math.log(2))
_FEWEST = 12
"""Pixels with weight in the core; a fit has seven unknowns."""
_MOST_STEPS = 100
"""Models that a fit may look at: stars take under fifteen, what takes all of them is none."""


class Shape(NamedTuple):
    """What a star looks like; positions and sizes in pixels of the cutout."""

    x: float
    y: float
    fwhm: float
    """Of the circle with the area of the fitted ellipse."""
    ellipticity: float
    """1 - minor axis / major axis."""
    fluxes: tuple[float, float]
    """Within `APERTURES`, in the units of the image."""


def measure_star(image: Image, weight: Image, sampling: Sampling) -> Shape | None:
    """Fit an elliptical Gaussian to the core of a star, and add up its light.

    Pixels without weight take no part in the fit; in the apertures the fitted star stands in for them.

    Parameters
    ----------
    image, weight : ndarray of float64, shape (n, n)
        With the star within a pixel or two of the middle; n is odd.
    sampling : Sampling

    Returns
    -------
    Shape or None
        None where the core has too few pixels with weight, or nothing like a star.
    """
    middle = image.shape[0] // 2
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    radius = np.hypot(x - middle, y - middle)
    good = (weight > 0) & np.isfinite(image)
    core = good & (radius <= sampling.pixels(CORE))
    ring = good & (radius >= sampling.pixels(SKY[0])) & (radius <= sampling.pixels(SKY[1]))
    if np.count_nonzero(core) < _FEWEST or not ring.any():
        return None
    sky = float(np.median(image[ring]))
    height = float(image[core].max()) - sky
    width = sampling.fwhm / sampling.scale * _SIGMA
    trust = np.sqrt(weight[core] / weight[core].mean())
    if height <= 0:
        return None
    at, values = (x[core] - middle, y[core] - middle), (image[core] - sky) / height

    def residuals(p: Image) -> Image:
        difference: Image = trust * (_model(p, *at) - values)
        return difference

    def slopes(p: Image) -> Image:
        derivatives: Image = trust[:, None] * _derivatives(p, *at)
        return derivatives

    start = np.array([1.0, 0.0, 0.0, 1 / width**2, 0.0, 1 / width**2, 0.0])
    fit = least_squares(residuals, start, slopes, method="lm", max_nfev=_MOST_STEPS)
    a, b, c = fit.x[3:6]
    determinant = a * c - b * b
    if not fit.success or determinant <= 0 or a <= 0 or fit.x[0] <= 0:
        return None
    # the axes of the ellipse: one over the roots of the eigenvalues
    spread = math.hypot((a - c) / 2, b)
    small, large = (a + c) / 2 - spread, (a + c) / 2 + spread
    filled = np.where(good, image - sky, height * (_model(fit.x, x - middle, y - middle) - fit.x[6]))
    centre = (middle + float(fit.x[1]), middle + float(fit.x[2]))
    first, second = (_within(filled, centre, sampling.pixels(r)) for r in APERTURES)
    return Shape(
        *centre,
        fwhm=determinant**-0.25 / _SIGMA,
        ellipticity=1 - math.sqrt(small / large),
        fluxes=(first, second),
    )


def _model(p: Image, x: Image, y: Image) -> Image:
    height, x0, y0, a, b, c, floor = p
    dx, dy = x - x0, y - y0
    result: Image = floor + height * np.exp(-0.5 * (a * dx * dx + 2 * b * dx * dy + c * dy * dy))
    return result


def _derivatives(p: Image, x: Image, y: Image) -> Image:
    """Of the model by each of its parameters, one column each: differences would take eight models a step."""
    height, x0, y0, a, b, c, _ = p
    dx, dy = x - x0, y - y0
    u, v = a * dx + b * dy, b * dx + c * dy
    shape = np.exp(-0.5 * (dx * u + dy * v))
    light = height * shape
    columns = (shape, light * u, light * v, -0.5 * light * dx * dx, -light * dx * dy, -0.5 * light * dy * dy)
    return np.column_stack((*columns, np.ones_like(x, float)))


def _within(image: Image, centre: tuple[float, float], radius: float) -> float:
    from photutils.aperture import CircularAperture  # seconds to import

    share = CircularAperture(centre, radius).to_mask(method="exact").to_image(image.shape)
    return math.nan if share is None else float(np.sum(share * image))
