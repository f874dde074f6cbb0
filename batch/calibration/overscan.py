"""BLEVCORR: the bias level from the overscan. Which method applies, the keywords, and trimming.

Source: calibration-steps specification, sections 4.2, 4.7 and 4.12.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from batch.calibration.destripe import correct_bias_shift, remove_stripes
from batch.calibration.frame import Frame
from batch.calibration.header import add_history, set_double, set_float
from batch.calibration.oscntab import Overscan, select_oscntab_row
from batch.calibration.overscan_fit import fit_overscan
from batch.calibration.sm4_kernels import remove_crosstalk
from batch.storage.planes import as_number

_BIAS_SHIFT_SUBARRAYS = frozenset(
    ["WFC1A-2K", "WFC1B-2K", "WFC2C-2K", "WFC2D-2K"]
    + ["WFC1-IRAMPQ", "WFC1-MRAMPQ", "WFC2-MRAMPQ", "WFC2-ORAMPQ"]
    + [f"WFC{n}-POL{angle}{band}" for n in (1, 2) for angle in ("0", "60", "120") for band in ("UV", "V")]
)
"""List S1 of section 4.7."""


def look_up_oscntab(frame: Frame) -> None:
    """Find the OSCNTAB row of every imset, whatever BLEVCORR says (4.2)."""
    reference = frame.references.open("OSCNTAB")
    frame.overscan = [
        select_oscntab_row(frame.setup, chip.number, imset.sci.shape, reference)
        for imset, chip in frame.parts
    ]


def subtract_overscan(frame: Frame) -> None:
    """BLEVCORR: choose the method by detector, epoch and readout mode, and apply it (4.7)."""
    if not frame.performs("BLEVCORR"):
        return
    reference = frame.references.open("OSCNTAB")
    primary = frame.image.primary
    from_overscan, drift = True, False
    if reference.is_dummy:
        frame.overscan = [Overscan() for _ in frame.overscan]
        from_overscan = False
    else:
        frame.done.add("BLEVCORR")
        from_overscan, drift = _method(frame)(frame)
    _record_levels(frame)
    primary["BLEVCORR"] = "COMPLETE"
    level = "; bias level from overscan was" if from_overscan else ", but default bias level was"
    along = "includes" if drift else "does not include"
    add_history(
        primary,
        f"BLEVCORR complete{level} subtracted.",
        f"BLEVCORR {along} correction for drift along lines.",
        "  Overscan region table:",
        *reference.history("table"),
    )


def trim(frame: Frame) -> None:
    """Cut the overscan off and move LTV and CRPIX with it (4.12)."""
    if "BLEVCORR" not in frame.done:
        return
    for imset, part in zip(frame.image.imsets, frame.overscan, strict=True):
        where = f"{frame.where}[EXTVER {imset.extver}]"
        ny, nx = imset.sci.shape
        keep = (slice(part.trim_y1, ny - part.trim_y2), slice(part.trim_x1, nx - part.trim_x2))
        imset.sci = np.ascontiguousarray(imset.sci[keep])
        imset.err = np.ascontiguousarray(imset.err[keep])
        imset.dq = np.ascontiguousarray(imset.dq[keep])
        imset.sci_header["SIZAXIS1"], imset.sci_header["SIZAXIS2"] = imset.sci.shape[::-1]
        for header in (imset.sci_header, imset.err_header, imset.dq_header):
            for keyword, shift in (("1", part.trim_x1), ("2", part.trim_y1)):
                if f"LTV{keyword}" in header:
                    set_float(header, f"LTV{keyword}", as_number(header, f"LTV{keyword}", where) - shift)
                if f"CRPIX{keyword}" in header:
                    set_double(header, f"CRPIX{keyword}", as_number(header, f"CRPIX{keyword}", where) - shift)


Method = Callable[[Frame], tuple[bool, bool]]
"""Returns whether the overscan gave the level, and whether a drift along rows was removed."""


def _method(frame: Frame) -> Method:
    setup = frame.setup
    if setup.detector == "HRC" or not setup.after_sm4:
        return fit_overscan
    if not setup.subarray:
        if not all(part.found for part in frame.overscan):
            return _nothing
        return _all_of_sm4 if setup.dual_slope else _stripes_only
    virtual = all(part.virtual_rows for part in frame.overscan)
    if virtual and setup.dual_slope and setup.aperture in _BIAS_SHIFT_SUBARRAYS:
        return _bias_shift_only
    return fit_overscan


def _nothing(frame: Frame) -> tuple[bool, bool]:
    frame.overscan = [Overscan() for _ in frame.overscan]
    return False, False


def _all_of_sm4(frame: Frame) -> tuple[bool, bool]:
    correct_bias_shift(frame)
    for imset in frame.image.imsets:
        remove_crosstalk(imset.sci)
    remove_stripes(frame)
    return True, False


def _stripes_only(frame: Frame) -> tuple[bool, bool]:
    remove_stripes(frame)
    return True, False


def _bias_shift_only(frame: Frame) -> tuple[bool, bool]:
    correct_bias_shift(frame)
    level = np.float32(frame.bias_levels[frame.setup.amps[0]])
    set_float(frame.image.imsets[0].sci_header, "MEANBLEV", level)
    return True, False


def _record_levels(frame: Frame) -> None:
    primary = frame.image.primary
    if "BIASLEVA" not in primary:
        return
    for amp, level in frame.bias_levels.items():
        if np.float32(level) != 0:
            set_float(primary, f"BIASLEV{amp}", level)
