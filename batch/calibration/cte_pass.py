"""One pass of the CTE correction: a whole amp in one direction of transfer, columns shared among threads."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batch.calibration.cte_kernels import invert, read_out
from batch.calibration.cte_smooth import Share, smooth
from batch.calibration.cte_table import CteTable, TrapSet

_COLUMNS_PER_TURN = 8  # small, because the cost of columns differs; it never changes a result

Floats = NDArray[np.float64]
Image = NDArray[np.float32]


@contextmanager
def shared_among(threads: int) -> Iterator[Share]:
    """A function that calls ``work(first, stop)`` for all columns, on so many threads, results in order.

    The kernels release the GIL; Numba's own threading layers do not bear a second Python thread.
    """
    if threads <= 1:
        yield lambda work, n, step: [work(i, min(i + step, n)) for i in range(0, n, step)]
        return
    with ThreadPoolExecutor(threads) as pool:
        yield lambda work, n, step: list(
            pool.map(work, range(0, n, step), [min(i + step, n) for i in range(0, n, step)])
        )


@dataclass(frozen=True, eq=False)
class Tables:
    """A set of traps as the kernels want it (specification of the CTE correction, section 10.3)."""

    tables: tuple[Floats, Floats, NDArray[np.int32], Floats, Floats, int, int]
    """levels q (with infinity at the end), safe levels S, counts N, sums D, prefix table, L, N_s."""
    single: tuple[Floats, Image, Image]
    """DPDE / N_s, RPROF, CPROF of every trap."""
    literal: bool
    """The rules of section 10.3 are broken; section 7 is to be followed trap by trap."""


def prepare(traps: TrapSet, densities: Image) -> Tables:
    """Build the tables for one pass.

    Parameters
    ----------
    traps : TrapSet
    densities : ndarray of float32, shape (n_columns, n_rows)
        The trap map of the pass.
    """
    lag, n = traps.trail, traps.levels.size
    share = traps.capacities / traps.shifts
    release, remaining = traps.release[:, :lag], traps.remaining[:, :lag]
    numbers: list[NDArray[Any]] = [traps.levels[:1], share, release, remaining, densities]
    literal = any(float(a.min()) < 0.0 for a in numbers)

    prefix = np.zeros((n + 1, lag + 1, 2))
    np.cumsum(share[:, None] * release, axis=0, out=prefix[1:, :lag, 0])
    np.cumsum(share[:, None] * (release.astype(np.float64) + remaining), axis=0, out=prefix[1:, :lag, 1])
    # the last interval may be read up to a column's length behind the end once it has expired
    flat = np.concatenate([prefix.ravel(), np.zeros(2 * densities.shape[1] + 2)])

    levels = traps.levels.astype(np.float64)
    safe = levels.copy()
    step = float(densities.max(initial=0.0)) * share
    for w in range(1, n):
        safe[w] = max(safe[w], safe[w - 1] + step[w])
    charges = np.arange(max(int(traps.levels[-1]), 0) + 1)
    counts = np.searchsorted(traps.levels, charges, side="right").astype(np.int32)
    total = np.concatenate([[0.0], np.cumsum(share)])
    tables = (np.append(levels, np.inf), safe, counts, total, flat, lag, traps.shifts)
    return Tables(tables, (share, traps.release, traps.remaining), literal)


def trap_map(traps: TrapSet, growth: float, offset: int, n_columns: int, n_rows: int) -> Image:
    """Relative trap density of every pixel (section 6), float32, shape (n_columns, n_rows).

    Parameters
    ----------
    traps : TrapSet
    growth : float
        PCTEFRAC at the date of the exposure.
    offset : int
        Where the amp begins among the 8192 columns C, D, A, B.
    """
    u = np.minimum(np.arange(n_rows) / 512, 2.999)
    node = u.astype(np.int64)
    transfers = (np.arange(n_rows) + 1) / 2048
    result = np.empty((n_columns, n_rows), np.float32)
    for first in range(0, n_columns, 64):  # by pieces, which keeps the float64 temporaries small
        nodes = traps.densities[offset + first : offset + min(first + 64, n_columns)]
        lower = nodes[:, node]
        z = lower + (nodes[:, node + 1] - lower) * (u - node)
        result[first : first + 64] = z * transfers * growth
    return result


def correct_pass(
    seen: Image, traps: TrapSet, table: CteTable, densities: Image, noise: float, share: Share
) -> Image:
    """Sections 4.2 to 4.5: what the pass adds to an amp.

    Parameters
    ----------
    seen : ndarray of float32, shape (n_columns, n_rows)
        The amp in the model frame, e-. Not changed.
    densities : ndarray of float32
        Its trap map; reduced in place before readout cosmic rays.
    noise : float
        Read noise, e-.

    Returns
    -------
    ndarray of float32, shape (n_columns, n_rows)
        e-.
    """
    ready = prepare(traps, densities)
    smoothed = smooth(seen, noise, share)
    result = np.empty_like(smoothed)

    def work(first: int, stop: int) -> None:
        invert(
            smoothed, densities, result, first, stop,
            traps.iterations, noise, table.threshold, table.fix_rocr,
            ready.tables, ready.single, ready.literal,
        )  # fmt: skip

    share(work, len(seen), _COLUMNS_PER_TURN)
    result -= smoothed
    return result


def forward_pass(scene: Image, traps: TrapSet, densities: Image, share: Share) -> Image:
    """Section 4, forward model: what the readout adds to an amp; arguments as for `correct_pass`."""
    ready = prepare(traps, densities)
    result = scene.copy()

    def work(first: int, stop: int) -> None:
        read_out(result, densities, first, stop, ready.tables, ready.single, ready.literal)

    share(work, len(scene), _COLUMNS_PER_TURN)
    result -= scene
    return result
