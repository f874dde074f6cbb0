"""The order of the corrections, in two tables: the CCD stage and the 2-D stage.

Source: calibration-steps specification, sections 4 and 6; ACS Data Handbook, chapter 3.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from batch.calibration import ccd_steps, dataquality, flatfield, overscan, photometry
from batch.calibration.frame import Frame
from batch.calibration.header import CCD_SWITCHES, PLANE_SWITCHES, drop_data_range, stamp
from batch.errors import InputError
from batch.storage.fits import Image
from batch.storage.planes import as_number

Step = tuple[str, Callable[[Frame], None]]

CCD_STAGE: tuple[Step, ...] = (
    ("CCDTAB    gain, read noise, amplifiers", ccd_steps.look_up_ccdtab),
    ("OSCNTAB   where the overscan is", overscan.look_up_oscntab),
    ("DQICORR   A-to-D saturation, bad pixels", dataquality.initialise_dq),
    ("BIASCORR  bias image, DN", ccd_steps.subtract_bias),
    ("(always)  DN to electrons", ccd_steps.to_electrons),
    ("BLEVCORR  bias level from the overscan", overscan.subtract_overscan),
    ("(always)  DARKTIME with readout overhead", ccd_steps.update_darktime),
    ("(always)  full-well saturation", ccd_steps.flag_full_well),
    ("(always)  ERR from photon and read noise", ccd_steps.initialise_errors),
    ("SINKCORR  sink pixels", ccd_steps.flag_sinks),
    ("BLEVCORR  trim the overscan", overscan.trim),
)
"""raw -> blv_tmp"""


def finish_ccdtab(frame: Frame) -> None:
    """Repeat the CCDTAB block, and make up for a CCD stage that was left out."""
    ccd_steps.look_up_ccdtab(frame)
    if not all(str(i.sci_header.get("BUNIT", "")).upper().startswith("ELECTR") for i in frame.image.imsets):
        ccd_steps.to_electrons(frame)
    if not any(np.any(imset.err) for imset in frame.image.imsets):
        ccd_steps.initialise_errors(frame)


def refuse_odd_pixels(frame: Frame) -> None:
    """Complain about pixels that overflowed: a product holds numbers only."""
    for imset in frame.image.imsets:
        for name, pixels in (("SCI", imset.sci), ("ERR", imset.err)):
            if not np.isfinite(pixels).all():
                what = "pixels are not finite after calibration"
                remedy = "look at gain, dark and flat for impossible values"
                raise InputError.about(f"{frame.where}[{name},{imset.extver}]", what, remedy)


def complete_expscorr(frame: Frame) -> None:
    """EXPSCORR: bookkeeping alone (6.7)."""
    if frame.performs("EXPSCORR"):
        frame.complete("EXPSCORR")


PLANE_STAGE: tuple[Step, ...] = (
    ("CCDTAB    gain, read noise, amplifiers", finish_ccdtab),
    ("DARKCORR  dark current x DARKTIME", flatfield.subtract_dark),
    ("FLSHCORR  post-flash x FLASHDUR", flatfield.subtract_flash),
    ("FLATCORR  P-flat, then delta flat", flatfield.divide_flats),
    ("SHADCORR  shutter shading", flatfield.divide_shading),
    ("(always)  PHOTMODE", photometry.set_photmode),
    ("PHOTCORR  PHOTFLAM, PHOTPLAM, PHOTBW", photometry.set_photometry),
    ("(always)  pixels are numbers", refuse_odd_pixels),
    ("(always)  statistics of good pixels", photometry.set_statistics),
    ("EXPSCORR  bookkeeping", complete_expscorr),
)
"""blv_tmp -> flt, blc_tmp -> flc, crj_tmp -> crj, crc_tmp -> crc"""


def run_ccd_stage(image: Image, where: Path, jref: Path, threads: int) -> None:
    """raw -> blv_tmp, in place; nothing is done if no switch of the stage is PERFORM.

    Parameters
    ----------
    image : Image
        A raw exposure; it is changed.
    where : Path
        Its file, for messages.
    jref : Path
        Folder of the reference files.
    threads : int

    Raises
    ------
    InputError
        If a reference file or a keyword cannot be used.
    """
    frame = Frame.of(image, where, jref, threads)
    if any(frame.performs(switch) for switch in CCD_SWITCHES):
        _run(CCD_STAGE, frame)


def run_plane_stage(image: Image, where: Path, jref: Path, threads: int, *, cte: bool = False) -> None:
    """blv_tmp -> flt (or blc_tmp -> flc, and so on), in place.

    Parameters
    ----------
    image, where, jref, threads
        As for `run_ccd_stage`.
    cte : bool
        True for data that are corrected for CTE: their dark is DRKCFILE.

    Raises
    ------
    InputError
        If the overscan was not removed, or a reference file or a keyword cannot be used.
    """
    frame = Frame.of(image, where, jref, threads)
    if not any(frame.performs(switch) for switch in PLANE_SWITCHES):
        return
    check_trimmed(image, where)
    if cte:
        frame.dark_keyword = "DRKCFILE"
    _run(PLANE_STAGE, frame)


def check_trimmed(image: Image, where: Path) -> None:
    """Raise an `InputError` unless the overscan is subtracted and trimmed (6)."""
    if str(image.primary.get("BLEVCORR", "")).upper().strip() != "COMPLETE":
        raise InputError.about(
            f"{where} BLEVCORR", "the overscan was not subtracted", "set BLEVCORR to PERFORM"
        )
    for imset in image.imsets:
        place = f"{where}[SCI,{imset.extver}]"
        offsets = [as_number(imset.sci_header, k, place, 0.0) for k in ("LTV1", "LTV2")]
        if max(offsets) > 0:
            what = f"LTV1, LTV2 = {offsets}: the overscan was not trimmed"
            remedy = "provide an OSCNTAB with a row for this readout mode"
            raise InputError.about(place, what, remedy)


def name_product(image: Image, path: Path, engine: str) -> None:
    """Write file name and engine into an image that is about to become a product."""
    stamp(image.primary, path.name, engine)
    for imset in image.imsets:
        drop_data_range(imset)


def _run(steps: tuple[Step, ...], frame: Frame) -> None:
    for _, step in steps:
        step(frame)
