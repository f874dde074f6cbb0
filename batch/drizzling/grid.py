"""The output grid of a mosaic, and the headers that go with it."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from astropy.io import fits
from astropy.io.fits import Header
from astropy.wcs import WCS, FITSFixedWarning

from batch.errors import InputError
from batch.storage.planes import BLOCK

KINDS = ("sci", "wht", "ctx")
_SAME = 1e-6
"""Scales that differ by less are one: over a mosaic of 10,000 pixels they stay within a hundredth of one."""


@dataclass(frozen=True)
class Grid:
    """Shape and WCS of an output, with the headers of a mosaic of the same exposures."""

    shape: tuple[int, int]
    """(rows, columns)"""
    wcs: WCS
    """Celestial, without distortion."""
    headers: dict[str, Header]
    """Of the images ``sci``, ``wht`` and ``ctx``: what they say about exposures and calibration is kept."""
    table: fits.BinTableHDU | None = None
    """HDRTAB, the headers of the exposures by rows."""

    @property
    def scale(self) -> float:
        """Side of a pixel, arcsec."""
        return 3600 * math.hypot(*self.wcs.wcs.cd[:, 0])

    @classmethod
    def read(cls, science: Path, weight: Path, context: Path) -> Grid:
        """The grid of a mosaic that AstroDrizzle made: three files, the image in HDU 0.

        Raises
        ------
        InputError
            If a file cannot be read, or holds no celestial image.
        """
        headers = {}
        for kind, path in zip(KINDS, (science, weight, context), strict=True):
            try:
                with fits.open(path, memmap=True) as hdus:
                    headers[kind] = hdus[0].header.copy()
                    if kind == "sci":
                        table = next((h.copy() for h in hdus[1:] if h.name == "HDRTAB"), None)
            except OSError as error:
                raise InputError.about(path, f"cannot be read ({error})", "make the mosaic again") from error
        header = headers["sci"]
        with warnings.catch_warnings():
            # the date and the name of the reference frame are none of the grid's business
            warnings.simplefilter("ignore", FITSFixedWarning)
            wcs = WCS(header)
        if header["NAXIS"] != 2 or not wcs.has_celestial or not wcs.wcs.has_cd():
            what = "HDU 0 holds no image with a celestial WCS"
            raise InputError.about(science, what, "name a mosaic made with build=False")
        return cls((header["NAXIS2"], header["NAXIS1"]), wcs, headers, table)

    @property
    def numbers(self) -> dict[str, Any]:
        """Shape and WCS as JSON values, as `mosaic.check` has them."""
        header = self.headers["sci"]
        return {
            "shape": list(self.shape),
            "crval": [header["CRVAL1"], header["CRVAL2"]],
            "crpix": [header["CRPIX1"], header["CRPIX2"]],
            "cd": [[header[f"CD{i}_{j}"] for j in (1, 2)] for i in (1, 2)],
        }

    def write_reference(self, path: Path) -> None:
        """Write an image without pixels, a hole in the file, for AstroDrizzle to take the WCS from."""
        header = self.headers["sci"].copy()
        header["NAXIS1"], header["NAXIS2"] = self.shape[1], self.shape[0]
        head = header.tostring().encode("ascii")
        size = 4 * self.shape[0] * self.shape[1]
        with path.open("wb") as out:
            out.write(head)
            out.truncate(len(head) + -(-size // BLOCK) * BLOCK)

    def rescaled(self, scale: float) -> Grid:
        """The same area with pixels of another size, arcsec."""
        factor = self.scale / scale
        if abs(factor - 1) < _SAME:
            return self
        wcs = self.wcs.deepcopy()
        wcs.wcs.cd = self.wcs.wcs.cd / factor
        wcs.wcs.crpix = (self.wcs.wcs.crpix - 0.5) * factor + 0.5
        rows, columns = (math.ceil(n * factor - 1e-6) for n in self.shape)
        headers = {kind: header.copy() for kind, header in self.headers.items()}
        for header in headers.values():
            for i in (1, 2):
                header[f"CRPIX{i}"] = float(wcs.wcs.crpix[i - 1])
                for j in (1, 2):
                    header[f"CD{i}_{j}"] = float(wcs.wcs.cd[i - 1, j - 1])
        return replace(self, shape=(rows, columns), wcs=wcs, headers=headers)
