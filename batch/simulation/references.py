"""Every reference file that the exposures of a visit need (calibration specification, section 9)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray

from batch.simulation import distortion, geometry, tables
from batch.simulation.detector import Silicon, dark_flags
from batch.simulation.filters import FILTERS
from batch.simulation.frame import PRESCAN, VIRTUAL, Chip, Frame
from batch.simulation.settings import VisitSettings

USEAFTER = "Mar 01 2002 00:00:00"


@dataclass(frozen=True)
class Kind:
    """A type of reference file."""

    keyword: str
    suffix: str
    filetype: str
    """FILETYPE of its primary header."""
    descrip: str


KINDS = {
    kind.keyword: kind
    for kind in (
        Kind("BIASFILE", "bia", "BIAS", "Simulated bias structure"),
        Kind("SATUFILE", "sat", "FULL-WELL SATURATION LEVEL MAP", "Simulated full well"),
        Kind("SNKCFILE", "snk", "SINK PIXELS", "Simulated sink pixels"),
        Kind("DARKFILE", "drk", "DARK", "Simulated dark current with hot and warm pixels"),
        Kind("DRKCFILE", "dkc", "CTEDARK", "Simulated dark current without CTE trails"),
        Kind("FLSHFILE", "fls", "POST FLASH", "Simulated post-flash"),
        Kind("PFLTFILE", "pfl", "PIXEL-TO-PIXEL FLAT", "Simulated pixel-to-pixel flat field"),
        Kind("CCDTAB", "ccd", "CCD PARAMETERS", "Simulated amplifiers"),
        Kind("OSCNTAB", "osc", "OVERSCAN", "Overscan of full frames and simulated subarrays"),
        Kind("BPIXTAB", "bpx", "BAD PIXELS", "Simulated dead columns"),
        Kind("CRREJTAB", "crr", "COSMIC RAY REJECTION", "Cosmic-ray rejection parameters"),
        Kind("IMPHTTAB", "imp", "IMAGE PHOTOMETRY TABLE", "Photometry against time"),
        Kind("PCTETAB", "cte", "PIXCTE", "Simulated charge traps"),
        Kind("IDCTAB", "idc", "DISTORTION COEFFICIENTS", "Fifth-order distortion of ACS ISR 2015-06"),
        Kind("NPOLFILE", "npl", "DXY GRID", "Low-order model of filter-dependent distortion"),
        Kind("D2IMFILE", "d2i", "WFC D2I FILE", "Low-order model of the lattice distortion"),
    )
}


def names(settings: VisitSettings) -> dict[str, str]:
    """Give the file names of a visit's reference files by keyword, those it needs and no others."""
    wanted = set(KINDS)
    if not settings.flash:
        wanted.discard("FLSHFILE")
    if not settings.cte:
        wanted -= {"PCTETAB", "DRKCFILE"}
    if not settings.post_sm4:
        wanted.discard("SNKCFILE")
    if settings.dithers:
        wanted.discard("CRREJTAB")
    stem = f"{settings.program}{settings.visit:02d}" + {"full": "ful", "512": "512"}.get(
        settings.size, settings.size + settings.amp.lower()
    )
    return {key: f"{stem}j_{kind.suffix}.fits" for key, kind in KINDS.items() if key in wanted}


def write(folder: Path, settings: VisitSettings, frame: Frame, chips: Sequence[Silicon]) -> dict[str, Path]:
    """Write the reference files.

    Parameters
    ----------
    folder : Path
        An existing folder.
    chips : sequence of Silicon
        In the order of `Frame.chips`.

    Returns
    -------
    dict of Path
        By keyword.
    """
    paths = {key: folder / name for key, name in names(settings).items()}
    pairs = list(zip(frame.chips, chips, strict=True))
    dark = [(chip, s.dark, dark_flags(s.dark)) for chip, s in pairs]
    makers: dict[str, Callable[[], list[Any]]] = {
        "BIASFILE": lambda: _images([(c, s.bias, None) for c, s in pairs], "COUNTS", trimmed=False),
        "SATUFILE": lambda: _images([_untrimmed(c, s.well) for c, s in pairs], "ELECTRONS", trimmed=False),
        "SNKCFILE": lambda: _sinks(pairs),
        "DARKFILE": lambda: _images(dark, "ELECTRONS/S", trimmed=True),
        "DRKCFILE": lambda: _images(dark, "ELECTRONS/S", trimmed=True),
        "FLSHFILE": lambda: _images([_uncut(c, s.flash) for c, s in pairs], "ELECTRONS/S", trimmed=True),
        "PFLTFILE": lambda: _images([(c, s.flat, None) for c, s in pairs], "", trimmed=True),
        "CCDTAB": lambda: [_table(tables.ccdtab(), "CCD")],
        "OSCNTAB": lambda: [_table(tables.oscntab(), "OSC")],
        "BPIXTAB": lambda: [_table(tables.bpixtab(pairs), "BPX")],
        "CRREJTAB": lambda: [_table(tables.crrejtab(), "CRR")],
        "IMPHTTAB": lambda: [_table(t, name) for name, t in tables.imphttab().items()],
        "PCTETAB": lambda: tables.pctetab(settings.seed),
        "IDCTAB": lambda: [_table(geometry.idctab(), "")],
        "NPOLFILE": lambda: geometry.lookup_hdus(distortion.FILTER_RESIDUAL, 1e-5),
        "D2IMFILE": lambda: geometry.lookup_hdus(distortion.LATTICE, 1e-4),
    }
    for key, path in paths.items():
        hdus = makers[key]()
        header = _primary(KINDS[key], path.name, settings, len(hdus))
        fits.HDUList([fits.PrimaryHDU(header=header), *hdus]).writeto(path, overwrite=True)
    return paths


def _primary(kind: Kind, name: str, settings: VisitSettings, extensions: int) -> fits.Header:
    cards: dict[str, Any] = {
        "FILENAME": name,
        "TELESCOP": "HST",
        "INSTRUME": "ACS",
        "DETECTOR": "WFC",
        "FILETYPE": kind.filetype,
        "USEAFTER": USEAFTER,
        "PEDIGREE": tables.PEDIGREE,
        "DESCRIP": kind.descrip,
        "NEXTEND": extensions,
    }
    if kind.keyword in ("BIASFILE", "DARKFILE", "DRKCFILE", "FLSHFILE", "SATUFILE"):
        cards |= {
            "CCDAMP": "ABCD" if settings.size == "full" else settings.amp,
            "CCDGAIN": float(settings.gain),
        }
    if kind.keyword in ("PFLTFILE", "NPOLFILE"):
        band = FILTERS[settings.filter]
        cards |= {"FILTER1": band.filter1, "FILTER2": band.filter2, "OBSTYPE": "IMAGING"}
    if kind.keyword == "FLSHFILE":
        cards |= {"FLASHCUR": "LOW", "SHUTRPOS": "B"}
    if kind.keyword == "IDCTAB":
        cards |= {"NORDER": 5, "PARITY": -1, **distortion.TIME_DEPENDENCE}
    if kind.keyword == "IMPHTTAB":
        cards |= tables.IMPHTTAB_CARDS
    if kind.keyword == "PCTETAB":
        cards |= tables.PCTETAB_CARDS
    header = fits.Header()
    header.update(cards)
    return header


def _images(
    chips: Sequence[tuple[Chip, NDArray[np.float32], NDArray[np.int16] | None]],
    unit: str,
    *,
    trimmed: bool,
) -> list[fits.ImageHDU]:
    hdus = []
    for chip, data, flags in chips:
        header = fits.Header()
        ltv1, ltv2 = chip.ltv(trimmed=trimmed)
        ny, nx = data.shape
        header.update(CCDCHIP=chip.number, LTV1=ltv1, LTV2=ltv2, LTM1_1=1.0, LTM2_2=1.0)
        header.update(BINAXIS1=1, BINAXIS2=1, SIZAXIS1=nx, SIZAXIS2=ny, BUNIT=unit)
        hdus.append(fits.ImageHDU(data, header, name="SCI", ver=chip.extver))
        hdus.append(_constant(header, "ERR", chip.extver, (ny, nx)))
        if flags is None:
            hdus.append(_constant(header, "DQ", chip.extver, (ny, nx)))
        else:
            hdus.append(fits.ImageHDU(flags, header, name="DQ", ver=chip.extver))
    return hdus


def _constant(header: fits.Header, name: str, extver: int, shape: tuple[int, int]) -> fits.ImageHDU:
    """An extension that stands for an array of zeros."""
    hdu = fits.ImageHDU(header=header, name=name, ver=extver)
    hdu.header["NPIX1"], hdu.header["NPIX2"] = shape[1], shape[0]
    hdu.header["PIXVALUE"] = 0.0 if name == "ERR" else 0
    return hdu


def _untrimmed(chip: Chip, data: NDArray[np.float32]) -> tuple[Chip, NDArray[np.float32], None]:
    """Put an image where it lies on the raw array of the whole chip; what is not known gets the median.

    Full-well flags of a subarray are looked up right only where the reference does not begin at the corner of
    the subarray (specification, 4.9).
    """
    left, bottom = PRESCAN, VIRTUAL if chip.number == 1 else 0
    _, right, _, top = chip.trim
    whole = np.full(
        (bottom + chip.y0 + chip.height + top, left + chip.x0 + chip.width + right),
        np.median(data),
        np.float32,
    )
    rows = slice(bottom + chip.y0, bottom + chip.y0 + chip.height)
    whole[rows, left + chip.x0 : left + chip.x0 + chip.width] = data
    return replace(chip, x0=0, y0=0, trim=(left, right, bottom, top)), whole, None


def _uncut(chip: Chip, data: NDArray[np.float32]) -> tuple[Chip, NDArray[np.float32], None]:
    """Put an image where it lies on the chip: the post-flash must begin at the chip's own corner."""
    whole = np.ones((chip.y0 + chip.height, chip.x0 + chip.width), np.float32)
    whole[chip.y0 :, chip.x0 :] = data
    return replace(chip, x0=0, y0=0), whole, None


def _sinks(pairs: Sequence[tuple[Chip, Silicon]]) -> list[fits.ImageHDU]:
    """SCI extensions only: minus the depth at a sink pixel, 0 elsewhere (specification, 4.11)."""
    images = []
    for chip, silicon in pairs:
        whole = np.zeros((chip.ny, chip.nx), np.float32)
        whole[chip.light] = -silicon.sinks
        images.append((chip, whole, None))
    return [hdu for hdu in _images(images, "ELECTRONS", trimmed=False) if hdu.name == "SCI"]


def _table(table: Table, name: str) -> fits.BinTableHDU:
    hdu = fits.BinTableHDU(table)
    if name:
        hdu.name, hdu.ver = name, 1
    return hdu
