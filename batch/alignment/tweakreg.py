"""One call of TweakReg over exposures whose stars are known already."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from batch.alignment.sources import Sources
from batch.errors import LibraryError
from batch.isolation.library import library_call

WCSNAME = "TWEAK"
FIT, SHIFTS, LISTS, CATALOG = "tweakreg", "shifts.txt", "sources.txt", "catalog.txt"
TOLERANCE = 3.0
"""How far from the first guess of the offset a match may lie, pixels. The guess is the peak of a parabola
through 5 x 5 bins of a histogram, and was seen 2.6 pixels off where the true peak was one sharp bin; false
matches that this lets in are clipped from the fit."""


@dataclass(frozen=True)
class Fit:
    """How one exposure was moved. Lengths in pixels of the undistorted frame, at the detector's scale."""

    dx: float
    dy: float
    rotation: float
    """deg"""
    scale: float
    rms_x: float
    rms_y: float
    matches: int
    """Stars that the fit rests on; 0 for the exposure that the others were aligned to."""

    @property
    def found(self) -> bool:
        """Whether TweakReg found a solution."""
        return not math.isnan(self.dx)


NO_FIT = Fit(math.nan, math.nan, math.nan, math.nan, math.nan, math.nan, 0)


def align(
    paths: Sequence[Path],
    sources: Sequence[Sequence[Sources]],
    *,
    geometry: str,
    search_radius: float,
    pixel: float,
    min_matches: int,
    catalog: Sequence[tuple[float, float]] = (),
    expand: bool = False,
) -> list[Fit]:
    """Align exposures to the first one, or all of them to a catalogue, and update their headers.

    TweakReg works in the current folder and leaves files there, so the process must stand in one of
    its own that holds the exposures.

    Parameters
    ----------
    paths : sequence of Path
        Writable flt files in the current folder, with the WCS in every SCI header.
    sources : sequence of sequences of Sources
        The stars of each chip of each exposure.
    geometry : str
        ``shift``, ``rscale`` or ``general``.
    search_radius : float
        How far off pointings may be, arcsec.
    pixel : float
        Pixel scale of the detector, arcsec.
    min_matches : int
        With fewer matches there is no fit.
    catalog : sequence of (RA, Dec), optional
        deg; without it the first exposure is the reference.
    expand : bool
        Whether stars of exposures that are aligned already serve as reference for the next ones, which
        exposures that do not overlap with the first one need.

    Returns
    -------
    list of Fit
        For each path, NaN where no solution was found.

    Raises
    ------
    LibraryError
        When TweakReg fails or does not say what it did.
    """
    lines = [" ".join([p.name, *_write_lists(p, chips)]) for p, chips in zip(paths, sources, strict=True)]
    Path(LISTS).write_text("\n".join(lines) + "\n", encoding="utf-8")
    if catalog:
        rows = (f"{ra:.10f} {dec:.10f}\n" for ra, dec in catalog)
        Path(CATALOG).write_text("".join(rows), encoding="utf-8")
    os.environ["MPLBACKEND"] = "agg"
    with library_call(f"TweakReg of {paths[0].name} and {len(paths) - 1} more"):
        from drizzlepac.tweakreg import TweakReg

        TweakReg(
            [p.name for p in paths],
            updatewcs=False,
            enforce_user_order=True,
            expand_refcat=expand,
            writecat=False,
            clean=False,
            interactive=False,
            verbose=False,
            runfile=f"{FIT}.log",
            updatehdr=True,
            wcsname=WCSNAME,
            shiftfile=True,
            outshifts=SHIFTS,
            outwcs="shifts_wcs.fits",
            catfile=LISTS,
            xcol=1,
            ycol=2,
            fluxcol=3,
            xyunits="pixels",
            refcat=CATALOG if catalog else "",
            refxcol=1,
            refycol=2,
            refxyunits="degrees",
            minobj=min_matches,
            # TweakReg rounds the radius up in its histogram of offsets but not when it reads the peak
            # off it, which puts the peak up to a pixel off unless the radius is a whole number of pixels
            searchrad=float(math.ceil(search_radius / pixel)),
            searchunits="pixels",
            use2dhist=True,
            see2dplot=False,
            separation=0.5,
            tolerance=TOLERANCE,
            fitgeometry=geometry,
            residplot="No plot",
            nclip=5,
            sigma=3.0,
        )
    return _read(paths, first_is_reference=not catalog)


def _write_lists(path: Path, chips: Sequence[Sources]) -> list[str]:
    """One text file per chip, in FITS pixels."""
    names = []
    for number, found in enumerate(chips, 1):
        name = f"{path.name.removesuffix('.fits')}_{number}.txt"
        rows = [
            f"{x + 1:.4f} {y + 1:.4f} {f:.6g}\n" for x, y, f in zip(found.x, found.y, found.flux, strict=True)
        ]
        # an empty list makes TweakReg stop; one false source in the corner matches nothing
        Path(name).write_text("".join(rows) or "1.0 1.0 1.0\n", encoding="utf-8")
        names.append(name)
    return names


def _read(paths: Sequence[Path], first_is_reference: bool) -> list[Fit]:
    """The fits, from the table of shifts and, for the number of stars, from the headers."""
    from astropy.io import fits

    if not Path(SHIFTS).is_file():
        raise LibraryError("TweakReg made no fit at all and did not say why; see the task's log")
    rows: Mapping[str, list[str]] = {
        line.split()[0]: line.split()[1:]
        for line in Path(SHIFTS).read_text(encoding="utf-8").splitlines()
        if line.strip() and not line.startswith("#")
    }
    fitted = []
    for index, path in enumerate(paths):
        header = fits.getheader(path, ("SCI", 1))
        if index == 0 and first_is_reference:
            fitted.append(Fit(0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0))
        elif path.name not in rows or header.get("WCSNAME") != WCSNAME or "NMATCH" not in header:
            fitted.append(NO_FIT)
        else:
            dx, dy, rotation, scale, rms_x, rms_y = map(float, rows[path.name])
            rotation = (rotation + 180) % 360 - 180
            fitted.append(Fit(dx, dy, rotation, scale, rms_x, rms_y, int(header["NMATCH"])))
    return fitted
