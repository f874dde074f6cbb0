"""What the headers of an exposure say, checked once; how keywords and HISTORY lines are written.

Source: calibration-steps specification, sections 0, 1 and 2.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from astropy.io.fits import Header

from batch.errors import InputError
from batch.storage.fits import Imset
from batch.storage.planes import as_number, value_of

AMPS = "ABCD"
SM4 = 54962.0
"""MJD of Servicing Mission 4; what starts earlier is pre-SM4."""
CYCLE_24 = 57662.0
"""MJD from which subarrays are read out as full frames are."""
CAL_VER = "10.5.0 (16-Mar-2026)"
"""The calacs whose behaviour the engine `builtin` reproduces."""

CCD_SWITCHES = ("DQICORR", "BIASCORR", "BLEVCORR", "ATODCORR")
PLANE_SWITCHES = ("DARKCORR", "FLSHCORR", "FLATCORR", "SHADCORR", "PHOTCORR")
SWITCHES = (*CCD_SWITCHES, "SINKCORR", "PCTECORR", *PLANE_SWITCHES, "CRCORR", "RPTCORR", "EXPSCORR")
_LARGEST_OFFSET = 1e5
"""Pixels; no detector is that large."""
_SWITCH_VALUES = ("PERFORM", "COMPLETE", "SKIPPED", "OMIT")


@dataclass(frozen=True)
class Setup:
    """How an exposure was taken and what is to be done with it: its primary header, checked."""

    where: Path
    """The file, for messages."""
    detector: str
    subarray: bool
    amps: str
    """CCDAMP in upper case: ``ABCD``, ``C``."""
    gain: float
    """CCDGAIN, the commanded gain."""
    offsets: tuple[int, int, int, int]
    """CCDOFSTA to CCDOFSTD."""
    exptime: float
    """s"""
    expstart: float
    """MJD"""
    expend: float
    darktime: float
    """s"""
    flash_duration: float
    """FLASHDUR, s."""
    flash_status: str
    aperture: str
    jwrotype: str
    obstype: str
    targname: str
    filters: tuple[str, str]
    ramp_wavelength: float
    """LRFWAVE, Angstrom."""
    switches: Mapping[str, bool]
    """True for those that are PERFORM."""

    @property
    def after_sm4(self) -> bool:
        """True for exposures taken after Servicing Mission 4."""
        return self.expstart >= SM4

    @property
    def dual_slope(self) -> bool:
        """Read out with the dual-slope integrator at gain 2: these frames have a bias shift and crosstalk."""
        return self.jwrotype == "DS_INT" and self.gain == 2.0


@dataclass(frozen=True)
class Chip:
    """The keywords of one SCI extension that steer the calibration."""

    number: int
    """CCDCHIP: 1 or 2 for WFC."""
    good_bits: int
    """SDQFLAGS as int16: the DQ bits that make a pixel bad."""
    ltv: tuple[float, float]
    ltm: tuple[float, float]


def read_setup(primary: Header, where: Path) -> Setup:
    """Check a primary header.

    Raises
    ------
    InputError
        Naming the keyword, if a required one is missing or a value is impossible.
    """
    instrument = _text(primary, "INSTRUME", where)
    if not instrument.startswith("ACS"):
        raise InputError.about(f"{where} INSTRUME", f"{instrument!r} is not ACS", "take an ACS exposure")
    detector = _text(primary, "DETECTOR", where)
    if detector not in ("WFC", "HRC"):
        raise InputError.about(f"{where} DETECTOR", f"{detector!r} is not WFC or HRC", "take a CCD exposure")
    exptime = as_number(primary, "EXPTIME", where)
    if exptime < 0:
        raise InputError.about(f"{where} EXPTIME", f"{exptime} s is negative", "correct the keyword")
    amps = _text(primary, "CCDAMP", where).upper()
    if not amps or set(amps) - set(AMPS):
        raise InputError.about(
            f"{where} CCDAMP", f"{amps!r} is not made of A, B, C, D", "correct the keyword"
        )
    subarray = value_of(primary, "SUBARRAY", where)
    if not isinstance(subarray, bool):
        raise InputError.about(f"{where} SUBARRAY", "missing or not T or F", "correct the keyword")
    _text(primary, "ROOTNAME", where)
    a, b, c, d = (int(as_number(primary, f"CCDOFST{k}", where, 3)) for k in AMPS)
    return Setup(
        where=where,
        detector=detector,
        subarray=subarray,
        amps=amps,
        gain=as_number(primary, "CCDGAIN", where, 1.0),
        offsets=(a, b, c, d),
        exptime=exptime,
        expstart=as_number(primary, "EXPSTART", where),
        expend=as_number(primary, "EXPEND", where),
        darktime=as_number(primary, "DARKTIME", where, 0.0),
        flash_duration=as_number(primary, "FLASHDUR", where, 0.0),
        flash_status=_text(primary, "FLASHSTA", where, "").upper(),
        aperture=_text(primary, "APERTURE", where, "").upper(),
        jwrotype=_text(primary, "JWROTYPE", where, "").upper(),
        obstype=_text(primary, "OBSTYPE", where, ""),
        targname=_text(primary, "TARGNAME", where, ""),
        filters=(_text(primary, "FILTER1", where, ""), _text(primary, "FILTER2", where, "")),
        ramp_wavelength=as_number(primary, "LRFWAVE", where, -1.0),
        switches=MappingProxyType({name: _switch(primary, name, where) for name in SWITCHES}),
    )


def read_chip(imset: Imset, where: Path) -> Chip:
    """Check the header of a SCI extension; `where` is the file, for messages."""
    header, place = imset.sci_header, f"{where}[SCI,{imset.extver}]"
    flags = int(as_number(header, "SDQFLAGS", place, 65535))
    ltv = (as_number(header, "LTV1", place, 0.0), as_number(header, "LTV2", place, 0.0))
    ltm = (as_number(header, "LTM1_1", place, 1.0), as_number(header, "LTM2_2", place, 1.0))
    if max(abs(v) for v in ltv) > _LARGEST_OFFSET or min(ltm) <= 1e-3:
        what = f"LTV1, LTV2 = {ltv} or LTM1_1, LTM2_2 = {ltm} are impossible"
        raise InputError.about(place, what, "correct the keywords")
    return Chip(
        number=int(as_number(header, "CCDCHIP", place, 1)),
        good_bits=(flags + 0x8000) % 0x10000 - 0x8000,
        ltv=ltv,
        ltm=ltm,
    )


def set_float(
    header: Header, keyword: str, value: float | np.floating[Any], comment: str | None = None
) -> None:
    """Write a single-precision value with the eight significant digits that calacs prints.

    Raises
    ------
    InputError
        If it is not finite.
    """
    with np.errstate(over="ignore"):
        single = np.float32(value)
    if not np.isfinite(single):
        raise InputError.about(keyword, f"{value} is not a number that can be written", "look at the inputs")
    header[keyword] = float(f"{single:.7E}")
    if comment is not None:
        header.comments[keyword] = comment


def set_double(header: Header, keyword: str, value: float) -> None:
    """Write a double-precision value with the thirteen significant digits that calacs prints."""
    header[keyword] = float(f"{value:.12E}")


def add_history(header: Header, *lines: str) -> None:
    """Append HISTORY lines."""
    for line in lines:
        header.add_history(line)


def stamp(primary: Header, filename: str, engine: str) -> None:
    """Write who made a product: FILENAME, CAL_VER and CAL_ENG, and drop what no product carries."""
    primary["FILENAME"] = filename
    primary["CAL_VER"] = CAL_VER
    mark_engine(primary, engine)
    primary.remove("GROUPS", ignore_missing=True)


def mark_engine(primary: Header, engine: str) -> None:
    """Write CAL_ENG, the engine's name and version, beside CAL_VER."""
    if "CAL_ENG" not in primary and "CAL_VER" in primary:
        primary.insert("CAL_VER", ("CAL_ENG", "", "calibration engine and its version"), after=True)
    primary["CAL_ENG"] = engine


def drop_data_range(imset: Imset) -> None:
    """Delete DATAMIN and DATAMAX, which no product carries."""
    for header in (imset.sci_header, imset.err_header, imset.dq_header):
        header.remove("DATAMIN", ignore_missing=True)
        header.remove("DATAMAX", ignore_missing=True)


def _text(header: Header, keyword: str, where: object, default: str | None = None) -> str:
    value = value_of(header, keyword, where)
    if value is None:
        if default is None:
            raise InputError.about(f"{where} {keyword}", "the keyword is missing", "fetch the file again")
        return default
    return str(value).rstrip()


def _switch(header: Header, name: str, where: object) -> bool:
    """True for PERFORM; a missing switch is OMIT."""
    value = _text(header, name, where, "OMIT").upper()
    if value not in _SWITCH_VALUES:
        choices = ", ".join(_SWITCH_VALUES)
        raise InputError.about(f"{where} {name}", f"{value!r} is not a switch value", f"use one of {choices}")
    return value == "PERFORM"
