"""Stand-ins for CCDTAB and OSCNTAB from the nominal figures of the ACS handbooks.

The two tables describe fixed hardware: gain and read noise of the amplifiers, and where the overscan lies.
Nothing can be calibrated without them, while the nominal figures are good to a few per cent, so that a run
that may omit missing references uses these and says so in log, header and report. Both are written as FITS
files with the one row (or the row per chip) that the exposure at hand selects.

Sources: ACS Instrument Handbook and ACS Data Handbook, gain and read-noise tables (WFC before and after
SM4, HRC); ACS ISR 2002-03 for the layout of the overscan.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from astropy.io import fits
from astropy.table import Table

from batch.errors import InputError
from batch.model.observation import Exposure
from batch.storage.planes import as_number

SM4_MJD = 54962.0
NAMES: Mapping[str, str] = {"CCDTAB": "nominal_ccd.fits", "OSCNTAB": "nominal_osc.fits"}


@dataclass(frozen=True)
class Amplifiers:
    """Gain (e-/DN) and read noise (e-) of amps A, B, C, D."""

    gain: tuple[float, float, float, float]
    noise: tuple[float, float, float, float]
    offset: float
    """Bias level, DN; used only where a frame has no overscan."""


_AMPLIFIERS: Mapping[tuple[str, bool, float], Amplifiers] = {
    ("WFC", False, 1.0): Amplifiers((0.9999, 0.9721, 1.0107, 1.0180), (4.97, 4.85, 5.24, 4.85), 2500.0),
    ("WFC", False, 2.0): Amplifiers((2.002, 1.945, 2.028, 1.994), (5.29, 5.15, 5.53, 5.16), 2500.0),
    ("WFC", True, 2.0): Amplifiers((2.020, 1.886, 2.017, 2.011), (4.35, 3.75, 4.05, 5.05), 4400.0),
    ("HRC", False, 2.0): Amplifiers((2.216, 2.216, 2.216, 2.216), (4.46, 4.46, 4.46, 4.46), 2250.0),
    ("HRC", False, 4.0): Amplifiers((4.289, 4.289, 4.289, 4.289), (5.86, 5.86, 5.86, 5.86), 2150.0),
}


def write(keyword: str, raw: Path, exposure: Exposure, folder: Path) -> Path:
    """Write the stand-in for one table.

    Parameters
    ----------
    keyword : {"CCDTAB", "OSCNTAB"}
        Which table.
    raw : Path
        The raw exposure that it is for.
    exposure : Exposure
        The same, as planned.
    folder : Path
        Where the table is written.

    Returns
    -------
    Path
        The table.

    Raises
    ------
    InputError
        If no nominal figures are known for the exposure's mode.
    """
    primary = fits.getheader(raw, 0)
    # HRC files have no CCDCHIP; it is 1 then (calibration-steps.md, 1)
    science = (fits.getheader(raw, ("SCI", n)) for n in range(1, exposure.chips + 1))
    chips = [int(as_number(header, "CCDCHIP", raw, 1)) for header in science]
    rows = (
        [_ccd_row(primary, exposure, chip, raw) for chip in chips]
        if keyword == "CCDTAB"
        else [_overscan_row(exposure, chip, raw) for chip in chips]
    )
    names = list(rows[0])
    table = Table(
        [[row[n] for row in rows] for n in names], names=names, dtype=[_dtype(rows[0][n]) for n in names]
    )
    header = fits.Header()
    header["PEDIGREE"] = "GROUND"
    header["DESCRIP"] = "Nominal figures of the ACS handbooks, not a CRDS file"
    path = folder / NAMES[keyword]
    fits.HDUList([fits.PrimaryHDU(header=header), fits.BinTableHDU(table)]).writeto(path)
    return path


def _dtype(value: Any) -> str:
    return {str: "U8", int: "i4", float: "f4"}[type(value)]


def _ccd_row(primary: fits.Header, exposure: Exposure, chip: int, raw: Path) -> dict[str, Any]:
    gain = as_number(primary, "CCDGAIN", raw)
    amplifiers = _AMPLIFIERS.get((exposure.detector, exposure.start >= SM4_MJD, gain))
    if amplifiers is None:
        raise InputError.about(
            f"{raw} CCDGAIN",
            f"no nominal figures are known for {exposure.detector} with gain {gain:g}",
            "provide the CCDTAB that CRDS names",
        )
    columns = exposure.shape[1]
    row: dict[str, Any] = {
        "CCDAMP": exposure.amps,
        "CCDCHIP": chip,
        "CCDGAIN": gain,
        "BINAXIS1": 1,
        "BINAXIS2": 1,
    }
    row |= {f"CCDOFST{a}": int(as_number(primary, f"CCDOFST{a}", raw, 3)) for a in "ABCD"}
    row |= {f"CCDBIAS{a}": amplifiers.offset for a in "ABCD"}
    row |= {f"ATODGN{a}": g for a, g in zip("ABCD", amplifiers.gain, strict=True)}
    row |= {f"READNSE{a}": n for a, n in zip("ABCD", amplifiers.noise, strict=True)}
    return row | {
        "AMPX": _split_column(exposure, columns),
        "AMPY": 0,
        "ATODSAT": 65535,
        "SATURATE": 84700.0 if exposure.detector == "WFC" else 165000.0,
        "OVRHFLS": 0.0,
        "OVRHUFLS": 0.0,
    }


def _split_column(exposure: Exposure, columns: int) -> int:
    """AMPX: the first column of the right-hand amp, without overscan (calibration-steps.md, 4.1)."""
    if exposure.detector == "HRC" or exposure.amps in ("B", "D"):
        return 0
    return 2048 if len(exposure.amps) == 4 else columns


def _overscan_row(exposure: Exposure, chip: int, raw: Path) -> dict[str, Any]:
    rows, columns = exposure.shape
    if exposure.detector == "HRC" and (rows, columns) == (1044, 1062):
        trim, virtual, sections = (19, 19, 0, 20), (20, 1043, 1027, 1044), (3, 18, 1045, 1060)
    elif exposure.detector == "WFC" and columns in (4144, 2072):
        below, above = (20, 0) if chip == 1 else (0, 20)
        if rows != 2068:
            below = above = 0
        virtual = (0, 0, 0, 0)
        if columns == 4144:
            trim, sections = (24, 24, below, above), (18, 24, 4121, 4127)
        elif exposure.amps in ("A", "C"):
            trim, sections = (24, 0, below, above), (18, 24, 0, 0)
        else:
            # a section A of one column tells that only section B is used
            trim, sections = (0, 24, below, above), (1, 1, 2049, 2055)
    else:
        raise InputError.about(
            f"{raw}[SCI,1]",
            f"no nominal overscan is known for {exposure.detector} frames of {columns} x {rows}",
            "provide the OSCNTAB that CRDS names",
        )
    names = ["TRIMX1", "TRIMX2", "TRIMY1", "TRIMY2", "VX1", "VX2", "VY1", "VY2"]
    names += ["BIASSECTA1", "BIASSECTA2", "BIASSECTB1", "BIASSECTB2"]
    row: dict[str, Any] = {
        "CCDAMP": exposure.amps,
        "CCDCHIP": chip,
        "BINX": 1,
        "BINY": 1,
        "NX": columns,
        "NY": rows,
    }
    return row | dict(zip(names, (*trim, *virtual, *sections), strict=True))
