"""How large things are, before anything is known about the exposures but their raw frames."""

from __future__ import annotations

from batch.model.observation import Association

PIXEL = {"WFC": 0.05, "HRC": 0.025}
"""Pixel of a detector, arcsec."""
SCALE = {"WFC": 0.03, "HRC": 0.025}
"""Default pixel of a mosaic, arcsec."""


def output_pixels(association: Association, scale: float | None) -> int:
    """Pixels of an association's mosaic, as far as can be foreseen; 0 where no raw header could be read.

    The chips on top of each other, turned by nearly 45 degrees: 9250 x 9227 were measured for four full WFC
    exposures, 2 x 2068 x 4144, at 0.03 arcsec.

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
    return int(most)


def largest_chip(association: Association) -> int:
    """Pixels of the largest raw chip."""
    return max((e.shape[0] * e.shape[1] for e in association.exposures), default=0)
