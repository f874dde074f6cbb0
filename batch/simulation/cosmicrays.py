"""Cosmic rays: tracks and points, with the truth about which pixels they hit."""

from __future__ import annotations

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

PIXEL = 15e-4
"""Side of a pixel, and about the depth in which charge is collected, cm."""
_CHARGE = 1200.0
"""Typical electrons that a particle leaves per pixel side of path (80 / micron)."""
_DIFFUSION = 0.35
"""Spread of the charge on its way to the pixels, pixels rms."""
_STEP = 0.2
"""Pixels between the bunches of charge along a track."""


def strike(
    rng: np.random.Generator, shape: tuple[int, int], rate: float, seconds: float
) -> tuple[NDArray[np.float32], Table]:
    """Let cosmic rays hit a chip.

    Parameters
    ----------
    shape : (ny, nx)
    rate : float
        Events / s / cm2.
    seconds : float
        Exposure and half the readout, s.

    Returns
    -------
    electrons : (ny, nx) float32
        What they leave.
    pixels : Table
        X, Y (int16, zero-based, without overscan) and ELECTRONS (float32) of pixels that got one or more.
    """
    ny, nx = shape
    # Tracks also come in over the edges.
    margin = 20
    area = (ny + 2 * margin) * (nx + 2 * margin) * PIXEL**2
    count = rng.poisson(rate * area * seconds)
    # Particles from all sides through a horizontal plane: the flux goes as cos(zenith angle).
    slope = np.tan(np.arccos(np.sqrt(1 - rng.random(count) * 0.999)))
    length = np.minimum(slope, 60.0)
    path = np.sqrt(1 + length**2)
    # Losses scatter upwards, as in a thin absorber.
    total = _CHARGE * path * np.exp(rng.normal(0, 0.25, count)) * (1 + rng.exponential(0.25, count))
    angle = rng.uniform(0, 2 * np.pi, count)
    x0 = rng.uniform(-margin, nx + margin, count)
    y0 = rng.uniform(-margin, ny + margin, count)

    bunches = np.ceil(length / _STEP).astype(np.intp) + 12
    event = np.repeat(np.arange(count), bunches)
    first = np.cumsum(bunches) - bunches
    along = (np.arange(event.size) - first[event] + 0.5) / bunches[event]
    spread = rng.normal(0, _DIFFUSION, (2, event.size))
    x = x0[event] + along * length[event] * np.cos(angle[event]) + spread[0]
    y = y0[event] + along * length[event] * np.sin(angle[event]) + spread[1]
    weight = rng.gamma(4.0, 0.25, event.size)
    weight *= (total / np.bincount(event, weight, count))[event] if count else 1.0

    column, row = np.floor(x).astype(np.intp), np.floor(y).astype(np.intp)
    inside = (column >= 0) & (column < nx) & (row >= 0) & (row < ny)
    charge = np.bincount(row[inside] * nx + column[inside], weight[inside], ny * nx)
    hit = np.flatnonzero(charge >= 1)
    pixels = Table(
        {
            "X": (hit % nx).astype(np.int16),
            "Y": (hit // nx).astype(np.int16),
            "ELECTRONS": charge[hit].astype(np.float32),
        }
    )
    return charge.reshape(ny, nx).astype(np.float32), pixels
