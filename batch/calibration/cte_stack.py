"""Compiled loops of the CTE correction: the readout of a column by intervals of traps.

A shift of a readout is computed by the interval-stack method (specification of the CTE correction,
section 10.3): rows outside, traps inside. At every row the traps that fill are, nearly always, exactly
0..c, so that the state of thousands of traps is a short list of intervals that were filled at the same
row. The list runs from high to low traps; ``base`` is its dead zone (traps that never filled, or whose
trail has ended), then come ``base + 1 .. last``. Per interval k:

================= =================================================================================
place[k, TOP]     its highest trap; the lowest is the top of the next interval + 1
place[k, SINCE]   the row at which it was filled
place[k, LOW]     index of the prefix table, less 2 row, for the traps below the interval
place[k, HIGH]    the same for the traps up to and with its highest one
real[k, FACTOR]   A: the charge in trap w is d_w A, with d_w its capacity over the number of shifts
real[k, LEVEL]    charge at which its lowest trap is reached, e-
================= =================================================================================

The prefix table holds, at 2 ((L + 1) w + m), the sums over the traps below w of what d_w' A releases at
m + 1 pixels behind the filling row, and after it the same with what is left then. Column m = L is zero, so
that an interval expires by arithmetic.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from batch.compile import inner

TOP, SINCE, LOW, HIGH = range(4)
FACTOR, LEVEL = range(2)
_ORIGIN = LOW  # of a run of traps: the interval that it is a part of, or -1 where the traps fill anew
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
def _put(stack: Any, k: int, top: int, since: int, factor: float, low: int, high: int, level: float) -> None:
    """Write interval k."""
    real, place = stack
    u = np.uint64(k)
    place[u, TOP] = top
    place[u, SINCE] = since
    place[u, LOW] = low
    place[u, HIGH] = high
    real[u, FACTOR] = factor
    real[u, LEVEL] = level


@inner
def _all_fill(
    x: float, row: int, density: float, base: int, last: int, j: int, c: int, tables: Any, stack: Any
) -> bool:
    """Trap c fills; do all lower ones? Followed trap by trap down to where it is certain."""
    levels, safe, _, total, prefix, lag, _ = tables
    real, place = stack
    width = 2 * (lag + 1)
    w = c
    while w >= 0 and x < safe[w]:
        if x < levels[w]:
            return False
        while j < last and place[j + 1, TOP] >= w:
            j += 1
        if j > base:
            at = place[j, HIGH] + 2 * row + 1 - (place[j, TOP] - w) * width
            x += real[j, FACTOR] * (prefix[at] - prefix[at - width])
        x -= density * (total[w + 1] - total[w])
        w -= 1
    return True


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
    real, place = stack
    run_real, run_place = runs
    width = 2 * (lag + 1)
    n_runs = 0
    k = j
    w = c
    while w >= 0:
        while k < last and place[k + 1, TOP] >= w:
            k += 1
        if x >= safe[w]:
            at = (w + 1) * width
            for i in range(max(k, base + 1), last + 1):
                age = 2 * (row - 1 - place[i, SINCE])
                if real[i, FACTOR] != 0.0 and age < 2 * lag:
                    upper = at + age if i == k else place[i, HIGH] + 2 * row
                    x += real[i, FACTOR] * (prefix[upper + 1] - prefix[place[i, LOW] + 2 * row + 1])
            x -= density * total[w + 1]
            if n_runs == 0 or run_place[n_runs - 1, _ORIGIN] >= 0:
                run_place[n_runs, TOP] = w
                run_place[n_runs, _ORIGIN] = -1
                n_runs += 1
            break
        released = 0.0
        left = 0.0
        age = row - 1 - place[k, SINCE]
        if k > base and real[k, FACTOR] != 0.0 and age < lag:
            below = w * width + 2 * age
            released = real[k, FACTOR] * (prefix[below + width] - prefix[below])
            left = real[k, FACTOR] * (prefix[below + width + 1] - prefix[below + 1]) - released
        origin = k
        if x >= levels[w]:
            x += (released + left) - density * (total[w + 1] - total[w])
            origin = -1
        else:
            x += released
        if n_runs == 0 or run_place[n_runs - 1, _ORIGIN] != origin:
            run_place[n_runs, TOP] = w
            run_place[n_runs, _ORIGIN] = origin
            n_runs += 1
        w -= 1
    # the runs' origins are read from the old list before it is overwritten
    for i in range(n_runs):
        origin = run_place[i, _ORIGIN]
        if origin < 0:
            run_place[i, SINCE], run_real[i, FACTOR] = row, density
        elif origin == base or real[origin, FACTOR] == 0.0:
            run_place[i, SINCE], run_real[i, FACTOR] = _NEVER, 0.0
        else:
            run_place[i, SINCE], run_real[i, FACTOR] = place[origin, SINCE], real[origin, FACTOR]
    new = j
    if c < place[j, TOP] or j == base:
        place[j, LOW] = place[j, HIGH] - (place[j, TOP] - c) * width
        real[j, LEVEL] = levels[c + 1] if c < place[base, TOP] else np.inf
        new = j + 1
    for i in range(base, new):
        _put(
            stack, i - base,
            place[i, TOP], place[i, SINCE], real[i, FACTOR], place[i, LOW], place[i, HIGH], real[i, LEVEL],
        )  # fmt: skip
    new -= base
    for i in range(n_runs):
        lowest = run_place[i + 1, TOP] + 1 if i + 1 < n_runs else 0
        highest, since = run_place[i, TOP], run_place[i, SINCE]
        start = -2 - 2 * max(since, 0)
        low, high = start + lowest * width, start + (highest + 1) * width
        _put(stack, new, highest, since, run_real[i, FACTOR], low, high, levels[lowest])
        new += 1
    return x, new - 1


@inner
def shift(charge: Floats, traps: Image, peak: float, tables: Any, stack: Any, runs: Any) -> float:
    """Section 10.3: one shift of one column, in place.

    `peak` is the largest charge of the column before the shift; returns the one after it.
    """
    levels, safe, count, total, prefix, lag, _ = tables
    real, place = stack
    width = 2 * (lag + 1)
    u = np.uint64
    limit = _reached(max(10.0, peak), count) - 1
    if limit < 0:
        limit = levels.size - 2
    base: Any = np.int64(0)  # typed, so that what is called with them is compiled once
    last: Any = np.int64(0)
    mixed = False
    _put(stack, 0, limit, _NEVER, 0.0, 0, (limit + 1) * width, levels[0])
    before = np.float64(traps[0])
    peak = -np.inf
    for row in range(charge.size):
        x = charge[row]
        density = np.float64(traps[row])
        row2 = 2 * row
        if density < before:
            ratio = density / before
            for k in range(base + 1, last + 1):
                real[k, FACTOR] *= ratio
        before = density
        while last > base and row - place[base + 1, SINCE] > lag:
            base += 1
            place[base, TOP], real[base, FACTOR] = limit, 0.0
            place[base, HIGH] = (limit + 1) * width
        if mixed:
            for k in range(base + 1, last + 1):
                if row - place[k, SINCE] > lag:
                    real[k, FACTOR] = 0.0

        j = base
        c = -1
        if real[u(base), LEVEL] <= x:
            c = min(_reached(x, count) - 1, limit)
        else:
            j = base + 1
            while j <= last:
                a = real[u(j), FACTOR]
                upper = prefix[u(place[u(j), HIGH] + row2)]
                below = place[u(j), LOW] + row2
                after = x + a * (upper - prefix[u(below)])
                lowest = real[u(j), LEVEL]
                if lowest <= after and lowest <= x + a * (upper - prefix[u(below + width)]):
                    h = place[u(j), TOP]
                    b = min(h, _reached(after, count) - 1)
                    bottom = place[u(j + 1), TOP] + 1 if j < last else 0
                    c = max(bottom, min(b, _reached(x, count) - 1))
                    end = place[u(j), HIGH] + row2 - h * width
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
            if x >= safe[u(c)] or _all_fill(x, row, density, base, last, j, c, tables, stack):
                at = (c + 1) * width
                gain = 0.0
                if j > base:
                    at = place[u(j), HIGH] - (place[u(j), TOP] - c) * width
                    gain = real[u(j), FACTOR] * (
                        prefix[u(at + row2 + 1)] - prefix[u(place[u(j), LOW] + row2 + 1)]
                    )
                for k in range(j + 1, last + 1):
                    gain += real[u(k), FACTOR] * (
                        prefix[u(place[u(k), HIGH] + row2 + 1)] - prefix[u(place[u(k), LOW] + row2 + 1)]
                    )
                x += gain - density * total[u(c + 1)]
                if c < place[u(j), TOP]:
                    place[u(j), LOW] = at
                    real[u(j), LEVEL] = levels[u(c + 1)]
                    j += 1
                elif j == base:
                    real[u(j), LEVEL] = np.inf
                    j += 1
                last = j
                _put(stack, j, c, row, density, -2 - row2, (c + 1) * width - 2 - row2, levels[0])
                mixed = mixed and last > base + 1
            else:
                x, last = _walk(x, row, density, base, last, j, c, tables, stack, runs)
                base = 0
                mixed = True
        charge[row] = x
        peak = max(peak, x)
    return peak


@inner
def scratch(n_rows: int, n_traps: int) -> Any:
    """Room for the list of one column (it grows by one a row at most, but for walks) and for a walk."""
    size = n_rows + n_traps + 8
    stack = (np.empty((size, 2), np.float64), np.empty((size, 4), np.int64))
    runs = (np.empty((n_traps, 2), np.float64), np.empty((n_traps, 4), np.int64))
    return stack, runs
