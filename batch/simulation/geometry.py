"""Distortion: its reference files, and where a star falls on the detector."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

from batch.simulation import distortion, headers
from batch.simulation.filters import FILTERS
from batch.simulation.frame import NX, NY, Chip, Frame
from batch.simulation.settings import VisitSettings

_STEP = 64
"""Pixels from one entry of the NPOL and D2IM tables to the next."""


def idctab() -> Table:
    """Make the rows of the IDCTAB: one for each chip and filter, all with the solution of F606W."""
    rows = []
    for band in FILTERS.values():
        for chip, polynomial in distortion.POLYNOMIALS.items():
            row: dict[str, object] = {
                "DETCHIP": np.int16(chip),
                "DIRECTION": "FORWARD",
                "FILTER1": band.filter1,
                "FILTER2": band.filter2,
                "XSIZE": np.int32(NX),
                "YSIZE": np.int32(NY),
                "XREF": distortion.XREF,
                "YREF": distortion.YREF,
                "V2REF": polynomial.v2ref,
                "V3REF": polynomial.v3ref,
                "SCALE": distortion.SCALE,
            }
            for axis, orders in (("CX", polynomial.cx), ("CY", polynomial.cy)):
                for order, terms in enumerate(orders, start=1):
                    row |= {f"{axis}{order}{k}": term for k, term in enumerate(terms)}
            rows.append(row)
    return Table(rows)


def cosine_table(terms: Sequence[Sequence[int]], unit: float) -> NDArray[np.float32]:
    """Sum cosine terms over a chip.

    Parameters
    ----------
    terms : (nj, ni) int
        Amplitudes of cos(pi j (y + 1/2) / 32) cos(pi i (x + 1/2) / 64) in units of `unit` pixels.

    Returns
    -------
    (32, 64) float32
        Pixels.
    """
    amplitude = np.asarray(terms, float) * unit
    ny, nx = NY // _STEP, NX // _STEP
    y = np.cos(np.pi * np.outer(np.arange(amplitude.shape[0]), np.arange(ny) + 0.5) / ny)
    x = np.cos(np.pi * np.outer(np.arange(amplitude.shape[1]), np.arange(nx) + 0.5) / nx)
    return np.asarray(y.T @ amplitude @ x, np.float32)


def lookup_hdus(
    tables: Mapping[tuple[int, str], Sequence[Sequence[int]]], unit: float
) -> list[fits.ImageHDU]:
    """Make the DX and DY extensions of an NPOLFILE or D2IMFILE; EXTVER 1 is chip 2."""
    hdus = []
    for (chip, axis), terms in tables.items():
        hdu = fits.ImageHDU(cosine_table(terms, unit), name=axis, ver=3 - chip)
        hdu.header.update(ONAXIS1=NX, ONAXIS2=NY, CDELT1=_STEP, CDELT2=_STEP, CCDCHIP=chip, INHERIT=False)
        hdus.append(hdu)
    return hdus


@dataclass(frozen=True)
class Geometry:
    """The true mapping between the sky and the chips of one exposure, overscan left out."""

    wcs: tuple[WCS, ...]
    """By chip, in the order of `Frame.chips`."""
    frame: Frame

    def pixels(
        self, chip: int, ra: NDArray[np.float64], dec: NDArray[np.float64], margin: float
    ) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]:
        """Find the stars on a chip.

        Parameters
        ----------
        chip : int
            Index into `Frame.chips`.
        ra, dec : (n,) float64
            Degrees.
        margin : float
            Stars are also given that lie this many pixels outside.

        Returns
        -------
        index, x, y : (m,)
            Which stars, and their zero-based positions, good to 1e-5 pixel.
        """
        wcs, part = self.wcs[chip], self.frame.chips[chip]
        roughly = wcs.wcs_world2pix(ra, dec, 0)
        # Distortion within a chip stays below 100 pixels.
        near = np.flatnonzero(_inside(roughly, part, margin + 150))
        x, y = wcs.all_world2pix(ra[near], dec[near], 0, tolerance=1e-6, maxiter=40, adaptive=True)
        inside = _inside((x, y), part, margin)
        return near[inside], x[inside], y[inside]

    def pixel_area(self, chip: int) -> NDArray[np.float32]:
        """Area of each pixel on the sky over that of a 0.05 arcsec square, (height, width) float32."""
        wcs, part = self.wcs[chip], self.frame.chips[chip]
        nodes = np.linspace(-1, 1, 33)
        u, v = (a.ravel() for a in np.meshgrid(nodes, nodes))
        x, y = (u + 1) / 2 * (part.width - 1), (v + 1) / 2 * (part.height - 1)
        # Over 64 pixels, so that the steps of the bilinear tables average out.
        h = 32.0
        along_x = _arcsec_between(wcs, (x - h, y), (x + h, y))
        along_y = _arcsec_between(wcs, (x, y - h), (x, y + h))
        area = np.abs(along_x[0] * along_y[1] - along_x[1] * along_y[0]) / (2 * h * distortion.SCALE) ** 2
        order = 5
        terms = chebyshev.chebvander2d(u, v, [order, order])
        fit = np.linalg.lstsq(terms, area, rcond=None)[0].reshape(order + 1, order + 1)
        columns = chebyshev.chebvander(np.linspace(-1, 1, part.width), order)
        rows = chebyshev.chebvander(np.linspace(-1, 1, part.height), order)
        return np.asarray(rows @ fit.T @ columns.T, np.float32)


Positions = tuple[NDArray[np.float64], NDArray[np.float64]]


def _inside(xy: Positions, chip: Chip, margin: float) -> NDArray[np.bool_]:
    x, y = xy
    low = -0.5 - margin
    return (x > low) & (x < chip.width + margin - 0.5) & (y > low) & (y < chip.height + margin - 0.5)


def _arcsec_between(wcs: WCS, start: Positions, end: Positions) -> Positions:
    """Arcsec to the east and north from one set of pixels to another."""
    ra0, dec0 = wcs.all_pix2world(*start, 0)
    ra1, dec1 = wcs.all_pix2world(*end, 0)
    return (ra1 - ra0) * np.cos(np.radians((dec1 + dec0) / 2)) * 3600, (dec1 - dec0) * 3600


def true_geometry(
    template: headers.Template,
    settings: VisitSettings,
    frame: Frame,
    observation: headers.Observation,
    references: Mapping[str, Path],
) -> Geometry:
    """Build the mapping of an exposure with stwcs, from the true pointing and the visit's reference files.

    Parameters
    ----------
    references : mapping
        Paths of IDCTAB, NPOLFILE and D2IMFILE.
    """
    from stwcs.updatewcs import updatewcs
    from stwcs.wcsutil import HSTWCS

    names = {key: path.name for key, path in references.items()}
    primary = headers.primary(template, settings, frame, observation, "", names)
    for key in ("IDCTAB", "NPOLFILE", "D2IMFILE"):
        primary[key] = str(references[key])
    hdus = fits.HDUList([fits.PrimaryHDU(header=primary)])
    for chip in frame.chips:
        # The pixels do not matter, but where they are as few as in its table stwcs leaves the NPOLFILE out.
        pixels = np.zeros((NY // _STEP + 1, NX // _STEP + 1), np.float32)
        hdu = fits.ImageHDU(pixels, name="SCI", ver=chip.extver)
        hdu.header.update(
            CCDCHIP=chip.number,
            BINAXIS1=1,
            BINAXIS2=1,
            **headers.wcs_cards(template, chip, observation, trimmed=True, true_pointing=True),
        )
        hdus.append(hdu)
    # stwcs tells standard output which row of the IDCTAB it took.
    with contextlib.redirect_stdout(io.StringIO()):
        updatewcs(hdus, checkfiles=False, use_db=False)
        mappings = tuple(HSTWCS(hdus, ext=("SCI", chip.extver)) for chip in frame.chips)
    return Geometry(mappings, frame)
