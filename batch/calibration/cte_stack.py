"""Compiled loops of the CTE correction: the readout of a column by intervals of traps.

A shift of a readout is computed by the interval-stack method (specification of the CTE correction,
section 10.3): rows outside, traps inside. At every row the traps that fill are, nearly always, exactly
0..c, so that the state of thousands of traps is a short list of intervals that were filled at the same
row. The list runs from high to low traps; ``base`` is its dead zone (traps that never filled, or whose
trail has ended), then come ``base + 1 .. last``. Per interval:

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

from batch.calibration.compile import inner

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
def _all_fill(
    x: float, row: int, density: float, base: int, last: int, j: int, c: int, tables: Any, stack: Any
) -> bool:
    """Trap c fills; do all lower ones? Followed trap by trap down to where it is certain."""
    levels, safe, _, total, prefix, lag, _ = tables
    top, _, factor, _, high, _ = stack
    width = 2 * (lag + 1)
    w = c
    while w >= 0 and x < safe[w]:
        if x < levels[w]:
            return False
        while j < last and top[j + 1] >= w:
            j += 1
        if j > base:
            at = high[j] + 2 * row + 1 - (top[j] - w) * width
            x += factor[j] * (prefix[at] - prefix[at - width])
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
    top, since, factor, low, high, level = stack
    run_top, run_origin, run_since, run_factor = runs
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
def shift(charge: Floats, traps: Image, peak: float, tables: Any, stack: Any, runs: Any) -> float:
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
            if x >= safe[u(c)] or _all_fill(x, row, density, base, last, j, c, tables, stack):
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
def scratch(n_rows: int, n_traps: int) -> Any:
    size = n_rows + n_traps + 8
    stack = (
        np.empty(size, np.int64),
        np.empty(size, np.int64),
        np.empty(size, np.float64),
        np.empty(size, np.int64),
        np.empty(size, np.int64),
        np.empty(size, np.float64),
    )
    runs = (
        np.empty(n_traps, np.int64),
        np.empty(n_traps, np.int64),
        np.empty(n_traps, np.int64),
        np.empty(n_traps, np.float64),
    )
    return stack, runs
