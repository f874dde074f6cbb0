"""Drizzle as the paper puts it: every drop clipped against every output pixel, one after the other.

Fruchter & Hook 2002, PASP 114, 144; polygons are clipped by the algorithm of Sutherland and Hodgman (1974).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Point = tuple[float, float]


def clip(polygon: list[Point], axis: int, limit: float, sign: float) -> list[Point]:
    """The part of a polygon where sign * coordinate[axis] >= sign * limit."""
    result: list[Point] = []
    for i, end in enumerate(polygon):
        start = polygon[i - 1]
        inside, was = sign * (end[axis] - limit) >= 0, sign * (start[axis] - limit) >= 0
        if inside != was:
            t = (limit - start[axis]) / (end[axis] - start[axis])
            crossing = [start[0] + t * (end[0] - start[0]), start[1] + t * (end[1] - start[1])]
            crossing[axis] = limit
            result.append((crossing[0], crossing[1]))
        if inside:
            result.append(end)
    return result


def area(polygon: list[Point]) -> float:
    """With the sign of the sense in which its corners follow."""
    if len(polygon) < 3:
        return 0.0
    x0, y0 = polygon[0]
    return 0.5 * sum(
        (a[0] - x0) * (b[1] - y0) - (b[0] - x0) * (a[1] - y0)
        for a, b in zip(polygon, polygon[1:] + polygon[:1], strict=True)
    )


def corner(mapping: Any, x: float, y: float) -> Point:
    """Output coordinates of an input position."""
    if mapping.exact is not None:
        u, v = mapping.exact(np.array([x]), np.array([y]))
        return float(u[0]), float(v[0])
    k, j = int(x // mapping.step), int(y // mapping.step)
    t, s = x / mapping.step - k, y / mapping.step - j
    found = []
    for nodes in (mapping.nodes_x, mapping.nodes_y):
        low = nodes[j, k] * (1 - t) + nodes[j, k + 1] * t
        high = nodes[j + 1, k] * (1 - t) + nodes[j + 1, k + 1] * t
        found.append(float(low * (1 - s) + high * s))
    return found[0], found[1]


def drizzle(
    chips: Sequence[Any], shape: tuple[int, int], pixfrac: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Weighted means, weights, and which chip touched which pixel.

    Returns
    -------
    values, weights : float64 (rows, columns)
        Values are NaN where there is no weight.
    touched : bool (chips, rows, columns)
    """
    sums = np.zeros(shape)
    weights = np.zeros(shape)
    touched = np.zeros((len(chips), *shape), bool)
    half = pixfrac / 2
    for number, chip in enumerate(chips):
        for (row, column), value in np.ndenumerate(chip.values):
            weight = float(chip.weights[row, column])
            if weight <= 0:
                continue
            x, y = column + 1, row + 1
            signs = ((-half, -half), (half, -half), (half, half), (-half, half))
            drop = [corner(chip.mapping, x + dx, y + dy) for dx, dy in signs]
            whole = area(drop)
            low = [int(np.floor(min(p[i] for p in drop))) for i in (0, 1)]
            high = [int(np.floor(max(p[i] for p in drop))) for i in (0, 1)]
            for j in range(max(low[1], 0), min(high[1], shape[0] - 1) + 1):
                band = clip(clip(drop, 1, j, 1), 1, j + 1, -1)
                for i in range(max(low[0], 0), min(high[0], shape[1] - 1) + 1):
                    share = weight * area(clip(clip(band, 0, i, 1), 0, i + 1, -1)) / whole
                    if share > 1e-12 * weight:
                        sums[j, i] += share * float(value)
                        weights[j, i] += share
                        touched[number, j, i] = True
    with np.errstate(invalid="ignore"):
        return sums / weights, weights, touched
