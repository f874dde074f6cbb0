"""Look at raw exposures: the keywords that planning needs, and whether a file is whole."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning

from batch.errors import InputError
from batch.model.observation import Exposure

DETECTORS = ("WFC", "HRC")
WCS = ("CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2", "CD1_1", "CD1_2", "CD2_1", "CD2_2")
"""Keywords of a linear WCS."""
REQUIRED = ("INSTRUME", "DETECTOR", "EXPTIME", "EXPSTART", "EXPEND", "SUBARRAY", "CCDAMP", "CCDGAIN")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[fits.HDUList]:
    """Open a file that may be damaged: what astropy only warns of is looked at by the caller."""
    # a stream of our own is closed even where astropy gives up half way
    with path.open("rb") as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        with fits.open(stream, memmap=False) as hdus:
            yield hdus


def stamp(path: Path) -> str:
    """Size and modification time of a file: changes when the file does, without reading it."""
    status = path.stat()
    return f"{status.st_size}-{status.st_mtime_ns}"


def unreadable(name: str, mark: str = "missing", origin: str = "", trouble: str = "") -> Exposure:
    """Stand in for an exposure whose file is missing or broken: its fetch task fails and says why.

    Parameters
    ----------
    name : str
        Rootname.
    mark : str
        Its `stamp`, where there is a file.
    origin : str
        Where the file lies, or should.
    trouble : str
        What is wrong with it.
    """
    return Exposure(name, "", "", "", (), 0.0, 0.0, (0, 0), 0, mark, origin=origin, trouble=trouble)


def chips(primary: Any) -> int:
    """Number of imsets, from NEXTEND."""
    return max(1, int(primary.get("NEXTEND", 3)) // 3)


def filters(primary: Any) -> tuple[str, ...]:
    """The filters in the beam, clear positions left out."""
    names = (str(primary.get(k, "")).strip().upper() for k in ("FILTER1", "FILTER2"))
    return tuple(n for n in names if n and not n.startswith(("CLEAR", "N/A")))


def linear_wcs(science: Any) -> tuple[float, ...]:
    """CRVAL, CRPIX and the CD matrix by rows of a chip's header; empty where one of them is missing."""
    values = tuple(float(science[n]) for n in WCS if isinstance(science.get(n), (int, float)))
    a, b, c, d = values[4:] if len(values) == len(WCS) else (0.0,) * 4
    return values if np.isfinite(values).all() and a * d != b * c else ()


def check_primary(primary: Any, path: object) -> None:
    """Raise an `InputError` that names the keyword, unless this is the header of a CCD exposure."""
    for keyword in REQUIRED:
        if keyword not in primary:
            raise InputError.about(
                f"{path}[0] {keyword}", "missing", "fetch the raw file again from the archive"
            )
    if not str(primary["INSTRUME"]).startswith("ACS"):
        raise InputError.about(
            f"{path}[0] INSTRUME", f"{primary['INSTRUME']!r} is not ACS", "leave this file out"
        )
    if primary["DETECTOR"] not in DETECTORS:
        raise InputError.about(
            f"{path}[0] DETECTOR",
            f"{primary['DETECTOR']!r} is not supported (only {' and '.join(DETECTORS)} are)",
            "leave this exposure out with --exclude",
        )
    for keyword in ("EXPTIME", "EXPSTART"):
        if not np.isfinite(float(primary[keyword])) or float(primary[keyword]) < 0:
            raise InputError.about(
                f"{path}[0] {keyword}", f"{primary[keyword]!r} makes no sense", "leave this exposure out"
            )


def check_whole(path: Path) -> None:
    """Read a raw file to its end.

    Raises
    ------
    InputError
        For a file that is cut short, lacks a SCI extension, or has pixels that are no numbers; the message
        names the HDU.
    """
    try:
        with _opened(path) as hdus:
            check_primary(hdus[0].header, path)
            end = 0
            for index, hdu in enumerate(hdus):
                info = hdu.fileinfo()
                end = max(end, info["datLoc"] + info["datSpan"])
                if end > path.stat().st_size:
                    raise InputError.about(
                        f"{path}[{index}]",
                        f"the file is cut short: {path.stat().st_size} bytes of at least {end}",
                        "fetch it again",
                    )
            for chip in range(1, chips(hdus[0].header) + 1):
                _check_science(hdus, chip, path)
            announced = int(hdus[0].header.get("NEXTEND", 0))
            if len(hdus) - 1 < announced:
                # cut off between two HDUs, which leaves a good FITS file
                what = (
                    f"the file is cut short: {len(hdus) - 1} extensions instead of the {announced} of NEXTEND"
                )
                raise InputError.about(f"{path}[0] NEXTEND", what, "fetch it again")
    except (OSError, ValueError, TypeError, fits.VerifyError) as error:
        raise InputError.about(path, f"cannot be read as FITS ({_words(error)})", "fetch it again") from None


def _check_science(hdus: Any, chip: int, path: Path) -> None:
    try:
        hdu = hdus["SCI", chip]
    except KeyError:
        raise _no_science(path, chip) from None
    where = f"{path}[SCI,{chip}]"
    if hdu.data is None or hdu.data.ndim != 2:
        raise InputError.about(where, "holds no image", "fetch it again")
    if hdu.data.dtype.kind == "f":
        bad = int(np.count_nonzero(~np.isfinite(hdu.data)))
        if bad:
            raise InputError.about(
                where, f"{bad} pixels are NaN or infinite", "fetch the raw file again from the archive"
            )


def _no_science(path: Path, chip: int) -> InputError:
    return InputError.about(
        f"{path}[SCI,{chip}]", "there is no such extension", "fetch the raw file again from the archive"
    )


def _words(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
