"""The headers of a raw exposure, from those of a real one that astropy ships."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from astropy.io import fits
from astropy.time import Time
from astropy.utils.data import get_pkg_data_filename
from numpy.typing import NDArray

from batch.errors import LibraryError
from batch.simulation.filters import FILTERS
from batch.simulation.frame import Chip, Frame
from batch.simulation.settings import VisitSettings

TEMPLATE = "tests/data/j94f05bgq_flt.fits"
"""47 Tuc in F606W, 400 s, 7 March 2005, within `astropy.wcs`."""

_CD = ("CD1_1", "CD1_2", "CD2_1", "CD2_2")
# What an archive raw header of today holds and the template of 2007 does not:
# (keyword, value, comment, the keyword before it).
_NEWER = (
    ("MTFLAG", " ", "moving target flag; T if it is a moving target", "REFFRAME"),
    ("FW1OFFST", 0, "computed filter wheel offset", "FILTER1"),
    ("FW1ERROR", False, "filter wheel position error flag", "FW1OFFST"),
    ("FW2OFFST", 0, "computed filter wheel offset", "FILTER2"),
    ("FW2ERROR", False, "filter wheel position error flag", "FW2OFFST"),
    ("FWSOFFST", 0, "computed filter wheel offset", "FW2ERROR"),
    ("FWSERROR", False, "filter wheel position error flag", "FWSOFFST"),
    ("JWROTYPE", "N/A", "CCD readout type: CLAMP or DS_int", "CTEIMAGE"),
    ("DARKTIME", 0.0, "dark current accumulation time (seconds)", "EXPTIME"),
    ("PCTECORR", "OMIT", "cte correction", "BLEVCORR"),
    ("SINKCORR", "OMIT", "flag sink pixels", "BIASCORR"),
    ("SATUFILE", "N/A", "full-well saturation image", "BIASFILE"),
    ("SNKCFILE", "N/A", "sink pixel image", "SATUFILE"),
    ("DRKCFILE", "N/A", "de-trailed dark image file name", "DARKFILE"),
    ("PCTETAB", "N/A", "CTE correction table", "DRKCFILE"),
    ("IMPHTTAB", "N/A", "image photometry table", "PHOTTAB"),
    ("NPOLFILE", "N/A", "non-polynomial offsets", "IDCTAB"),
    ("D2IMFILE", "N/A", "column correction", "NPOLFILE"),
)
_OLDER = ("ORIGIN", "IRAF-TLM", "FWOFFSET", "FWERROR", "UPWCSVER", "PYWCSVER", "HISTORY", "COMMENT")
_REFERENCES = (
    *("BPIXTAB", "CCDTAB", "ATODTAB", "OSCNTAB", "BIASFILE", "FLSHFILE", "CRREJTAB", "SHADFILE", "DARKFILE"),
    *("PFLTFILE", "DFLTFILE", "LFLTFILE", "PHOTTAB", "GRAPHTAB", "COMPTAB", "IDCTAB", "DGEOFILE", "MDRIZTAB"),
    *("CFLTFILE", "SPOTTAB"),
)


@dataclass(frozen=True)
class Template:
    """The headers of the real exposure, with the pointing that its guide stars gave."""

    primary: fits.Header
    chips: Mapping[int, fits.Header]
    """SCI headers by CCDCHIP."""


@dataclass(frozen=True)
class Observation:
    """What tells one exposure of a visit from the next."""

    rootname: str
    start: float
    """MJD"""
    exptime: float
    offset: tuple[float, float]
    """True pointing against the template's, arcsec to the east and north."""
    error: tuple[float, float]
    """Pointing in the header against the true one, arcsec to the east and north."""
    vafactor: float
    step: int
    """Place in the dither pattern, from 1."""


def load_template() -> Template:
    """Read the headers of j94f05bgq.

    Raises
    ------
    LibraryError
        Where astropy was installed without its test data.
    """
    try:
        path = get_pkg_data_filename(TEMPLATE, package="astropy.wcs")
        with fits.open(path) as hdus:
            primary = hdus[0].header.copy()
            chips = {hdus["SCI", v].header["CCDCHIP"]: hdus["SCI", v].header.copy() for v in (1, 2)}
    except (OSError, KeyError) as error:
        raise LibraryError(
            f"astropy.wcs {TEMPLATE}: {error}; install astropy with its test data (any wheel has them)"
        ) from error
    return Template(primary, chips)


def primary(
    template: Template,
    settings: VisitSettings,
    frame: Frame,
    observation: Observation,
    asn: str,
    references: Mapping[str, str],
) -> fits.Header:
    """Make the primary header of a raw exposure.

    Parameters
    ----------
    references : mapping
        File names by keyword, without ``jref$``; keywords that it lacks become N/A.
    """
    header = template.primary.copy()
    for key in _OLDER:
        header.remove(key, ignore_missing=True, remove_all=True)
    for key, value, comment, after in _NEWER:
        header.set(key, value, comment, after=after)
    band = FILTERS[settings.filter]
    begin = Time(observation.start, format="mjd", scale="utc")
    values: dict[str, object] = {
        "NEXTEND": 3 * len(frame.chips),
        "DATE": settings.date,
        "FILENAME": f"{observation.rootname}_raw.fits",
        "ROOTNAME": observation.rootname,
        "PROPOSID": 10775,
        "LINENUM": f"{settings.visit:02d}.{observation.step:03d}",
        "PR_INV_L": "Simulation",
        "PR_INV_F": "",
        "EXPSTART": observation.start,
        "EXPEND": observation.start + observation.exptime / 86400,
        "EXPTIME": observation.exptime,
        "DARKTIME": observation.exptime,
        "OPUS_VER": "",
        "CAL_VER": "",
        "PROCTIME": observation.start + 1,
        "CRSPLIT": 1 if settings.dithers else len(settings.times),
        "SUBARRAY": frame.subarray,
        "FILTER1": band.filter1,
        "FILTER2": band.filter2,
        "APERTURE": frame.aperture,
        "PROPAPER": frame.aperture,
        # Without dual-slope integration there is no bias shift and no crosstalk to undo.
        "JWROTYPE": "CLAMP" if settings.post_sm4 else "N/A",
        "FLASHDUR": settings.flash,
        "FLASHCUR": "LOW" if settings.flash else "OFF",
        "FLASHSTA": "SUCCESSFUL" if settings.flash else "NOT PERFORMED",
        "CCDAMP": frame.ccdamp,
        "CCDGAIN": float(settings.gain),
        "ASN_ID": asn.upper(),
        "ASN_TAB": f"{asn}_asn.fits",
        "ASN_MTYP": "EXP-DTH" if settings.dithers else "EXP-CRJ",
        "MDRIZSKY": 0.0,
    }
    values |= {"DATE-OBS": begin.isot[:10], "TIME-OBS": begin.isot[11:19]}
    if settings.dithers:
        values |= {
            "PATTERN1": "ACS-WFC-DITHER-BOX",
            "P1_NPTS": len(settings.times),
            "PATTSTEP": observation.step,
        }
    _put(header, values)
    for key in [k for k in header if k.startswith(("ATODGN", "READNSE", "BIASLEV"))]:
        header[key] = 0.0
    _put(header, _switches(settings))
    for key in (*_REFERENCES, *(k for k, v, _, _ in _NEWER if v == "N/A" and k.endswith(("FILE", "TAB")))):
        header[key] = f"jref${references[key]}" if key in references else "N/A"
    return header


def _switches(settings: VisitSettings) -> dict[str, str]:
    wanted = {
        **dict.fromkeys(("DQICORR", "BIASCORR", "BLEVCORR", "DARKCORR", "FLATCORR", "PHOTCORR"), True),
        **dict.fromkeys(("EXPSCORR", "DRIZCORR"), True),
        **dict.fromkeys(("ATODCORR", "SHADCORR", "RPTCORR"), False),
        "FLSHCORR": settings.flash > 0,
        "SINKCORR": settings.post_sm4,
        "PCTECORR": settings.cte,
        "CRCORR": not settings.dithers,
    }
    return {key: "PERFORM" if value else "OMIT" for key, value in wanted.items()}


def _put(header: fits.Header, values: Mapping[str, object]) -> None:
    """Set values; unlike `Header.update` this keeps the comments that are there."""
    for key, value in values.items():
        header[key] = value


def wcs_cards(
    template: Template, chip: Chip, observation: Observation, *, trimmed: bool, true_pointing: bool
) -> dict[str, object]:
    """Give the WCS keywords of a chip as the spacecraft's guide stars define them, without distortion.

    Parameters
    ----------
    trimmed : bool
        For the array without overscan rather than the raw one.
    true_pointing : bool
        Leave out the error of the header's pointing.
    """
    real = template.chips[chip.number]
    ltv1, ltv2 = chip.ltv(trimmed=trimmed)
    east, north = (
        o + (0.0 if true_pointing else e) for o, e in zip(observation.offset, observation.error, strict=True)
    )
    ra, dec = shifted(real["OCRVAL1"], real["OCRVAL2"], east, north)
    return {
        "WCSAXES": 2,
        "CRPIX1": real["OCRPIX1"] + ltv1,
        "CRPIX2": real["OCRPIX2"] + ltv2,
        "CRVAL1": ra,
        "CRVAL2": dec,
        "CTYPE1": "RA---TAN",
        "CTYPE2": "DEC--TAN",
        **{key: real[f"O{key}"] for key in _CD},
        "LTV1": ltv1,
        "LTV2": ltv2,
        "LTM1_1": 1.0,
        "LTM2_2": 1.0,
        "ORIENTAT": real["OORIENTA"],
        "RA_APER": shifted(real["RA_APER"], real["DEC_APER"], east, north)[0],
        "DEC_APER": shifted(real["RA_APER"], real["DEC_APER"], east, north)[1],
        "PA_APER": real["PA_APER"],
        "VAFACTOR": observation.vafactor,
    }


def shifted(ra: float, dec: float, east: float, north: float) -> tuple[float, float]:
    """Move a position (deg) by small angles (arcsec) on the sky."""
    return ra + east / 3600 / math.cos(math.radians(dec)), dec + north / 3600


def science(template: Template, chip: Chip, observation: Observation, raw: NDArray[np.uint16]) -> fits.Header:
    """Make the SCI header of a raw chip; the array's own keywords are astropy's to add."""
    header = template.chips[chip.number].copy()
    kept = header.index("OCRVAL1")
    del header[kept:]
    for key in ("ORIGIN", "DATE", "IRAF-TLM"):
        header.remove(key, ignore_missing=True)
    values: dict[str, object] = dict(
        EXTVER=chip.extver,
        EXPNAME=observation.rootname,
        BUNIT="COUNTS",
        **wcs_cards(template, chip, observation, trimmed=False, true_pointing=False),
        CENTERA1=chip.x0 + chip.nx // 2 + 1,
        CENTERA2=chip.y0 + chip.ny // 2 + 1,
        SIZAXIS1=chip.nx,
        SIZAXIS2=chip.ny,
        PHOTMODE="",
        **dict.fromkeys(("PHOTFLAM", "PHOTZPT", "PHOTPLAM", "PHOTBW"), 0.0),
        **dict.fromkeys(("SNRMIN", "SNRMAX", "SNRMEAN"), 0.0),
        NGOODPIX=raw.size,
        GOODMIN=float(raw.min()),
        GOODMAX=float(raw.max()),
        GOODMEAN=float(raw.mean()),
        **dict.fromkeys(("MEANDARK", "MEANBLEV", "MEANFLSH"), 0.0),
    )
    _put(header, values)
    header.set("ROOTNAME", observation.rootname, "rootname of the observation set", before="EXPNAME")
    return header


def constant(
    science: fits.Header, name: str, chip: Chip, template: Template, observation: Observation
) -> fits.Header:
    """Make the header of an ERR or DQ extension that stands for an array of zeros."""
    header = fits.Header()
    for key in ("INHERIT", "ROOTNAME", "EXPNAME"):
        header.append(science.cards[key])
    header["EXTNAME"], header["EXTVER"] = name, chip.extver
    header["BUNIT"] = "UNITLESS" if name == "DQ" else "COUNTS"
    header["NPIX1"] = (chip.nx, "length of constant array axis 1")
    header["NPIX2"] = (chip.ny, "length of constant array axis 2")
    header["PIXVALUE"] = (0 if name == "DQ" else 0.0, "values of pixels in constant array")
    for key in wcs_cards(template, chip, observation, trimmed=False, true_pointing=False):
        header.append(science.cards[key])
    if name == "ERR":
        header.append(science.cards["SDQFLAGS"])
        _put(header, {"NGOODPIX": 0, "GOODMIN": 0.0, "GOODMAX": 0.0, "GOODMEAN": 0.0})
    return header
