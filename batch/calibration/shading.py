"""Shutter shading: the binned reference image, expanded to the pixels of an exposure.

Source: calibration-steps specification, section 6.4.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from batch.calibration.alignment import align, imset_of, nearest
from batch.calibration.header import Chip
from batch.calibration.references import Reference
from batch.errors import InputError
from batch.storage.planes import Plane, as_number

F32 = npt.NDArray[np.float32]
I16 = npt.NDArray[np.int16]


def expand_shading(reference: Reference, chip: Chip, shape: tuple[int, int]) -> tuple[F32, F32, I16]:
    """SCI (s), ERR (s) and DQ of a SHADFILE on the grid of a science array of `shape` (ny, nx).

    Raises
    ------
    InputError
        If the file does not cover the array.
    """
    planes = imset_of(reference, chip)
    assert planes.err is not None
    assert planes.dq is not None
    rx, ry = planes.bins
    if (rx, ry) == (1, 1):
        section, rows = align(reference, chip, shape), slice(0, shape[0])
        sci, err = (section.read(p, np.float32, rows) for p in (planes.sci, planes.err))
        return sci, err, section.read(planes.dq, np.int16, rows)
    sci, err, dq = planes.sci.read(np.float32), planes.err.read(np.float32), planes.dq.read(np.int16)
    x0, y0 = (-nearest(v) - c for v, c in zip(chip.ltv, _binned_corner(planes.sci), strict=True))
    window = (slice(y0, y0 + shape[0]), slice(x0, x0 + shape[1]))
    covered = (dq.shape[0] // 2 * 2 * ry, dq.shape[1] * rx)
    if min(dq.shape) < 2 or x0 < 0 or y0 < 0 or window[0].stop > covered[0] or window[1].stop > covered[1]:
        raise InputError.about(planes.sci.where, "it does not cover the exposure", "take another SHADFILE")
    errors = np.sqrt(expand_bilinear(err * err, rx, ry)[window])
    return (
        np.ascontiguousarray(expand_bilinear(sci, rx, ry)[window]),
        np.ascontiguousarray(errors),
        np.ascontiguousarray(_spread_bits(dq, rx, ry)[window]),
    )


def _binned_corner(plane: Plane) -> tuple[int, int]:
    """(x, y) of the first unbinned pixel under a binned image: pixel coordinate 0.5 is LTM x + LTV."""
    x, y = (
        nearest(
            (0.5 - as_number(plane.header, v, plane.where, 0.0))
            / as_number(plane.header, m, plane.where, 1.0)
            - 0.5
        )
        for v, m in (("LTV1", "LTM1_1"), ("LTV2", "LTM2_2"))
    )
    return x, y


def expand_bilinear(image: F32, rx: int, ry: int) -> F32:
    """Expand by factors rx, ry; pairs of rows independently of each other, weights may extrapolate."""
    ny, nx = image.shape
    column, right = _weights(nx, rx)
    _, upper = _weights(2, ry)
    out = np.empty((ny // 2 * 2 * ry, nx * rx), dtype=np.float32)
    left, lower = np.float32(1) - right, np.float32(1) - upper
    for pair in range(ny // 2):
        low, high = image[2 * pair], image[2 * pair + 1]
        for n in range(2 * ry):
            p, q = lower[n], upper[n]
            value = (p * left) * low[column] + (p * right) * low[column + 1]
            value = value + (q * left) * high[column] + (q * right) * high[column + 1]
            out[pair * 2 * ry + n] = value
    return out


def _spread_bits(dq: I16, rx: int, ry: int) -> I16:
    ny, nx = dq.shape
    column, _ = _weights(nx, rx)
    both = dq[:, column] | dq[:, column + 1]
    pairs = both[0 : ny // 2 * 2 : 2] | both[1::2][: ny // 2]
    return np.repeat(pairs, 2 * ry, axis=0)


def _weights(points: int, factor: int) -> tuple[npt.NDArray[np.int64], F32]:
    """Lower neighbour of every expanded pixel, and the weight of the upper one."""
    index = np.arange(points * factor, dtype=np.float32)
    place = (index - np.float32((factor - 1) / 2)) / np.float32(factor)
    lower = np.clip(np.trunc(place).astype(np.int64), 0, points - 2)
    return lower, place - lower.astype(np.float32)
