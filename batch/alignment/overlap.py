"""Which exposures lie on top of each other on the sky."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

GRID = 16
"""Points along each side of a chip that stand for its area."""
NEAR = 0.999
"""Cosine of 2.6 degrees: further away no chip of ACS overlaps."""


def overlap_matrix(exposures: Sequence[Sequence[Any]], margin: float) -> NDArray[np.float64]:
    """How much of each exposure lies on each other one.

    Parameters
    ----------
    exposures : sequence of sequences of WCS
        One astropy (or stwcs) WCS with `pixel_shape` per chip of each exposure. Only the linear part
        is used: distortion moves corners by some tens of pixels, `margin` covers that.
    margin : float
        Pixels by which positions may be off: what lies that far outside a chip still counts.

    Returns
    -------
    ndarray of float64, shape (exposures, exposures)
        Element (i, j): the fraction of exposure i's area that exposure j covers.
    """
    skies = [np.concatenate([_grid(chip) for chip in chips]) for chips in exposures]
    matrix = np.eye(len(exposures))
    for i, sky in enumerate(skies):
        for j, chips in enumerate(exposures):
            if i != j:
                covered = np.zeros(len(sky), bool)
                for chip in chips:
                    covered |= inside(chip, sky, margin)
                matrix[i, j] = covered.mean()
    return matrix


def _grid(chip: Any) -> NDArray[np.float64]:
    nx, ny = chip.pixel_shape
    x, y = np.meshgrid(np.linspace(0, nx - 1, GRID), np.linspace(0, ny - 1, GRID))
    return np.asarray(chip.wcs_pix2world(np.column_stack([x.ravel(), y.ravel()]), 0))


def inside(chip: Any, sky: NDArray[np.float64], margin: float) -> NDArray[np.bool_]:
    """Which positions (RA, Dec; deg) lie on a chip or within `margin` pixels of it, by its linear WCS."""
    nx, ny = chip.pixel_shape
    result = np.zeros(len(sky), bool)
    # a gnomonic projection has no pixels for the other half of the sky
    near = _direction(sky) @ _direction(np.asarray(chip.wcs.crval)) > NEAR
    if near.any():
        x, y = chip.wcs_world2pix(sky[near], 0).T
        result[near] = (x > -margin) & (x < nx + margin) & (y > -margin) & (y < ny + margin)
    return result


def _direction(sky: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit vectors of positions (RA, Dec) in degrees, along the last axis."""
    ra, dec = np.deg2rad(sky[..., 0]), np.deg2rad(sky[..., 1])
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def out_of_reach(matrix: NDArray[np.float64], first: int, least: float) -> list[int]:
    """Exposures that no chain of overlaps of at least `least` connects with exposure `first`."""
    joined = {first}
    while True:
        more = {j for i in joined for j in range(len(matrix)) if max(matrix[i, j], matrix[j, i]) >= least}
        if more <= joined:
            return sorted(set(range(len(matrix))) - joined)
        joined |= more


def order_by_overlap(matrix: NDArray[np.float64], first: int) -> list[int]:
    """All exposures, `first` in front, each next one the one that overlaps most with those before."""
    order = [first]
    while len(order) < len(matrix):
        rest: Mapping[int, float] = {
            j: max(matrix[j, i] for i in order) for j in range(len(matrix)) if j not in order
        }
        order.append(max(rest, key=lambda j: (rest[j], -j)))
    return order
