"""What sizes on the sky mean in the pixels of a mosaic."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits

from batch.errors import InputError

FWHM = {"WFC": 0.10, "HRC": 0.07}
"""Width of stars on the sky, arcsec (ACS Instrument Handbook 5.6)."""
NATIVE = {"WFC": 0.05, "HRC": 0.0265}
"""Side of a square as large as a detector pixel on the sky, arcsec (HRC's are 0.028 x 0.025)."""
BRIGHT = {"WFC": 50_000.0, "HRC": 100_000.0}
"""Electrons in one pixel of one exposure, as a mosaic shows them: some 60 % of the full well (84,700 and
165,000, ACS Instrument Handbook 4.3.1), because drops dilute a peak."""

# arcsec; for WFC, HRC's stars are narrower by 0.7
CORE = 0.15
"""Radius within which a star's shape is fitted."""
APERTURES = (0.10, 0.30)
"""Radii of the two apertures."""
RING = (0.20, 0.50)
"""Between these radii there must be no neighbour."""
SKY = (0.35, 0.50)
"""Radii between which the local sky is taken."""


@dataclass(frozen=True)
class Sampling:
    """Pixels of a mosaic, and what of a star they show."""

    scale: float
    """Side of an output pixel, arcsec."""
    native: float
    """Side of an input pixel, arcsec."""
    fwhm: float
    """Width that stars should have, arcsec."""
    brightest: float
    """A star with a pixel above this may be saturated; in the units of the mosaic."""

    @classmethod
    def of(cls, path: Path | str, hdu: int, detector: str, exptime: float) -> Sampling:
        """From the WCS of a mosaic in electrons / s.

        Parameters
        ----------
        path : Path or str
        hdu : int
        detector : str
            ``WFC`` or ``HRC``.
        exptime : float
            Of the longest of the exposures, s.

        Raises
        ------
        InputError
            If the header has no CD matrix.
        """
        header = fits.getheader(path, hdu)
        keywords = [[f"CD{i}_{j}" for j in (1, 2)] for i in (1, 2)]
        absent = [k for row in keywords for k in row if k not in header]
        if absent:
            raise InputError.about(path, f"has no {', '.join(absent)}", "run the sweep again")
        cd = np.array([[header[k] for k in row] for row in keywords], dtype=float)
        scale = 3600 * math.sqrt(abs(float(np.linalg.det(cd))))
        native = NATIVE.get(detector, NATIVE["WFC"])
        # the light of an input pixel falls on (native / scale)**2 output pixels
        brightest = BRIGHT.get(detector, BRIGHT["WFC"]) * (scale / native) ** 2 / exptime
        return cls(scale, native, FWHM.get(detector, FWHM["WFC"]), brightest)

    def pixels(self, arcsec: float) -> float:
        """An angle measured along with stars' widths: in pixels, as if stars were as wide as WFC's."""
        return arcsec * self.fwhm / FWHM["WFC"] / self.scale

    @property
    def reach(self) -> int:
        """Pixels from the middle of a cutout to its rim."""
        return math.ceil(self.pixels(RING[1]))
