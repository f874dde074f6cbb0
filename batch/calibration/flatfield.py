"""Dark, post-flash, flat fields and shutter shading: what the 2-D stage does to pixels.

Source: calibration-steps specification, sections 6.1 to 6.4.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from batch.calibration import kernels
from batch.calibration.alignment import Section
from batch.calibration.frame import Frame
from batch.calibration.header import add_history, set_float
from batch.calibration.shading import expand_shading
from batch.errors import InputError
from batch.storage.fits import Imset
from batch.storage.planes import as_number

FLATS = ("PFLTFILE", "DFLTFILE")


def subtract_dark(frame: Frame) -> None:
    """DARKCORR: subtract dark current x DARKTIME (6.1)."""
    if not frame.performs("DARKCORR"):
        return
    reference = frame.references.open(frame.dark_keyword)
    if reference.is_dummy:
        frame.skip_dummy("DARKCORR", reference, "image")
        return
    for index, imset in enumerate(frame.image.imsets):
        sums, counts = _subtract_scaled(frame, index, frame.section(reference, index), frame.setup.darktime)
        count = int(counts.sum())
        mean = float(np.add.accumulate(sums)[-1]) / count if count else 0.0
        set_float(imset.sci_header, "MEANDARK", mean)
    frame.complete("DARKCORR", *reference.history("image"))


def subtract_flash(frame: Frame) -> None:
    """FLSHCORR: subtract post-flash x FLASHDUR (6.2)."""
    if not frame.performs("FLSHCORR"):
        return
    reference = frame.references.open("FLSHFILE")
    primary = frame.image.primary
    if reference.is_dummy:
        frame.skip_dummy("FLSHCORR", reference, "image")
        return
    for plane in reference.planes[:1]:
        offsets = [as_number(plane.header, k, plane.where, 0.0) for k in ("LTV1", "LTV2")]
        if any(offsets):
            raise InputError.about(
                plane.where, f"LTV1, LTV2 = {offsets} are not 0", "take a trimmed FLSHFILE"
            )
    if frame.setup.flash_duration <= 0:
        primary["FLSHCORR"] = "SKIPPED"
        line = "Post-flash exposure was 0 seconds. FLSHCORR not performed."
        add_history(primary, line, "FLSHCORR not performed ...", *reference.history("image"))
        return
    if frame.setup.flash_status == "ABORTED":
        add_history(primary, "Post-flash STATUS was ABORTED.")
    for index, imset in enumerate(frame.image.imsets):
        section = frame.section(reference, index)
        sums, counts = _subtract_scaled(frame, index, section, frame.setup.flash_duration)
        set_float(imset.sci_header, "MEANFLSH", _mean_of_row_means(sums, counts, imset.sci.shape[1]))
    frame.complete("FLSHCORR", *reference.history("image"))


def divide_flats(frame: Frame) -> None:
    """FLATCORR: divide by the P-flat, then by the delta flat (6.3).

    Raises
    ------
    InputError
        If a low-order flat is given: calacs crashes on one, and what it would mean is not defined. A
        coronagraphic spot flat is not supported either.
    """
    if not frame.performs("FLATCORR"):
        return
    refuse_unusable_flats(frame)
    flats = [frame.references.open(keyword) for keyword in FLATS if frame.references.given(keyword)]
    real = [flat for flat in flats if not flat.is_dummy]
    if not real:
        frame.skip_dummy("FLATCORR", flats[0], "image")
        return
    for flat in real:
        for index, imset in enumerate(frame.image.imsets):
            frame.with_reference(imset, frame.section(flat, index), kernels.divide)
    frame.complete("FLATCORR", *(line for flat in flats for line in flat.history("image")))


def refuse_unusable_flats(frame: Frame) -> None:
    """Complain about flats that cannot be applied, before anything is written."""
    references = frame.references
    if references.given("LFLTFILE"):
        where, name = f"{frame.where} LFLTFILE", references.name("LFLTFILE")
        what = f"low-order flats are not supported, neither here nor by calacs ({name})"
        raise InputError.about(where, what, "set LFLTFILE to N/A")
    if references.given("CFLTFILE") and references.given("SPOTTAB") and frame.setup.detector == "HRC":
        what = "coronagraphic spot flats are not supported"
        raise InputError.about(f"{frame.where} CFLTFILE", what, "set CFLTFILE to N/A or FLATCORR to OMIT")


def divide_shading(frame: Frame) -> None:
    """SHADCORR: divide by 1 + shading / exposure time (6.4)."""
    if not frame.performs("SHADCORR"):
        return
    reference = frame.references.open("SHADFILE")
    if reference.is_dummy:
        frame.skip_dummy("SHADCORR", reference, "image")
        return
    if frame.setup.exptime <= 0:
        frame.image.primary["SHADCORR"] = "SKIPPED"
        add_history(frame.image.primary, "SHADCORR not performed ...", *reference.history("image"))
        return
    for index, imset in enumerate(frame.image.imsets):
        combined = as_number(imset.sci_header, "NCOMBINE", frame.where, 1)
        if combined < 1:
            raise InputError.about(f"{frame.where} NCOMBINE", f"{combined} is impossible", "correct it")
        factor = np.float32(1) / np.float32(frame.setup.exptime / combined)
        sci, err, dq = expand_shading(reference, frame.chips[index], imset.sci.shape)
        shading = np.float32(1) + factor * sci
        kernels.divide(imset.sci, imset.err, imset.dq, shading, factor * err, dq)
    frame.complete("SHADCORR", *reference.history("image"))


def _subtract_scaled(
    frame: Frame, index: int, section: Section, factor: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Subtract factor x reference; sum and number of the reference's good pixels by row."""
    imset: Imset = frame.image.imsets[index]
    height = imset.sci.shape[0]
    sums, counts = np.zeros(height), np.zeros(height, dtype=np.int64)
    bits = np.int16(frame.chips[index].good_bits)

    def more(rows: slice) -> tuple[object, ...]:
        return np.float32(factor), bits, sums[rows], counts[rows]

    frame.with_reference(imset, section, kernels.subtract_scaled, more)
    return sums, counts


def _mean_of_row_means(
    sums: npt.NDArray[np.float64], counts: npt.NDArray[np.int64], width: int
) -> np.float32:
    """Mean over rows, weighted with the fraction of good pixels, in single precision (6.2)."""
    total, weights = np.float32(0), np.float32(0)
    for s, n in zip(sums, counts, strict=True):
        if n:
            weight = np.float32(n / width)
            total += np.float32(s / n) * weight
            weights += weight
    return total / weights if weights else np.float32(0)
