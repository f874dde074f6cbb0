"""The steps of the CCD stage that need CCDTAB or an image reference, each for all imsets of a frame.

Source: calibration-steps specification, sections 4.1, 4.3, 4.5, 4.6 and 4.8 to 4.11.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from batch.calibration import kernels
from batch.calibration.alignment import Section
from batch.calibration.ccd import quadrants, record_ccdtab, select_ccdtab_row
from batch.calibration.frame import Frame
from batch.calibration.header import CYCLE_24, add_history, set_float
from batch.storage.fits import Imset

_SUBARRAYS_WITH_OVERHEAD = frozenset(
    [f"WFC{chip_amp}-{size}" for chip_amp in ("1A", "1B", "2C", "2D") for size in ("2K", "1K", "512")]
    + ["WFC1-IRAMPQ", "WFC1-MRAMPQ", "WFC2-ORAMPQ", "WFC1-SMFL"]
    + [f"WFC1-POL{angle}{band}" for angle in ("0", "60", "120") for band in ("UV", "V")]
)
"""List S2 of section 4.8; names are compared exactly."""


def look_up_ccdtab(frame: Frame) -> None:
    """Find the CCDTAB row of every imset and write those of imset 1 to the primary header (4.1)."""
    reference = frame.references.open("CCDTAB")
    frame.ccd = [
        select_ccdtab_row(frame.setup, chip.number, imset.sci.shape[1], reference)
        for imset, chip in frame.parts
    ]
    record_ccdtab(frame.image.primary, reference, frame.ccd[0])


def subtract_bias(frame: Frame) -> None:
    """BIASCORR: subtract the bias image, in DN (4.5)."""
    if not frame.performs("BIASCORR"):
        return
    reference = frame.references.open("BIASFILE")
    if reference.is_dummy:
        frame.skip_dummy("BIASCORR", reference, "image")
        return
    for index, imset in enumerate(frame.image.imsets):
        frame.with_reference(imset, frame.section(reference, index), kernels.subtract)
    frame.done.add("BIASCORR")
    frame.complete("BIASCORR", *reference.history("image"))


def to_electrons(frame: Frame) -> None:
    """Multiply SCI and ERR by the gain of each amp, whatever the switches say (4.6)."""
    where = f"{frame.references.path('CCDTAB')} ATODGN"
    for (imset, chip), ccd in zip(frame.parts, frame.ccd, strict=True):
        parts = quadrants(frame.setup, chip, ccd, imset.sci.shape)
        gains = parts.values(ccd.gain, imset.sci.shape[0], where)
        for image in (imset.sci, imset.err):
            kernels.multiply_quadrants(image, parts.x, parts.y, *gains)
        imset.sci_header["BUNIT"] = imset.err_header["BUNIT"] = "ELECTRONS"


def update_darktime(frame: Frame) -> None:
    """DARKTIME: add the readout overhead that the header does not count (4.8)."""
    setup, ccd = frame.setup, frame.ccd[0]
    flashed = setup.flash_duration > 0 and setup.flash_status == "SUCCESSFUL"
    overhead = np.float32(ccd.overhead_flashed if flashed else ccd.overhead_unflashed)
    if setup.subarray:
        applies = setup.expstart >= CYCLE_24 and setup.aperture in _SUBARRAYS_WITH_OVERHEAD
    else:
        applies = setup.after_sm4
    darktime = np.float32(setup.darktime)
    set_float(frame.image.primary, "DARKTIME", darktime + overhead if applies else darktime)


def flag_full_well(frame: Frame) -> None:
    """Flag pixels above the full well, bit 256, after bias and overscan are gone (4.9)."""
    if not {"BIASCORR", "BLEVCORR"} <= frame.done:
        return
    reference = frame.references.open("SATUFILE")
    for index, imset in enumerate(frame.image.imsets):
        section = frame.section(reference, index)
        trim = frame.overscan[index]
        height = imset.sci.shape[0] - trim.trim_y1 - trim.trim_y2
        width = imset.sci.shape[1] - trim.trim_x1 - trim.trim_x2
        # Subarrays are compared from row and column 0 on, although these may be overscan: as calacs does.
        y0, x0 = section.inner if section.same_frame else (0, 0)
        window = (slice(y0, y0 + height), slice(x0, x0 + width))
        frame.by_rows(imset, partial(_flag_bright, imset, section, window))


def _flag_bright(imset: Imset, section: Section, window: tuple[slice, slice], rows: slice) -> None:
    inside = slice(max(rows.start, window[0].start), min(rows.stop, window[0].stop))
    if inside.start < inside.stop:
        limit = section.read(section.planes.sci, np.float32, inside)[:, window[1]]
        bright = imset.sci[inside, window[1]] > limit
        imset.dq[inside, window[1]][bright] |= np.int16(256)


def initialise_errors(frame: Frame) -> None:
    """ERR from photon and read noise, electrons (4.10)."""
    where = f"{frame.references.path('CCDTAB')} READNSE"
    for (imset, chip), ccd in zip(frame.parts, frame.ccd, strict=True):
        parts = quadrants(frame.setup, chip, ccd, imset.sci.shape)
        noise = parts.values(ccd.noise, imset.sci.shape[0], where)
        parts.values(ccd.gain, imset.sci.shape[0], where)
        if frame.setup.targname.startswith("BIAS"):
            imset.err[:] = 1
            kernels.multiply_quadrants(imset.err, parts.x, parts.y, *noise)
        else:
            kernels.add_noise_quadrants(imset.err, imset.sci, parts.x, parts.y, *noise)
    add_history(frame.image.primary, "Uncertainty array initialized.")


def flag_sinks(frame: Frame) -> None:
    """SINKCORR: flag sink pixels and their trails, bit 1024 (4.11)."""
    if not frame.performs("SINKCORR"):
        return
    reference = frame.references.open("SNKCFILE")
    if reference.is_dummy:
        frame.skip_dummy("SINKCORR", reference, "image")
        return
    for index, imset in enumerate(frame.image.imsets):
        section = frame.section(reference, index, full=False)
        ny, nx = imset.sci.shape
        active, depth = np.zeros(nx, dtype=bool), np.zeros(nx, dtype=np.float32)
        step = 1 if section.planes.extver == 1 else -1
        for y in range(0, ny, 128)[::step]:
            rows = slice(y, min(y + 128, ny))
            sink = section.read(section.planes.sci, np.float32, rows)
            kernels.flag_sinks(imset.dq[rows], imset.sci[rows], sink, step, active, depth)
    frame.complete("SINKCORR", *reference.history("image"))
