"""The stars: a crowded field on the flank of 47 Tuc."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from batch.simulation.filters import FILTERS
from batch.simulation.frame import NX, NY
from batch.simulation.geometry import Geometry
from batch.simulation.randomness import stream
from batch.simulation.settings import VisitSettings

CORE = (6.0236, -72.0813)
"""Centre of 47 Tuc, deg."""
_FIELD = 2 * NX * NY * 0.05**2
"""Area of a full frame, arcsec2."""
_MEAN_DENSITY = 0.75
"""Of the stars drawn, the part that is kept in the middle of the field."""
# Stars per magnitude in steps from 13 to 26: few giants, the turn-off at 17.6, then the main sequence.
_MAGNITUDES = np.array([13.0, 15.0, 17.0, 17.6, 18.0, 20.0, 22.0, 24.0, 26.0])
_NUMBERS = np.array([0.02, 0.10, 0.30, 0.80, 1.00, 1.40, 2.00, 2.40, 2.00])


@dataclass(frozen=True)
class Stars:
    """Where stars are and how bright; all arrays (n,) float64, brightest first."""

    ra: NDArray[np.float64]
    dec: NDArray[np.float64]
    """deg"""
    magnitude: NDArray[np.float64]
    """Vega magnitudes in the visit's filter."""
    flux: NDArray[np.float64]
    """electrons / s, on pixels of 0.05 arcsec: what drizzled images give."""


def populate(settings: VisitSettings, geometry: Geometry) -> Stars:
    """Draw the stars that any exposure of the visit can see, and a margin around.

    Parameters
    ----------
    geometry : Geometry
        Of the first exposure; the margin covers the dithers of the others.
    """
    rng = stream(settings.seed, "stars")
    ra0, dec0, (west, east), (south, north) = _footprint(geometry, margin=10.0)
    area = (east - west) * (north - south)
    count = rng.poisson(settings.stars * area / _FIELD / _MEAN_DENSITY)
    xi, eta = rng.uniform(west, east, count), rng.uniform(south, north, count)
    magnitude = draw_magnitudes(rng, count)
    dec = dec0 + eta / 3600
    ra = ra0 + xi / 3600 / np.cos(np.radians(dec))
    kept = rng.random(count) < _density(ra, dec, ra0, dec0)
    order = np.flatnonzero(kept)[np.argsort(magnitude[kept], kind="stable")]
    magnitude = magnitude[order]
    flux = 10 ** (-0.4 * (magnitude - FILTERS[settings.filter].zero_point))
    return Stars(ra[order], dec[order], magnitude, flux)


def _footprint(
    geometry: Geometry, margin: float
) -> tuple[float, float, tuple[float, float], tuple[float, float]]:
    """A centre (deg) and the arcsec to west, east, south and north of it that cover all chips."""
    sky = []
    for wcs, chip in zip(geometry.wcs, geometry.frame.chips, strict=True):
        x, y = np.array([0, chip.width, chip.width, 0]), np.array([0, 0, chip.height, chip.height])
        sky.append(np.stack(wcs.all_pix2world(x, y, 0)))
    ra, dec = np.concatenate(sky, axis=1)
    ra0, dec0 = float(ra.mean()), float(dec.mean())
    xi, eta = (ra - ra0) * np.cos(np.radians(dec)) * 3600, (dec - dec0) * 3600
    west_east = (float(xi.min()) - margin, float(xi.max()) + margin)
    return ra0, dec0, west_east, (float(eta.min()) - margin, float(eta.max()) + margin)


def _density(
    ra: NDArray[np.float64], dec: NDArray[np.float64], ra0: float, dec0: float
) -> NDArray[np.float64]:
    """Part of the stars that is kept at a place: the cluster thins out as 1 / r^2."""
    squeeze = math.cos(math.radians(CORE[1]))
    there = ((ra - CORE[0]) * squeeze) ** 2 + (dec - CORE[1]) ** 2
    middle = ((ra0 - CORE[0]) * squeeze) ** 2 + (dec0 - CORE[1]) ** 2
    return np.minimum(_MEAN_DENSITY * middle / there, 1.0)


def draw_magnitudes(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Draw `count` magnitudes from the luminosity function."""
    steps = np.diff(_MAGNITUDES) * (_NUMBERS[1:] + _NUMBERS[:-1]) / 2
    cumulative = np.concatenate([[0.0], np.cumsum(steps)]) / steps.sum()
    return np.asarray(np.interp(rng.random(count), cumulative, _MAGNITUDES), np.float64)
