"""How large things are, before anything is known about the exposures but their raw frames."""

from __future__ import annotations

import math

from batch.model.observation import Association, Exposure
from batch.model.pointing import frame

PIXEL = {"WFC": 0.05, "HRC": 0.025}
"""Pixel of a detector, arcsec."""
SCALE = {"WFC": 0.03, "HRC": 0.025}
"""Default pixel of a mosaic, arcsec."""
LARGEST_DROP = 11.0
"""Output pixels that an input pixel, shrunk by pixfrac, may cover each way in the multi-pixfrac drizzle."""
_POINTS = 9
"""Points each way that stand for a box."""
_SPARE = 1.1
"""Distortion, and what alignment moves, make a mosaic that much larger than foreseen."""


def foreseen(association: Association, scale: float | None, rotation: float = 0.0) -> tuple[int, int] | None:
    """Rows and columns of a mosaic, to some per cent; None if it is not known where all exposures point.

    Parameters
    ----------
    association : Association
        Its exposures count, not those set aside.
    scale : float or None
        Output pixel, arcsec; None is the detector's default.
    rotation : float
        Position angle of the output's y axis, deg.
    """
    known = [e for e in association.exposures if e.detector in PIXEL]
    whole = frame(known, rotation)
    if whole is None:
        return None
    pixel = scale or SCALE[known[0].detector]
    return math.ceil(3600 * whole.height / pixel), math.ceil(3600 * whole.width / pixel)


def falls_beside(
    association: Association,
    box: tuple[int, int, int, int],
    margin: float,
    scale: float | None,
    rotation: float,
) -> bool:
    """Whether a part of a box lies where no exposure points, as far as can be foreseen.

    Parameters
    ----------
    association : Association
    box : tuple of int
        x0, x1, y0, y1 in pixels of the mosaic.
    margin : float
        How far exposures and mosaic may lie from where they are foreseen, output pixels.
    scale, rotation : float
        As for `foreseen`.
    """
    known = [e for e in association.exposures if e.detector in PIXEL]
    whole = frame(known, rotation)
    if whole is None:
        return False
    pixel = (scale or SCALE[known[0].detector]) / 3600
    x0, x1, y0, y1 = (v * pixel for v in box)
    parts = [i / (_POINTS - 1) for i in range(_POINTS)]
    points = [(x0 + (x1 - x0) * u, y0 + (y1 - y0) * v) for u in parts for v in parts]
    return not whole.holds(points, margin * pixel)


def drop(exposure: Exposure, scale: float, rotation: float = 0.0) -> float:
    """Extent of an input pixel along x or y of the output, the larger of both, output pixels.

    Parameters
    ----------
    exposure : Exposure
    scale : float
        Output pixel, arcsec.
    rotation : float
        Position angle of the output's y axis, deg.
    """
    if not exposure.wcs:
        return PIXEL.get(exposure.detector, 0.0) / scale
    a, b, c, d = exposure.wcs[4:]
    cosine, sine = math.cos(math.radians(rotation)), math.sin(math.radians(rotation))
    across = abs(a * cosine - c * sine) + abs(b * cosine - d * sine)
    along = abs(a * sine + c * cosine) + abs(b * sine + d * cosine)
    return 3600 * max(across, along) / scale


def output_pixels(association: Association, scale: float | None) -> int:
    """Pixels of an association's mosaic, as far as can be foreseen; 0 where no raw header could be read.

    The chips on top of each other, turned by nearly 45 degrees: 9250 x 9227 were measured for four full WFC
    exposures, 2 x 2068 x 4144, at 0.03 arcsec. More where exposures point further apart than that allows for.

    Parameters
    ----------
    association : Association
        Its exposures count, not those set aside.
    scale : float or None
        Output pixel, arcsec; None is the detector's default.
    """
    most = 0.0
    for exposure in association.exposures:
        if exposure.detector in PIXEL:
            ratio = PIXEL[exposure.detector] / (scale or SCALE[exposure.detector])
            rows, columns = exposure.shape
            most = max(most, 0.54 * ((rows * exposure.chips + columns) * ratio) ** 2)
    # the larger of the two: whatever `combine.rotation` is, and wherever headers only nearly point
    rows, columns = foreseen(association, scale) or (0, 0)
    return int(max(most, _SPARE * rows * columns))


def largest_chip(association: Association) -> int:
    """Pixels of the largest raw chip."""
    return max((e.shape[0] * e.shape[1] for e in association.exposures), default=0)
