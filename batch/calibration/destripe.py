"""The bias of WFC frames after SM4: bias shift and stripes, amp by amp.

Source: calibration-steps specification, sections 4.7.2 and 4.7.4; ACS ISR 2011-05, 2012-02.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from batch.calibration import sm4_kernels
from batch.calibration.frame import Frame
from batch.calibration.header import add_history, set_float
from batch.errors import InputError

BIAS_COLUMNS = 24
_PIXELS_PER_MS = 1000 / 22
_GAP = int(_PIXELS_PER_MS * 3.212 + 0.5)
"""Pixels of time that the parallel shift between two rows takes."""
_DC_RATIO = 0.3
_TIME_CONSTANT = {"A": 37.290251, "B": 36.180001, "C": 37.867770, "D": 42.461249}
"""ms"""
_SENSITIVITY = {"A": 2.9188919e-3, "B": 10.805754e-3, "C": 12.432145e-3, "D": 3.8596253e-3}
_BOX_ROWS, _BOX_COLUMNS = slice(2057, 2067), slice(13, 23)


@dataclass(frozen=True)
class AmpView:
    """A quadrant seen with its amplifier at [0, 0]: pixel [i, j] is ``sci[y0 + dy * i, x0 + dx * j]``."""

    amp: str
    sci: npt.NDArray[np.float32]
    y0: int
    dy: int
    x0: int
    dx: int
    rows: int
    columns: int

    @property
    def address(self) -> tuple[int, int, int, int]:
        """What the kernels take."""
        return self.y0, self.dy, self.x0, self.dx

    def flipped(self) -> npt.NDArray[np.float32]:
        """The view as a strided array, no copy."""
        left = min(self.x0, self.x0 + self.dx * (self.columns - 1))
        return self.sci[:: self.dy, left : left + self.columns][:, :: self.dx]


def amp_views(frame: Frame) -> Iterator[AmpView]:
    """The amps of a frame in the order A, B, C, D.

    Raises
    ------
    InputError
        If the frame is not the full WFC or the subarray of one amp that these corrections are made for.
    """
    amps = frame.setup.amps
    shapes = {imset.sci.shape for imset in frame.image.imsets}
    chips = sorted(chip.number for chip in frame.chips)
    full = not frame.setup.subarray
    if len(shapes) != 1 or (full and (amps != "ABCD" or chips != [1, 2])) or (not full and len(amps) != 1):
        raise InputError.about(
            f"{frame.where} CCDAMP",
            f"{amps} with chips {chips} and shapes {sorted(shapes)} is not a WFC frame after SM4",
            "correct CCDAMP, SUBARRAY or CCDCHIP",
        )
    by_chip = {chip.number: imset.sci for imset, chip in frame.parts}
    for amp in sorted(amps):
        sci = by_chip[1 if amp in "AB" else 2] if full else frame.image.imsets[0].sci
        ny, nx = sci.shape
        columns = nx // 2 if full else nx
        y0, dy = (ny - 1, -1) if amp in "AB" else (0, 1)
        x0, dx = (nx - 1, -1) if amp in "BD" else (0, 1)
        if ny < _BOX_ROWS.stop or columns <= BIAS_COLUMNS + 6:
            raise InputError.about(
                f"{frame.where}[SCI]", f"{columns} x {ny} pixels an amp are too few", "set BLEVCORR to OMIT"
            )
        yield AmpView(amp, sci, y0, dy, x0, dx, ny, columns)


def correct_bias_shift(frame: Frame) -> None:
    """Undo the signal-dependent shift of the dual-slope integrator's bias (4.7.2).

    The level of the reference box goes into `Frame.bias_levels`.
    """
    with ThreadPoolExecutor(frame.threads) as pool:
        views = list(amp_views(frame))
        for view, level in zip(views, pool.map(_correct_amp, views), strict=True):
            frame.bias_levels[view.amp] = level


def _correct_amp(view: AmpView) -> float:
    fill = _box_mean(view.flipped().astype(np.float64))
    decay = 1.0 - math.exp(-1.0 / (_TIME_CONSTANT[view.amp] * _PIXELS_PER_MS))
    corrected = np.empty((view.rows, view.columns))
    sm4_kernels.remove_bias_shift(
        corrected, view.sci, *view.address, _GAP, fill, decay, _DC_RATIO, _SENSITIVITY[view.amp]
    )
    level = _box_mean(corrected)
    sm4_kernels.store_view(view.sci, *view.address, corrected, level)
    return level


def _box_mean(view: npt.NDArray[np.float64]) -> float:
    box = view[_BOX_ROWS, _BOX_COLUMNS].ravel()
    return float(np.add.accumulate(box)[-1]) / box.size


def remove_stripes(frame: Frame) -> None:
    """Subtract the residual bias level of each amp and the stripes common to all (4.7.4)."""
    views = list(amp_views(frame))
    rows = views[0].rows
    bias = np.stack([view.flipped()[:, :BIAS_COLUMNS].astype(np.float64) for view in views])
    usable = np.zeros((len(views), rows), dtype=bool)
    for k, view in enumerate(views):
        beside = view.flipped()[:, BIAS_COLUMNS : BIAS_COLUMNS + 6].max(axis=1)
        sm4_kernels.remove_bias_pattern(bias[k], beside < sm4_kernels.PATTERN_LIMIT)
    levels = {}
    for k, view in enumerate(views):
        sm4_kernels.find_usable_rows(usable[k], bias[k], view.sci, *view.address, view.columns)
        levels[view.amp] = sm4_kernels.clipped_level(bias[k], usable[k])
        bias[k] -= levels[view.amp]
    stripe = np.zeros(rows)
    fixed = sm4_kernels.find_stripes(stripe, bias, usable)

    def finish(k: int) -> None:
        view = views[k]
        sm4_kernels.subtract_stripes(
            view.sci, *view.address, view.columns, _GAP, bias[k], levels[view.amp], stripe
        )

    with ThreadPoolExecutor(frame.threads) as pool:
        list(pool.map(finish, range(len(views))))
    _record(frame, levels, fixed, rows)


def _record(frame: Frame, levels: dict[str, float], fixed: int, rows: int) -> None:
    for amp, level in levels.items():
        frame.bias_levels[amp] = frame.bias_levels.get(amp, 0.0) + level
    for imset, chip in frame.parts:
        first, second = "CD" if chip.number == 2 else "AB"
        set_float(imset.sci_header, "MEANBLEV", (levels[first] + levels[second]) / 2)
    add_history(
        frame.image.primary,
        f"DESTRIPE: number of rows fixed per amp: {fixed}",
        f"DESTRIPE: number of rows skipped per amp: {rows - fixed}",
    )
