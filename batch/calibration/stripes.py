"""Stripes of WFC subarrays after SM4, which calacs leaves in: acstools' acs_destripe takes them out.

A full frame shows the stripes in its prescan, four times over; a subarray has one prescan, and calacs does
not use it. acs_destripe finds them in the sky instead, row by row. It belongs between the CCD stage and the
CTE correction (ACS ISR 2011-05; documentation of acstools.acs_destripe_plus) and runs in a process of its
own, because it reads ``jref`` and the input from its environment and folder.
"""

from __future__ import annotations

import os
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
from astropy.io.fits import Header

from batch.calibration.header import CYCLE_24, SM4, Setup, add_history
from batch.calibration.references import References
from batch.errors import LibraryError
from batch.isolation import child
from batch.model.observation import Exposure
from batch.storage.fits import Image, read_image, write_image

TIMEOUT = 1800.0
"""s; a 2K subarray takes about 10."""
_FIRST = 54967.0
"""MJD from which acs_destripe works: some days after SM4, before the first science."""
_SUFFIX = "strp"
_LOG = "destripe.log"
_CALL = """
import sys
from acstools import acs_destripe
acs_destripe.clean(sys.argv[1], sys.argv[2], clobber=True)
"""
_TWO_K = frozenset(
    ["WFC1A-2K", "WFC1B-2K", "WFC2C-2K", "WFC2D-2K", "WFC1-2K", "WFC2-2K", "WFC1-SMFL", "WFC2-SMFL"]
    + ["WFC1-IRAMPQ", "WFC1-MRAMPQ", "WFC2-MRAMPQ", "WFC2-ORAMPQ"]
    + [f"WFC{n}-POL{angle}{band}" for n in (1, 2) for angle in ("0", "60", "120") for band in ("UV", "V")]
)
"""Apertures of 2K, which acs_destripe_plus supports whenever they were taken after SM4."""


def leaves_stripes(setup: Setup) -> bool:
    """Whether an exposure has stripes that calacs does not remove and acs_destripe does.

    WFC subarrays after SM4: those of 2K always, the others since flight software reads them as full frames
    (Cycle 24).
    """
    return (
        setup.detector == "WFC"
        and setup.subarray
        and setup.expstart > max(SM4, _FIRST)
        and (setup.expstart >= CYCLE_24 or setup.aperture in _TWO_K)
        and setup.switches["BLEVCORR"]
    )


def may_leave_stripes(exposure: Exposure) -> bool:
    """Whether to plan for it, from what is known of an exposure before it is read."""
    return exposure.detector == "WFC" and exposure.chips == 1 and exposure.start > _FIRST


def remove_stripes(image: Image, where: Path, jref: Path, area: Path) -> None:
    """Take the stripes out of a trimmed exposure in electrons, in place.

    Parameters
    ----------
    image : Image
        After the CCD stage (blv_tmp); SCI and ERR change.
    where : Path
        The raw file, for names and messages.
    jref : Path
        Folder of the reference files: dark, flash and flat are taken off while the stripes are measured.
    area : Path
        For intermediate files, which are removed again.

    Raises
    ------
    LibraryError
        If acs_destripe fails or leaves nothing behind.
    ChildTimeoutError, ChildKilledError
        If it takes too long or is killed.
    """
    before = area / where.name.replace("_raw.fits", "_blv_tmp.fits")
    after = before.with_name(f"{before.stem}_{_SUFFIX}.fits")
    log = area / _LOG
    try:
        write_image(Image(_for_acstools(image, where, jref), image.imsets), before, overwrite=True)
        ending = child.run(
            [sys.executable, "-P", "-c", _CALL, before.name, _SUFFIX],
            cwd=area,
            log=log,
            timeout=TIMEOUT,
            environment=os.environ | {"jref": f"{jref.absolute()}/"},
        )
        ending.check(f"acs_destripe of {where.name}", TIMEOUT)
        if ending.exit_status != 0 or not after.is_file():
            raise LibraryError(
                f"acstools.acs_destripe of {where.name}: {_last_words(log)}; look at the exposure, or "
                "leave the stripes in with calibrate.destripe=false"
            )
        for imset, clean in zip(image.imsets, read_image(after).imsets, strict=True):
            imset.sci = np.ascontiguousarray(clean.sci, dtype=np.float32)
            imset.err = np.ascontiguousarray(clean.err, dtype=np.float32)
    finally:
        before.unlink(missing_ok=True)
        after.unlink(missing_ok=True)
    add_history(image.primary, f"acs-batch: stripes removed by acstools {metadata.version('acstools')}")


def _for_acstools(image: Image, where: Path, jref: Path) -> Header:
    """The primary header without names of files that are not there: acs_destripe opens all it finds."""
    primary = image.primary.copy()
    references = References(primary, jref, where)
    for keyword in ("DARKFILE", "FLSHFILE", "PFLTFILE"):
        if references.given(keyword) and not references.path(keyword).is_file():
            primary[keyword] = "N/A"
    return primary


def _last_words(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    return " / ".join([line.strip() for line in lines if line.strip()][-2:]) or "no message"
