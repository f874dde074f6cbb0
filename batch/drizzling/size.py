"""How large things are, before anything is known about the exposures but their raw frames."""

from __future__ import annotations

import math

from batch.model.observation import Association, Exposure
from batch.model.pointing import extent

PIXEL = {"WFC": 0.05, "HRC": 0.025}
"""Pixel of a detector, arcsec."""
SCALE = {"WFC": 0.03, "HRC": 0.025}
"""Default pixel of a mosaic, arcsec."""
LARGEST_DROP = 11.0
"""Output pixels that an input pixel, shrunk by pixfrac, may cover each way in the multi-pixfrac drizzle."""
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
    whole = extent(known, rotation)
    if whole is None:
        return None
    pixel = scale or SCALE[known[0].detector]
    rows, columns = (math.ceil(3600 * side / pixel) for side in whole)
    return rows, columns


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
