"""The classic bias level: a straight line through the overscan of each row.

Source: calibration-steps specification, section 4.7.1, whose letters the functions name. Sums run in
order, for the last digit of the result depends on it.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from batch.calibration import kernels
from batch.calibration.frame import Frame
from batch.calibration.header import AMPS, Chip, set_float
from batch.calibration.oscntab import Overscan
from batch.storage.fits import Imset


def fit_overscan(frame: Frame) -> tuple[bool, bool]:
    """Subtract from each amp's part of every imset the level of its overscan.

    Levels go into `Frame.bias_levels` and MEANBLEV.

    Returns
    -------
    from_overscan, drift : bool
        Whether the overscan gave the level (else CCDTAB did), and whether a drift along rows was removed.
    """
    from_overscan, drift = False, False
    for index, (imset, chip) in enumerate(frame.parts):
        part, ccd = frame.overscan[index], frame.ccd[index]
        default_amp = _default_amp(frame, chip)
        default = np.float32(ccd.bias[default_amp] * ccd.gain[default_amp])
        if not part.found:
            imset.sci -= default
            frame.bias_levels[AMPS[default_amp]] = float(default)
            continue
        amps = _amps_of(frame, chip)
        levels = []
        for amp in amps:
            level, drifts = _fit_amp(frame, index, amp, amps, float(default))
            frame.bias_levels[amp] = level
            levels.append(level)
            drift = drift or drifts
        from_overscan = True
        if levels:
            set_float(imset.sci_header, "MEANBLEV", _sum(np.array(levels)) / len(levels))
    return from_overscan, drift


def _default_amp(frame: Frame, chip: Chip) -> int:
    amps = frame.setup.amps
    first = AMPS.index(amps[0])
    return first + 2 if len(amps) > 1 and frame.setup.detector == "WFC" and chip.number == 2 else first


def _amps_of(frame: Frame, chip: Chip) -> str:
    setup = frame.setup
    if setup.detector == "HRC":
        return setup.amps
    return "".join(a for a in ("CD" if chip.number == 2 else "AB") if a in setup.amps)


def _fit_amp(frame: Frame, index: int, amp: str, amps: str, default: float) -> tuple[float, bool]:
    """Fit and subtract one amp's level; returns its mean and whether a drift was removed."""
    imset, chip = frame.image.imsets[index], frame.chips[index]
    part, ccd = frame.overscan[index], frame.ccd[index]
    ny, nx = imset.sci.shape
    offset = AMPS.index(amp) - AMPS.index(amps[0])
    ix, iy = offset % 2, offset // 2
    sections = _sections(part, ix, len(amps) == 1, nx)
    x0 = part.trim_x1 + ccd.amp_x * ix
    x1 = min(nx, ccd.amp_x + part.trim_x1 if ix == 0 and ccd.amp_x != 0 else nx - part.trim_x2)
    y0 = part.trim_y1 + ccd.amp_y * iy
    y1 = min(ny, ccd.amp_y + part.trim_y1 if iy == 0 and ccd.amp_y != 0 else ny - part.trim_y2)
    width, height = max(x1 - x0, 0), max(y1 - y0, 0)

    good = (imset.dq & np.int16(chip.good_bits)) == 0
    slope_x, drifts = _drift(imset, good, part)
    origin = (sections[0][0] + sections[0][1]) / 2.0
    rows = slice(part.trim_y1, min(part.trim_y1 + height, ny))
    columns = _columns(sections)
    values, found = masked_medians(imset.sci[rows][:, columns], good[rows][:, columns])
    keep = clip_levels(values, found, float(ccd.noise[AMPS.index(amp)]))
    slope, level = fit_line(values, keep, height // 2, default)

    kernels.subtract_level(imset.sci, y0, y1, x0, x1, height // 2, slope, level, slope_x, origin)
    lines = np.array([(y - height // 2) * slope + level for y in range(y0, y1)], dtype=np.float64)
    average = (width / 2 - origin) * slope_x
    return (_sum(lines + average) / len(lines) if len(lines) else 0.0), drifts


def _sections(part: Overscan, ix: int, alone: bool, nx: int) -> list[tuple[int, int]]:
    """Primary and, for the only amp of a chip, secondary overscan section (4.7.1 a); ends are inclusive."""
    a, b = part.section_a, part.section_b
    if a[1] > 0 and b[1] > 0:
        first, second = (a, b) if ix == 0 else (b, a)
        chosen = [first, second] if alone else [first]
    else:
        chosen = [b if a[1] == 0 else a]
    return [(max(start, 0), min(end, nx - 1)) for start, end in chosen]


def _columns(sections: list[tuple[int, int]]) -> npt.NDArray[np.int64]:
    primary = sections[0]
    used = [primary] if primary[1] != 0 else []
    used += [section for section in sections[1:] if section[0] != 0]
    return np.concatenate([np.arange(0)] + [np.arange(start, end + 1) for start, end in used])


def _drift(imset: Imset, good: npt.NDArray[np.bool_], part: Overscan) -> tuple[float, bool]:
    """Slope of the virtual overscan along a row (4.7.1 c)."""
    (vx1, vx2), (vy1, vy2) = part.virtual_x, part.virtual_y
    if (vy1 <= 0 and vy2 <= 0) or vx2 <= vx1 or vy2 <= vy1:
        return 0.0, False
    ny, nx = imset.sci.shape
    vx1, vx2, vy1, vy2 = max(vx1, 0), min(vx2, nx - 1), max(vy1, 0), min(vy2, ny - 1)
    area = (slice(vy1, vy2 + 1), slice(vx1, vx2 + 1))
    values, found = masked_medians(imset.sci[area].T, good[area].T)
    x = (np.arange(vx1, vx1 + len(values)) - (part.virtual_x[0] + part.virtual_x[1]) // 2)[found].astype(
        float
    )
    v = values[found]
    n = len(v)
    if n == 0:
        return 0.0, False
    sx, sv, sxv, sxx = _sum(x), _sum(v), _sum(x * v), _sum(x * x)
    denominator = sxx - sx * sx / n
    if denominator == 0:
        return 0.0, False
    return (sxv - (sx / n) * (sv / n) * n) / denominator, True


def masked_medians(
    values: npt.NDArray[np.float32], good: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Median of the good pixels of each row, float64, and whether there is one.

    The median of an even number is the mean of the middle two.
    """
    count = good.sum(axis=1)
    found = count > 0
    if values.shape[1] == 0:
        return np.zeros(len(values)), found
    ordered = np.sort(np.where(good, values, np.inf).astype(np.float64), axis=1)
    rows = np.arange(len(values))
    low, high = np.maximum(count - 1, 0) // 2, count // 2
    high = np.minimum(high, values.shape[1] - 1)
    with np.errstate(invalid="ignore"):
        medians = (ordered[rows, low] + ordered[rows, high]) / 2.0
    return np.where(found, medians, 0.0), found


def clip_levels(
    values: npt.NDArray[np.float64], found: npt.NDArray[np.bool_], noise: float
) -> npt.NDArray[np.bool_]:
    """Rows whose level is not too high (4.7.1 e); both limits are truncated to integers."""
    keep = found.copy()
    n = int(keep.sum())
    if n == 0:
        return keep
    mean = _sum(values[keep]) / n
    deviations = values[keep] - mean
    spread = math.sqrt(_sum(deviations * deviations) / (n - 1)) if n > 1 else 0.0
    if mean >= 0 and spread > math.sqrt(mean):
        spread = math.sqrt(mean)
    keep &= values <= abs(math.trunc(3 * spread + mean))
    n = int(keep.sum())
    if n:
        mean = _sum(values[keep]) / n
        keep &= values <= abs(math.trunc(float(np.float32(3) * np.float32(noise)) + mean))
    return keep


def fit_line(
    values: npt.NDArray[np.float64], keep: npt.NDArray[np.bool_], middle: int, default: float
) -> tuple[float, float]:
    """Slope and intercept of the level against row - middle (4.7.1 f); the default if there is no fit."""
    x = (np.flatnonzero(keep) - middle).astype(np.float64)
    v = values[keep]
    n = len(v)
    if n < 1:
        return 0.0, default
    sx, sv, sxv, sxx = _sum(x), _sum(v), _sum(x * v), _sum(x * x)
    denominator = sxx - sx * sx / n
    if abs(denominator) < 1.175e-38:
        return 0.0, default
    slope = (sxv - (sx / n) * (sv / n) * n) / denominator
    return slope, sv / n - slope * sx / n


def _sum(values: npt.NDArray[np.float64]) -> float:
    """Sum in order, as a loop would; NumPy's own sum is pairwise."""
    return float(np.add.accumulate(values)[-1]) if len(values) else 0.0
