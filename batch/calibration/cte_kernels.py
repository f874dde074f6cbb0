"""Compiled loops of the CTE correction: the readout of columns and its inversion.

A readout is computed by the interval-stack method (specification of the CTE correction, section 10.3):
rows outside, traps inside. At every row the traps that fill are, nearly always, exactly 0..c, so that the
state of thousands of traps is a short list of intervals that were filled at the same row. The list runs
from high to low traps; ``base`` is its dead zone (traps that never filled, or whose trail has ended), then
come ``base + 1 .. last``. Per interval:

========= =======================================================================================
top       its highest trap; the lowest is the top of the next interval + 1
since     the row at which it was filled
factor    A: charge of trap w is d_w A, with d_w its capacity over the number of shifts
low       index of the prefix table, less 2 row, for the traps below the interval
high      the same for the traps up to and with its highest one
level     charge at which its lowest trap is reached
========= =======================================================================================

The prefix table holds, at 2 ((L + 1) w + m), the sums over the traps below w of what d_w' A releases at
m + 1 pixels behind the filling row, and after it the same with what is left then. Column m = L is zero, so
that an interval expires by arithmetic.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from batch.calibration.compile import inner, kernel

_TABLES = "Tuple((float64[::1], float64[::1], int32[::1], float64[::1], float64[::1], int64, int64))"
_NEVER = -(1 << 40)  # a row that is always further back than any trail

Floats = NDArray[np.float64]
Image = NDArray[np.float32]


@inner
def _reached(charge: float, count: NDArray[np.int32]) -> int:
    """N(x): the number of traps whose level is <= charge."""
    if charge < 0.0:
        return 0
    if charge >= count.size - 1:
        return int(count[count.size - 1])
    return int(count[np.uint64(charge)])


@inner
def _walk(
    x: float,
    row: int,
    density: float,
    base: int,
    last: int,
    j: int,
    c: int,
    tables: Any,
    stack: Any,
    runs: Any,
) -> tuple[float, int]:
    """Section 10.3, step 6: trap c fills, lower ones may or may not; go through them one by one.

    Returns the charge that is left and the new last interval; the list then begins at 0.
    """
    levels, safe, _, total, prefix, lag, _ = tables
    top, since, factor, low, high, level = stack
    run_top, run_origin = runs
    width = 2 * (lag + 1)
    n_runs = 0
    k = j
    w = c
    while w >= 0:
        while k < last and top[k + 1] >= w:
            k += 1
        if x >= safe[w]:
            at = (w + 1) * width
            for i in range(max(k, base + 1), last + 1):
                age = 2 * (row - 1 - since[i])
                if factor[i] != 0.0 and age < 2 * lag:
                    upper = at + age if i == k else high[i] + 2 * row
                    x += factor[i] * (prefix[upper + 1] - prefix[low[i] + 2 * row + 1])
            x -= density * total[w + 1]
            if n_runs == 0 or run_origin[n_runs - 1] >= 0:
                run_top[n_runs] = w
                run_origin[n_runs] = -1
                n_runs += 1
            break
        released = 0.0
        left = 0.0
        age = row - 1 - since[k]
        if k > base and factor[k] != 0.0 and age < lag:
            below = w * width + 2 * age
            released = factor[k] * (prefix[below + width] - prefix[below])
            left = factor[k] * (prefix[below + width + 1] - prefix[below + 1]) - released
        origin = k
        if x >= levels[w]:
            x += (released + left) - density * (total[w + 1] - total[w])
            origin = -1
        else:
            x += released
        if n_runs == 0 or run_origin[n_runs - 1] != origin:
            run_top[n_runs] = w
            run_origin[n_runs] = origin
            n_runs += 1
        w -= 1
    # the runs' origins are read from the old list before it is overwritten
    run_since = np.empty(n_runs, np.int64)
    run_factor = np.empty(n_runs, np.float64)
    for i in range(n_runs):
        origin = run_origin[i]
        if origin < 0:
            run_since[i], run_factor[i] = row, density
        elif origin == base or factor[origin] == 0.0:
            run_since[i], run_factor[i] = _NEVER, 0.0
        else:
            run_since[i], run_factor[i] = since[origin], factor[origin]
    new = j
    if c < top[j] or j == base:
        low[j] = high[j] - (top[j] - c) * width
        level[j] = levels[c + 1] if c < top[base] else np.inf
        new = j + 1
    for i in range(new):
        if i + base < new:
            top[i], since[i], factor[i] = top[i + base], since[i + base], factor[i + base]
            low[i], high[i], level[i] = low[i + base], high[i + base], level[i + base]
    new -= base
    for i in range(n_runs):
        lowest = run_top[i + 1] + 1 if i + 1 < n_runs else 0
        start = run_since[i] if run_since[i] >= 0 else 0
        top[new], since[new], factor[new] = run_top[i], run_since[i], run_factor[i]
        low[new] = lowest * width - 2 - 2 * start
        high[new] = (run_top[i] + 1) * width - 2 - 2 * start
        level[new] = levels[lowest]
        new += 1
    return x, new - 1


@inner
def _shift(charge: Floats, traps: Image, peak: float, tables: Any, stack: Any, runs: Any) -> float:
    """Section 10.3: one shift of one column, in place.

    `peak` is the largest charge of the column before the shift; returns the one after it.
    """
    levels, safe, count, total, prefix, lag, _ = tables
    top, since, factor, low, high, level = stack
    width = 2 * (lag + 1)
    u = np.uint64
    limit = _reached(max(10.0, peak), count) - 1
    if limit < 0:
        limit = levels.size - 2
    base = 0
    last = 0
    mixed = False
    top[0], since[0], factor[0] = limit, _NEVER, 0.0
    low[0], high[0], level[0] = 0, (limit + 1) * width, levels[0]
    before = np.float64(traps[0])
    peak = -np.inf
    for row in range(charge.size):
        x = charge[row]
        density = np.float64(traps[row])
        row2 = 2 * row
        if density < before:
            ratio = density / before
            for k in range(base + 1, last + 1):
                factor[k] *= ratio
        before = density
        while last > base and row - since[base + 1] > lag:
            base += 1
            top[base], factor[base] = limit, 0.0
            high[base] = (limit + 1) * width
        if mixed:
            for k in range(base + 1, last + 1):
                if row - since[k] > lag:
                    factor[k] = 0.0

        j = base
        c = -1
        if level[u(base)] <= x:
            c = min(_reached(x, count) - 1, limit)
        else:
            j = base + 1
            while j <= last:
                a = factor[u(j)]
                upper = prefix[u(high[u(j)] + row2)]
                below = low[u(j)] + row2
                after = x + a * (upper - prefix[u(below)])
                lowest = level[u(j)]
                if lowest <= after and lowest <= x + a * (upper - prefix[u(below + width)]):
                    h = top[u(j)]
                    b = min(h, _reached(after, count) - 1)
                    bottom = top[u(j + 1)] + 1 if j < last else 0
                    c = max(bottom, min(b, _reached(x, count) - 1))
                    end = high[u(j)] + row2 - h * width
                    while c < b:
                        w = (c + b + 1) >> 1
                        if levels[u(w)] <= x + a * (upper - prefix[u(end + w * width)]):
                            c = w
                        else:
                            b = w - 1
                    x += a * (upper - prefix[u(end + c * width)])
                    break
                x = after
                j += 1

        if c >= 0:
            if x >= safe[u(c)]:
                at = (c + 1) * width
                gain = 0.0
                if j > base:
                    at = high[u(j)] - (top[u(j)] - c) * width
                    gain = factor[u(j)] * (prefix[u(at + row2 + 1)] - prefix[u(low[u(j)] + row2 + 1)])
                for k in range(j + 1, last + 1):
                    gain += factor[u(k)] * (
                        prefix[u(high[u(k)] + row2 + 1)] - prefix[u(low[u(k)] + row2 + 1)]
                    )
                x += gain - density * total[u(c + 1)]
                if c < top[u(j)]:
                    low[u(j)] = at
                    level[u(j)] = levels[u(c + 1)]
                    j += 1
                elif j == base:
                    level[u(j)] = np.inf
                    j += 1
                last = j
                top[u(j)] = c
                since[u(j)] = row
                factor[u(j)] = density
                low[u(j)] = -2 - row2
                high[u(j)] = (c + 1) * width - 2 - row2
                level[u(j)] = levels[0]
                mixed = mixed and last > base + 1
            else:
                x, last = _walk(x, row, density, base, last, j, c, tables, stack, runs)
                base = 0
                mixed = True
        charge[row] = x
        peak = max(peak, x)
    return peak


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


_SINGLE = "Tuple((float64[::1], float32[:, ::1], float32[:, ::1]))"


@inner
def _readout(
    charge: Floats, traps: Image, tables: Any, single: Any, literal: bool, stack: Any, runs: Any
) -> None:
    """Section 7: all shifts of one column, in place."""
    peak = -np.inf
    for row in range(charge.size):
        peak = max(peak, charge[row])
    for _ in range(tables[6]):
        if literal:
            peak = _shift_literally(charge, traps, peak, tables, single)
        else:
            peak = _shift(charge, traps, peak, tables, stack, runs)


@inner
def _scratch(n_rows: int, n_traps: int) -> Any:
    size = n_rows + n_traps + 8
    stack = (
        np.empty(size, np.int64),
        np.empty(size, np.int64),
        np.empty(size, np.float64),
        np.empty(size, np.int64),
        np.empty(size, np.int64),
        np.empty(size, np.float64),
    )
    runs = (np.empty(n_traps + 1, np.int64), np.empty(n_traps + 1, np.int64))
    return stack, runs


@kernel(f"void(float32[:, ::1], float32[:, ::1], int64, int64, {_TABLES}, {_SINGLE}, boolean)")
def read_out(
    columns: Image,
    traps: Image,
    first: int,
    stop: int,
    tables: Any,
    single: Any,
    literal: bool,
) -> None:
    """Section 7: read out the columns first..stop-1 in place.

    Parameters
    ----------
    columns, traps : ndarray of float32, shape (n_columns, n_rows)
        Charge (e-) and trap map in the model frame.
    tables, single, literal
        From `batch.calibration.cte_pass.Tables`.
    """
    stack, runs = _scratch(columns.shape[1], tables[0].size)
    charge = np.empty(columns.shape[1], np.float64)
    for column in range(first, stop):
        charge[:] = columns[column]
        _readout(charge, traps[column], tables, single, literal, stack, runs)
        columns[column] = charge


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
    "void(float32[:, ::1], float32[:, ::1], float32[:, ::1], int64, int64, int64, float64, float64, boolean, "
    f"{_TABLES}, {_SINGLE}, boolean)"
)
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
    n = columns.shape[1]
    stack, runs = _scratch(n, tables[0].size)
    seen = np.empty(n, np.float64)
    model = np.empty(n, np.float64)
    charge = np.empty(n, np.float64)
    variance = noise * noise
    for column in range(first, stop):
        seen[:] = columns[column]
        for _ in range(5):
            model[:] = seen
            for iteration in range(max(iterations, 1)):
                charge[:] = model
                _readout(charge, traps[column], tables, single, literal, stack, runs)
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
        result[column] = model
