"""Reference tables (calibration specification, section 9; CTE specification, section 2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import Table

from batch.simulation.detector import BAD, WELL, Silicon
from batch.simulation.electronics import (
    ATOD_LIMIT,
    BIAS,
    DARK_OVERHEAD,
    DARK_OVERHEAD_FLASH,
    GAINS,
    READ_NOISE,
)
from batch.simulation.filters import FILTERS
from batch.simulation.frame import NX, NY, PRESCAN, VIRTUAL, Chip
from batch.simulation.randomness import stream

_AMPS = "ABCD"
PEDIGREE = "MODEL 01/03/2002 01/03/2002"


def _columns(rows: Sequence[dict[str, Any]], kinds: dict[str, Any]) -> Table:
    return Table({name: np.array([row[name] for row in rows], kind) for name, kind in kinds.items()})


def ccdtab() -> Table:
    """Make the CCDTAB: all four amplifiers, or one, at both gains."""
    rows = []
    for gain in GAINS:
        for amps, chip in (("ABCD", 1), ("ABCD", 2), ("A", 1), ("B", 1), ("C", 2), ("D", 2)):
            row: dict[str, Any] = {
                "CCDAMP": amps,
                "CCDCHIP": chip,
                "CCDGAIN": gain,
                "BINAXIS1": 1,
                "BINAXIS2": 1,
                "AMPX": NX // 2 if amps == "ABCD" else (NX if amps in "AC" else 0),
                "AMPY": 0,
                "ATODSAT": ATOD_LIMIT - 1,
                "SATURATE": WELL,
                "OVRHFLS": DARK_OVERHEAD_FLASH,
                "OVRHUFLS": DARK_OVERHEAD,
                "PEDIGREE": PEDIGREE,
                "DESCRIP": f"Simulated amplifiers {amps}, gain {gain}",
            }
            for amp in _AMPS:
                row[f"CCDOFST{amp}"] = 3
                row[f"CCDBIAS{amp}"] = BIAS[amp]
                row[f"ATODGN{amp}"] = GAINS[gain][amp]
                row[f"READNSE{amp}"] = READ_NOISE[gain][amp]
            rows.append(row)
    kinds: dict[str, Any] = {
        "CCDAMP": "S4",
        "CCDCHIP": "i4",
        "CCDGAIN": "f4",
        "BINAXIS1": "i4",
        "BINAXIS2": "i4",
    }
    kinds |= {f"CCDOFST{amp}": "i4" for amp in _AMPS}
    kinds |= {f"{name}{amp}": "f4" for name in ("CCDBIAS", "ATODGN", "READNSE") for amp in _AMPS}
    kinds |= {
        "AMPX": "i4",
        "AMPY": "i4",
        "ATODSAT": "i4",
        "SATURATE": "f4",
        "OVRHFLS": "f4",
        "OVRHUFLS": "f4",
    }
    kinds |= {"PEDIGREE": "S67", "DESCRIP": "S67"}
    return _columns(rows, kinds)


def oscntab() -> Table:
    """Make the OSCNTAB: full frames, and subarrays of one amplifier with 512, 1024 and 2068 rows."""
    nx, ny = NX + 2 * PRESCAN, NY + VIRTUAL
    names = (
        *("CCDAMP", "CCDCHIP", "BINX", "BINY", "NX", "NY", "TRIMX1", "TRIMX2", "TRIMY1", "TRIMY2"),
        *("VX1", "VX2", "VY1", "VY2", "BIASSECTA1", "BIASSECTA2", "BIASSECTB1", "BIASSECTB2"),
    )
    none = (0, 0, 0, 0)
    rows: list[tuple[Any, ...]] = [
        ("ABCD", 1, 1, 1, nx, ny, PRESCAN, PRESCAN, VIRTUAL, 0, *none, 18, 24, 4121, 4127),
        ("ABCD", 2, 1, 1, nx, ny, PRESCAN, PRESCAN, 0, VIRTUAL, *none, 18, 24, 4121, 4127),
    ]
    width = NX // 2 + PRESCAN
    for rows_read in (512, 1024, ny):
        virtual = VIRTUAL if rows_read == ny else 0
        for amp in _AMPS:
            chip = 1 if amp in "AB" else 2
            trim_x = (PRESCAN, 0) if amp in "AC" else (0, PRESCAN)
            trim_y = (virtual, 0) if amp in "AB" else (0, virtual)
            # A section that is not there ends at column 1: with 0 in BIASSECTA2 no level would be measured at
            # all (calibration specification, 4.7.1a).
            sections = (18, 24, 0, 0) if amp in "AC" else (1, 1, width - 23, width - 17)
            rows.append((amp, chip, 1, 1, width, rows_read, *trim_x, *trim_y, *none, *sections))
    kinds = ["S4"] + ["i4"] * (len(names) - 1)
    return Table(rows=rows, names=names, dtype=kinds)


def bpixtab(chips: Sequence[tuple[Chip, Silicon]]) -> Table:
    """Make the BPIXTAB: the dead columns."""
    rows = [
        ("N/A", -999, chip.number, chip.x0 + column + 1, chip.y0 + first + 1, count, 2, BAD)
        for chip, silicon in chips
        for column, first, count in silicon.dead
    ]
    names = ("CCDAMP", "CCDGAIN", "CCDCHIP", "PIX1", "PIX2", "LENGTH", "AXIS", "VALUE")
    return Table(rows=rows, names=names, dtype=["S4"] + ["i4"] * 7)


def crrejtab() -> Table:
    """Make the CRREJTAB: three passes, for two exposures or more, short and long."""
    rows = [
        (split, meanexp, 30.0, "minimum", "mode", "6.5,5.5,4.5", 2.1, 0.5555, 39, True)
        for split in (2, 3, 4)
        for meanexp in (60.0, 100_000.0)
    ]
    names = (
        *("CRSPLIT", "MEANEXP", "SCALENSE", "INITGUES", "SKYSUB"),
        *("CRSIGMAS", "CRRADIUS", "CRTHRESH", "BADINPDQ", "CRMASK"),
    )
    return Table(
        rows=rows, names=names, dtype=["i4", "f4", "f4", "S8", "S4", "S20", "f4", "f4", "i4", "bool"]
    )


IMPHTTAB_CARDS: dict[str, Any] = {
    "PHOTZPT": -21.1,
    "PARNUM": 1,
    "EXTRAP": True,
    "PAR1NAME": "MJD#",
}
_MJD = (52334.0, 53919.0, 53920.0, 54976.0, 59000.0)
# Sensitivity lost since launch, with the step of July 2006, when the detector was made colder.
_SENSITIVITY = (1.0, 0.997, 0.985, 0.983, 0.975)


def imphttab() -> dict[str, Table]:
    """Make the three tables of the IMPHTTAB by extension name."""
    result = {}
    for name in ("PHOTFLAM", "PHOTPLAM", "PHOTBW"):
        rows = []
        for filter_name, band in FILTERS.items():
            value = getattr(band, name.lower())
            values = [value / s if name == "PHOTFLAM" else value for s in _SENSITIVITY]
            rows.append(
                {
                    "OBSMODE": f"acs,wfc1,{filter_name.lower()},mjd#",
                    "DATACOL": f"{name}1",
                    name: value,
                    f"{name}1": values,
                    "NELEM1": len(_MJD),
                    "PAR1NAMES": "MJD#",
                    "PAR1VALUES": _MJD,
                    "PEDIGREE": PEDIGREE,
                    "DESCRIP": "Zero points of 2006 with the loss of sensitivity",
                }
            )
        kinds = {"OBSMODE": "S40", "DATACOL": "S12", name: "f8", f"{name}1": "f8", "NELEM1": "i4"}
        kinds |= {"PAR1NAMES": "S12", "PAR1VALUES": "f8", "PEDIGREE": "S67", "DESCRIP": "S67"}
        result[name] = _columns(rows, kinds)
    return result


PCTETAB_CARDS: dict[str, Any] = {
    "CTE_NAME": "Par/Serial PixelCTE 2023",
    "CTE_VER": "3.0",
    "PCTERNOI": 4.3,
    "PCTENSMD": 0,
    "PCTETRSH": -10.0,
    "FIXROCR": 1,
}
_TRAPS = 9999
_NONE = 999_999


def pctetab(seed: int) -> list[Any]:
    """Make the 20 extensions of the PCTETAB: one parallel set, and a serial set for each amplifier.

    Charge-level profile, trails and trap densities follow the recipe of the CTE specification, section 2.2.
    """
    hdus: list[Any] = []
    for extver in range(1, 6):
        serial = extver > 1
        rng = stream(seed, "traps", extver)
        active, exponent = (300, 1 / 0.50) if serial else (6675, 1 / 0.60)
        short, long, reach = (1.2, 30.0, 100) if serial else (3.0, 18.0, 60)
        level = np.full(_TRAPS, _NONE, np.int32)
        level[:active] = np.maximum(np.rint(1e5 * (np.arange(1, active + 1) / active) ** exponent), 1)
        capacity = np.zeros(_TRAPS, np.float32)
        capacity[:active] = rng.uniform(0.40, 0.55, active) if serial else 1.0
        distance = np.arange(1, 101)[:, None]
        weight = 0.35 + 0.05 * np.log10(np.minimum(level, 1e5))[None, :]
        release = weight * np.exp(-distance / short) / short + (1 - weight) * np.exp(-distance / long) / long
        release *= distance <= reach
        release /= release.sum(axis=0)
        trail = release.astype(np.float32)
        left = np.clip(1 - np.cumsum(release, axis=0), 0, 1).astype(np.float32)
        density = 1 + 0.15 * rng.uniform(-1, 1, 8192)
        columns = {"IZ": np.arange(8192, dtype=np.int16)}
        columns |= {f"SENS_{node}": density.astype(np.float32) for node in ("0512", "1024", "1536", "2048")}
        columns["DESCRIP"] = np.full(8192, "simulated", "S20")
        profile = {
            "W": np.arange(1, _TRAPS + 1, dtype=np.int16),
            "QLEV_Q": level,
            "DPDE_W": capacity,
            "DESCRIP": np.full(_TRAPS, "simulated", "S20"),
        }
        group = [
            fits.BinTableHDU(Table(profile), name="QPROF", ver=extver),
            fits.BinTableHDU(Table(columns), name="SCLBYCOL", ver=extver),
            fits.ImageHDU(trail, name="RPROF", ver=extver),
            fits.ImageHDU(left, name="CPROF", ver=extver),
        ]
        for hdu in group:
            hdu.header.update(CTEDATE0=52334.9, CTEDATE1=57710.4, PCTETLEN=reach, PCTENFOR=5, PCTENPAR=7)
            if serial:
                hdu.header["CCDAMP"] = _AMPS[extver - 2]
        hdus += group
    return hdus
