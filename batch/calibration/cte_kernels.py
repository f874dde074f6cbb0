"""Compiled loops of the CTE correction: the readout of columns and its inversion.

Source: specification of the CTE correction, sections 7 and 8.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from batch.calibration import cte_stack
from batch.calibration.cte_stack import Floats, Image, scratch, shift
from batch.compile import inner, kernel

_TABLES = "Tuple((float64[::1], float64[::1], int32[::1], float64[::1], float64[::1], int64, int64))"
_SINGLE = "Tuple((float64[::1], float32[:, ::1], float32[:, ::1]))"


@inner
def _shift_literally(charge: Floats, traps: Image, peak: float, tables: Any, single: Any) -> float:
    """Section 7 as it is written: traps outside, rows inside; for tables that break the rules of 10.3."""
    levels, _, _, _, _, lag, _ = tables
    share, release, remaining = single
    reach = max(10.0, peak)
    limit = -1
    for w in range(levels.size - 1):
        if levels[w] <= reach:
            limit = w
    if limit < 0:
        limit = levels.size - 2
    for w in range(limit, -1, -1):
        level = levels[w]
        age = lag
        held = 0.0
        for row in range(charge.size):
            x = charge[row]
            inside = age < lag
            if not inside and x < level:
                continue  # an empty trap that is not reached: nothing happens
            density = np.float64(traps[row])
            before = np.float64(traps[max(row - 1, 0)])
            if density < before:
                held *= density / before
            released = 0.0
            left = 0.0
            caught = 0.0
            if inside:
                released = release[w, age] * held
                age += 1
            if x >= level:
                if inside:
                    left = remaining[w, age - 1] * held
                held = share[w] * density
                caught = held
                age = 0
            charge[row] = x + ((released + left) - caught)
    peak = -np.inf
    for row in range(charge.size):
        peak = max(peak, charge[row])
    return peak


@inner
def _reduce_overcorrected(model: Floats, seen: Floats, traps: Image, threshold: float) -> bool:
    """Section 8, over-subtraction test: weaken the traps before a readout cosmic ray; was there one?"""
    found = False
    for r in range(10, model.size - 2):
        y = model[r] - seen[r]
        m2 = model[r] + model[r + 1]
        s2 = seen[r] + seen[r + 1]
        m3 = m2 + model[r + 2]
        s3 = s2 + seen[r + 2]
        if (
            (model[r] < threshold and y < threshold)
            or (m2 < -12.0 and m2 - s2 < -12.0)
            or (m3 < -15.0 and m3 - s3 < -15.0)
        ):
            found = True
            start = r
            largest = y
            for k in range(r - 10, r):
                if model[k] - seen[k] > largest:
                    largest = model[k] - seen[k]
                    start = k
            for k in range(start, r + 1):
                traps[k] = np.float32(0.75 * np.float64(traps[k]))
    return found


@kernel(
    "void(float32[:, ::1], float32[:, ::1], float32[:, ::1], int64, int64, boolean, "
    f"int64, float64, float64, boolean, {_TABLES}, {_SINGLE}, boolean)",
    uses=(cte_stack,),
)
def _treat(
    columns: Image,
    traps: Image,
    result: Image,
    first: int,
    stop: int,
    forward: bool,
    iterations: int,
    noise: float,
    threshold: float,
    fix_rocr: bool,
    tables: Any,
    single: Any,
    literal: bool,
) -> None:
    """`read_out` and `invert` in one, because compiling the readout is what takes long."""
    n = columns.shape[1]
    stack, runs = scratch(n, tables[0].size)
    seen = np.empty(n, np.float64)
    model = np.empty(n, np.float64)
    charge = np.empty(n, np.float64)
    variance = noise * noise
    shifts = tables[6]
    # loops over rows, not slices: assigning a slice makes Numba compile its error messages, for seconds
    for column in range(first, stop):
        for r in range(n):
            seen[r] = columns[column, r]
        for _ in range(5):
            for r in range(n):
                model[r] = seen[r]
            for iteration in range(max(iterations, 1)):
                peak = -np.inf
                for r in range(n):
                    charge[r] = model[r]
                    peak = max(peak, charge[r])
                for _ in range(shifts):
                    if literal:
                        peak = _shift_literally(charge, traps[column], peak, tables, single)
                    else:
                        peak = shift(charge, traps[column], peak, tables, stack, runs)
                if iteration < iterations - 1:
                    for r in range(n):
                        d = charge[r] - seen[r]
                        d2 = d * d
                        model[r] -= d * (d2 / (d2 + variance))
                else:
                    for r in range(n):
                        model[r] -= charge[r] - seen[r]
            if not fix_rocr or not _reduce_overcorrected(model, seen, traps[column], threshold):
                break
        for r in range(n):
            result[column, r] = charge[r] if forward else model[r]


def read_out(
    columns: Image, traps: Image, first: int, stop: int, tables: Any, single: Any, literal: bool
) -> None:
    """Section 7: read out the columns first..stop-1 in place.

    Parameters
    ----------
    columns, traps : ndarray of float32, shape (n_columns, n_rows)
        Charge (e-) and trap map in the model frame.
    tables, single, literal
        From `batch.calibration.cte_pass.Tables`.
    """
    _treat(columns, traps, columns, first, stop, True, 0, 0.0, 0.0, False, tables, single, literal)


def invert(
    columns: Image,
    traps: Image,
    result: Image,
    first: int,
    stop: int,
    iterations: int,
    noise: float,
    threshold: float,
    fix_rocr: bool,
    tables: Any,
    single: Any,
    literal: bool,
) -> None:
    """Section 8: find what was in the columns first..stop-1 before they were read out.

    Parameters
    ----------
    columns, traps, result : ndarray of float32, shape (n_columns, n_rows)
        Smoothed charge (e-), trap map (reduced in place before readout cosmic rays), charge before readout.
    iterations : int
        PCTENFOR.
    noise, threshold : float
        Read noise and PCTETRSH, e-.
    fix_rocr : bool
        Look for readout cosmic rays.
    tables, single, literal
        From `batch.calibration.cte_pass.Tables`.
    """
    _treat(
        columns, traps, result, first, stop, False,
        iterations, noise, threshold, fix_rocr, tables, single, literal,
    )  # fmt: skip
