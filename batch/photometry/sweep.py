"""The same stars at every pixfrac of a sweep."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from batch.drizzling.lazy import FitsImage
from batch.photometry.noise import correlated_noise
from batch.photometry.sampling import APERTURES, Sampling
from batch.photometry.shapes import measure_star
from batch.photometry.stars import Star, cutout, find_stars

Pair = tuple[FitsImage, FitsImage]
"""A mosaic and its weight."""
Numbers = NDArray[np.float64]


def measure_stars(
    mosaics: Mapping[float, Pair],
    sampling: Sampling,
    count: int,
    kernel: str = "square",
    stars: Sequence[Star] | None = None,
) -> xr.Dataset:
    """Find stars in the mosaic of the largest pixfrac, and measure them in all.

    Memory holds a band of one mosaic at a time, then a cutout of two.

    Parameters
    ----------
    mosaics : mapping of float to (FitsImage, FitsImage)
        By pixfrac, on one grid.
    sampling : Sampling
    count : int
        How many stars at most.
    kernel : str
        Of the drizzle.
    stars : sequence of Star, optional
        Those to measure; nothing is looked for then.

    Returns
    -------
    xarray.Dataset
        Dims pixfrac, star (brightest first; there may be none) and aperture. A star that could not be
        measured at some pixfrac has nan there.
    """
    pixfracs = sorted(mosaics)
    if stars is None:
        stars = find_stars(*mosaics[pixfracs[-1]], sampling, count)
    numbers = np.array(
        [[_numbers(mosaics[p], star, sampling) for star in stars] for p in pixfracs], dtype=np.float64
    ).reshape(len(pixfracs), len(stars), 2 + len(APERTURES))
    noise = [correlated_noise(p, sampling.scale / sampling.native, kernel) for p in pixfracs]
    each = ("pixfrac", "star")
    variables: dict[str, tuple[tuple[str, ...], Any, str]] = {
        "fwhm": (
            each,
            numbers[..., 0] * sampling.scale,
            "full width at half maximum of a fitted Gaussian, arcsec",
        ),
        "ellipticity": (each, numbers[..., 1], "1 - minor axis / major axis of the Gaussian"),
        "flux": ((*each, "aperture"), numbers[..., 2:], "light in the aperture, units of the mosaic"),
        "peak": (
            ("star",),
            np.array([s.peak for s in stars], float),
            "brightest pixel at the largest pixfrac",
        ),
        "noise_factor": (
            ("pixfrac",),
            np.array([math.nan if n is None else n for n in noise]),
            "noise of large areas over noise of pixels, theory of Fruchter & Hook 2002",
        ),
    }
    return xr.Dataset(
        {name: (dims, values, {"long_name": text}) for name, (dims, values, text) in variables.items()},
        coords={
            "pixfrac": ("pixfrac", np.array(pixfracs)),
            "aperture": ("aperture", np.array([sampling.pixels(r) * sampling.scale for r in APERTURES])),
            "x": ("star", np.array([s.x for s in stars], np.int32)),
            "y": ("star", np.array([s.y for s in stars], np.int32)),
        },
        attrs={
            "title": "Stars of a pixfrac sweep",
            "positions": "zero-based pixels",
            "aperture": "radius, arcsec",
        },
    )


def _numbers(pair: Pair, star: Star, sampling: Sampling) -> tuple[float, ...]:
    rows, columns = pair[0].shape
    room = min(star.x, star.y, columns - 1 - star.x, rows - 1 - star.y)
    # a star that has room on one grid may touch the rim of another
    shape = measure_star(*cutout(*pair, star, sampling.reach), sampling) if room >= sampling.reach else None
    if shape is None:
        return (math.nan,) * (2 + len(APERTURES))
    return shape.fwhm, shape.ellipticity, *shape.fluxes


def stars_of(dataset: xr.Dataset) -> list[Star]:
    """The stars that were measured, brightest first."""
    values = zip(*(dataset[n].values.tolist() for n in ("x", "y", "peak")), strict=True)
    return [Star(*star) for star in values]


def narrowest(dataset: xr.Dataset) -> float | None:
    """The smallest width of the typical star at any pixfrac, arcsec; None where there is none."""
    widths = (_median(row) for row in dataset["fwhm"].values)
    return min((w for w in widths if w is not None), default=None)


def summarize(dataset: xr.Dataset, least: float | None = None) -> list[dict[str, Any]]:
    """The typical star at each pixfrac, as JSON values; what cannot be told is None.

    Parameters
    ----------
    dataset : xarray.Dataset
        From `measure_stars`.
    least : float, optional
        The width that others are compared with, arcsec; otherwise the `narrowest` here.

    Returns
    -------
    list of dict
        ``pixfrac``, ``stars`` (measured here), ``fwhm`` (arcsec) and ``ellipticity``, each the median with
        its ``_scatter`` (1.4826 times the median absolute deviation), ``fwhm_growth`` (over `least`, a
        fraction), ``flux`` and ``flux_scatter`` (median over stars of the flux over
        that at the largest pixfrac, for each aperture), ``noise_factor``.
    """
    fwhm, ellipticity, flux = (dataset[n].values for n in ("fwhm", "ellipticity", "flux"))
    widths = [_median(row) for row in fwhm]
    least = narrowest(dataset) if least is None else least
    relative = flux / flux[-1]
    return [
        {
            "pixfrac": pixfrac,
            "stars": int(np.count_nonzero(np.isfinite(fwhm[i]))),
            "fwhm": width,
            "fwhm_scatter": _scatter(fwhm[i]),
            "fwhm_growth": None if width is None or least is None else width / least - 1,
            "ellipticity": _median(ellipticity[i]),
            "ellipticity_scatter": _scatter(ellipticity[i]),
            "flux": [_median(column) for column in relative[i].T],
            "flux_scatter": [_scatter(column) for column in relative[i].T],
            "noise_factor": _finite(float(dataset["noise_factor"][i])),
        }
        for i, (pixfrac, width) in enumerate(zip(dataset["pixfrac"].values.tolist(), widths, strict=True))
    ]


def _median(values: Numbers) -> float | None:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else None


def _scatter(values: Numbers) -> float | None:
    middle = _median(values)
    deviation = None if middle is None else _median(np.abs(values - middle))
    return None if deviation is None else 1.4826 * deviation


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
