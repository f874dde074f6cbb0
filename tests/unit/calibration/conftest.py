"""A small exposure with a full set of reference files: a WFC subarray of amp A, 72 x 52 pixels."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

NX, NY, TRIM_X, TRIM_Y = 72, 52, 24, 20
ACTIVE = (NY - TRIM_Y, NX - TRIM_X)


@dataclass
class Exposure:
    """Where a small exposure and its reference files lie, and what its primary header says."""

    folder: Path
    keywords: dict[str, Any] = field(default_factory=dict)

    @property
    def jref(self) -> Path:
        return self.folder / "jref"

    @property
    def raw(self) -> Path:
        return self.folder / "jtest01aq_raw.fits"

    @property
    def area(self) -> Path:
        return self.folder / "out"

    def write(self, **changes: Any) -> Path:
        """Write the raw file with changed primary keywords; None leaves one out."""
        header = fits.Header()
        for keyword, value in (self.keywords | changes).items():
            if value is not None:
                header[keyword] = value
        random = np.random.default_rng(1)
        sci = random.normal(2450, 2, (NY, NX))
        sci[30, 40] = 65535
        sci = np.round(sci).astype(np.uint16)
        offsets = {"CCDCHIP": 1, "LTV1": 24.0, "LTV2": 20.0, "LTM1_1": 1.0, "LTM2_2": 1.0}
        hdus = [fits.PrimaryHDU(header=header), fits.ImageHDU(sci, name="SCI", ver=1)]
        for name in ("ERR", "DQ"):
            hdus.append(fits.ImageHDU(name=name, ver=1))
            hdus[-1].header.update(NPIX1=NX, NPIX2=NY, PIXVALUE=0)
        for hdu in hdus[1:]:
            hdu.header.update(offsets | {"CRPIX1": 30.0, "CRPIX2": 26.0})
        hdus[1].header.update(SDQFLAGS=31743, BUNIT="COUNTS", NCOMBINE=1)
        fits.HDUList(hdus).writeto(self.raw, overwrite=True)
        return self.raw


def image(
    path: Path,
    sci: np.ndarray,
    *,
    err: float = 0.01,
    untrimmed: bool,
    full: bool = True,
    pedigree: str = "GROUND",
) -> None:
    """Write a reference image of chip 1."""
    header = fits.Header({"NEXTEND": 3 if full else 1, "PEDIGREE": pedigree, "DESCRIP": path.stem})
    planes = {"SCI": sci.astype(np.float32)}
    if full:
        planes |= {"ERR": np.full(sci.shape, err, np.float32), "DQ": np.zeros(sci.shape, np.int16)}
    hdus: list[Any] = [fits.PrimaryHDU(header=header)]
    for name, plane in planes.items():
        hdus.append(fits.ImageHDU(plane, name=name, ver=1))
        ltv = (24.0, 20.0) if untrimmed else (0.0, 0.0)
        hdus[-1].header.update(CCDCHIP=1, LTV1=ltv[0], LTV2=ltv[1], LTM1_1=1.0, LTM2_2=1.0)
    fits.HDUList(hdus).writeto(path, overwrite=True)


def table(path: Path, rows: list[Mapping[str, Any]], name: str = "", **keywords: Any) -> None:
    """Write (or append to) a table file; int32, float32, bool and text columns."""
    kinds = {int: "i4", float: "f4", bool: "?", str: "S12"}
    names = list(rows[0])
    columns = [np.array([row[n] for row in rows]) for n in names]
    dtypes = [kinds[type(rows[0][n])] if np.ndim(rows[0][n]) == 0 else "f8" for n in names]
    hdu = fits.BinTableHDU(
        Table([c.astype(d) for c, d in zip(columns, dtypes, strict=True)], names=names), name=name
    )
    if path.exists():
        fits.append(path, hdu.data, hdu.header)
        return
    header = fits.Header({"PEDIGREE": "GROUND", "DESCRIP": path.stem, **keywords})
    fits.HDUList([fits.PrimaryHDU(header=header), hdu]).writeto(path)


def _ccdtab() -> dict[str, Any]:
    row: dict[str, Any] = {"CCDAMP": "A", "CCDCHIP": 1, "CCDGAIN": 2.0, "BINAXIS1": 1, "BINAXIS2": 1}
    for stem, value in (("CCDOFST", 3), ("CCDBIAS", 2400.0), ("ATODGN", 2.0), ("READNSE", 4.0)):
        row |= {stem + amp: value for amp in "ABCD"}
    row |= {"AMPX": 4096, "AMPY": 0, "ATODSAT": 65534, "SATURATE": 84700.0}
    return row | {"OVRHFLS": 5.5, "OVRHUFLS": 2.25, "DESCRIP": "row one"}


def _oscntab() -> dict[str, Any]:
    row: dict[str, Any] = {"CCDAMP": "A", "CCDCHIP": 1, "BINX": 1, "BINY": 1, "NX": NX, "NY": NY}
    row |= {
        "TRIMX1": TRIM_X,
        "TRIMX2": 0,
        "TRIMY1": TRIM_Y,
        "TRIMY2": 0,
        "VX1": 0,
        "VX2": 0,
        "VY1": 0,
        "VY2": 0,
    }
    return row | {"BIASSECTA1": 18, "BIASSECTA2": 24, "BIASSECTB1": 0, "BIASSECTB2": 0}


def _write_references(jref: Path) -> None:
    random = np.random.default_rng(0)
    whole, trimmed = np.ones((NY, NX)), np.ones(ACTIVE)
    table(jref / "ccd.fits", [_ccdtab()])
    table(jref / "osc.fits", [_oscntab()])
    bad = {"CCDCHIP": 1, "PIX1": 5, "PIX2": 6, "LENGTH": 4, "AXIS": 2, "VALUE": 16}
    table(jref / "bpx.fits", [bad, bad | {"PIX1": 40, "AXIS": 1, "LENGTH": 30, "VALUE": 4}])
    image(jref / "bia.fits", whole * random.normal(0, 0.5, whole.shape), untrimmed=True)
    image(jref / "sat.fits", whole * 84700, untrimmed=True)
    sink = whole * 0
    sink[40, 50], sink[39, 50] = -30, 25
    image(jref / "snk.fits", sink, untrimmed=True, full=False)
    image(jref / "drk.fits", trimmed * 0.01, untrimmed=False)
    image(jref / "fls.fits", trimmed * 0.5, untrimmed=False)
    image(jref / "pfl.fits", trimmed + random.normal(0, 0.02, ACTIVE), untrimmed=False)
    image(jref / "dfl.fits", trimmed * 1.01, untrimmed=False)
    for name, values in (
        ("PHOTFLAM", (7e-20, 8e-20)),
        ("PHOTPLAM", (8045.0, 8055.0)),
        ("PHOTBW", (650.0, 660.0)),
    ):
        row = {"OBSMODE": "acs,wfc1,f814w,mjd#", "DATACOL": f"{name}1", name: 0.0, f"{name}1": values}
        row |= {"NELEM1": 2, "PAR1NAMES": "MJD#", "PAR1VALUES": (52334.0, 58800.0)}
        # text columns of 12 characters would cut the mode
        _imphttab_row(jref / "imp.fits", name, row)
    crr = {"CRSPLIT": 2, "MEANEXP": 1e6, "SCALENSE": 30.0, "INITGUES": "min", "SKYSUB": "mode"}
    crr |= {"CRSIGMAS": "6.5,5.5,4.5", "CRRADIUS": 2.1, "CRTHRESH": 0.5555, "BADINPDQ": 39936, "CRMASK": True}
    table(jref / "crr.fits", [crr])


def _imphttab_row(path: Path, name: str, row: Mapping[str, Any]) -> None:
    names = list(row)
    hdu = fits.BinTableHDU(Table([np.array([row[n]]) for n in names], names=names), name=name)
    if path.exists():
        fits.append(path, hdu.data, hdu.header)
        return
    header = fits.Header({"PEDIGREE": "GROUND", "DESCRIP": "imp", "PHOTZPT": -21.1, "EXTRAP": True})
    fits.HDUList([fits.PrimaryHDU(header=header), hdu]).writeto(path)


PRIMARY: dict[str, Any] = {
    "NEXTEND": 3,
    "FILENAME": "jtest01aq_raw.fits",
    "INSTRUME": "ACS",
    "ROOTNAME": "jtest01aq",
    "IMAGETYP": "EXT",
    "DETECTOR": "WFC",
    "EXPSTART": 53800.5,
    "EXPEND": 53800.51,
    "EXPTIME": 600.0,
    "DARKTIME": 600.0,
    "SUBARRAY": True,
    "CCDAMP": "A",
    "CCDGAIN": 2.0,
    "APERTURE": "WFC1-512",
    "OBSTYPE": "IMAGING",
    "TARGNAME": "NGC104",
    "FILTER1": "F814W",
    "FILTER2": "CLEAR2L",
    "JWROTYPE": "N/A",
    "FLASHDUR": 3.0,
    "FLASHCUR": "LOW",
    "FLASHSTA": "SUCCESSFUL",
    "CAL_VER": "",
    "DQICORR": "PERFORM",
    "ATODCORR": "OMIT",
    "BLEVCORR": "PERFORM",
    "BIASCORR": "PERFORM",
    "FLSHCORR": "PERFORM",
    "CRCORR": "OMIT",
    "EXPSCORR": "PERFORM",
    "SHADCORR": "OMIT",
    "DARKCORR": "PERFORM",
    "FLATCORR": "PERFORM",
    "PHOTCORR": "PERFORM",
    "RPTCORR": "OMIT",
    "SINKCORR": "PERFORM",
    "PCTECORR": "OMIT",
    "CCDTAB": "jref$ccd.fits",
    "OSCNTAB": "jref$osc.fits",
    "BPIXTAB": "jref$bpx.fits",
    "BIASFILE": "jref$bia.fits",
    "SATUFILE": "jref$sat.fits",
    "SNKCFILE": "jref$snk.fits",
    "DARKFILE": "jref$drk.fits",
    "FLSHFILE": "jref$fls.fits",
    "PFLTFILE": "jref$pfl.fits",
    "DFLTFILE": "jref$dfl.fits",
    "LFLTFILE": "N/A",
    "SHADFILE": "N/A",
    "IMPHTTAB": "jref$imp.fits",
    "CRREJTAB": "jref$crr.fits",
    "PCTETAB": "N/A",
    "ATODTAB": "N/A",
    "BIASLEVA": 0.0,
}


@pytest.fixture(scope="session")
def _pattern(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What every test gets a copy of."""
    pattern = Exposure(tmp_path_factory.mktemp("pattern"), dict(PRIMARY))
    pattern.jref.mkdir()
    pattern.area.mkdir()
    _write_references(pattern.jref)
    pattern.write()
    return pattern.folder


@pytest.fixture
def exposure(_pattern: Path, tmp_path: Path) -> Exposure:
    """The small exposure, with its reference files written and the raw file too."""
    shutil.copytree(_pattern, tmp_path, dirs_exist_ok=True)
    return Exposure(tmp_path, dict(PRIMARY))


@pytest.fixture
def write_image_reference() -> Callable[..., None]:
    """Write a reference image."""
    return image


@pytest.fixture
def write_table() -> Callable[..., None]:
    """Write a reference table."""
    return table
