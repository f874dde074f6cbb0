"""DQICORR: A-to-D saturation and the bad-pixel table.

Source: calibration-steps specification, section 4.3.
"""

from __future__ import annotations

import numpy as np

from batch.calibration import kernels
from batch.calibration.frame import Frame
from batch.calibration.header import Chip, Setup, add_history
from batch.calibration.table import Table
from batch.errors import InputError
from batch.storage.fits import Imset

SATURATED = np.int16(2048)
PLACE_HOLDER = np.int16(64)
_VALUES_CHECKED = "  values checked for saturation"


def initialise_dq(frame: Frame) -> None:
    """Flag saturated pixels (raw DN) and the bad pixels of BPIXTAB."""
    if not frame.performs("DQICORR"):
        return
    for imset, ccd in zip(frame.image.imsets, frame.ccd, strict=True):
        imset.dq[imset.sci >= np.float32(ccd.saturation)] |= SATURATED
    if not frame.references.given("BPIXTAB"):
        frame.complete("DQICORR", _VALUES_CHECKED)
        return
    reference = frame.references.open("BPIXTAB")
    if reference.is_dummy:
        frame.skip_dummy("DQICORR", reference, "table")
        add_history(frame.image.primary, _VALUES_CHECKED)
        return
    table = reference.table()
    for imset, chip in frame.parts:
        _flag_bad_pixels(imset, chip, frame.setup, table)
    frame.complete("DQICORR", _VALUES_CHECKED, "  DQ array initialized ...", *reference.history("table"))


def _flag_bad_pixels(imset: Imset, chip: Chip, setup: Setup, table: Table) -> None:
    axis, length = (table.integers(name) for name in ("AXIS", "LENGTH"))
    wrong = np.flatnonzero((axis < 1) | (axis > 2) | (length <= 0))
    if len(wrong):
        where = f"{table.path} (BPIXTAB) row {wrong[0] + 1}"
        raise InputError.about(where, "AXIS is not 1 or 2, or LENGTH is not positive", "correct the table")
    rows = table.same_number("CCDCHIP", chip.number)
    if table.has("CCDAMP"):
        rows &= table.same_text("CCDAMP", setup.amps, "N/A")
    if table.has("CCDGAIN"):
        rows &= table.same_number("CCDGAIN", setup.gain)
    if not rows.any():
        # calacs marks one pixel so that the DQ array is not written as a constant one
        imset.dq[1:2, 1:2] |= PLACE_HOLDER
        return
    # PIX1, PIX2 count on the trimmed detector: LTV shifts them to this array, overscan or subarray
    x, y = (
        np.trunc(table.integers(name)[rows] - 1 + ltv).astype(np.int64)
        for name, ltv in zip(("PIX1", "PIX2"), chip.ltv, strict=True)
    )
    value = table.integers("VALUE")[rows].astype(np.int16)
    kernels.flag_runs(imset.dq, x, y, length[rows], axis[rows], value)
