"""Trap sets and columns for the tests of the CTE correction, drawn from a seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from batch.calibration.cte_table import CteTable, TrapSet


def trap_set(
    seed: int,
    *,
    n_traps: int = 20,
    trail: int = 8,
    shifts: int = 3,
    iterations: int = 3,
    top: float = 300.0,
    density: float = 1.0,
    contained: bool = True,
    negative: bool = False,
) -> TrapSet:
    """Random traps: low levels repeat, capacities and trails differ from trap to trap.

    `density`: relative density of traps; on a few dozen rows or columns only 1 is next to nothing.
    `contained`: what is trapped is what is released within the trail. `negative`: break the rules of the
    fast method.
    """
    g = np.random.default_rng(seed)
    levels = np.sort(np.rint(top * g.random(n_traps) ** 3).astype(np.int64))
    release = g.random((n_traps, 100)) * np.exp(-np.arange(100) / g.uniform(1, 20))
    release[:, trail:] = 0
    release /= release.sum(axis=1, keepdims=True)
    remaining = 1 - np.cumsum(release, axis=1) if contained else 2 * g.random((n_traps, 100))
    if negative:
        release[n_traps // 2] *= -1
    return TrapSet(
        date0=50000.0,
        date1=60000.0,
        trail=trail,
        iterations=iterations,
        shifts=shifts,
        levels=levels,
        capacities=g.uniform(0.2, 2.0, n_traps),
        release=release.astype(np.float32),
        remaining=np.maximum(remaining, 0).astype(np.float32),
        densities=np.full((8192, 4), density),
    )


def table(parallel: TrapSet, serial: TrapSet | None = None, *, fix_rocr: bool = True) -> CteTable:
    """A PCTETAB that was never on disk."""
    return CteTable(
        path=Path("made.fits"),
        name="Par/Serial PixelCTE 2023",
        version="3.0",
        pedigree="",
        description="",
        noise_model=0,
        threshold=-10.0,
        fix_rocr=fix_rocr,
        parallel=parallel,
        serial={} if serial is None else dict.fromkeys("ABCD", serial),
    )


def columns(seed: int, n_columns: int, n_rows: int, kind: str) -> NDArray[np.float32]:
    """Real-valued columns: ties between charge and level, which may go either way, do not occur.

    `kind`: ``sky``, ``sources``, ``huge`` packets, ``empty``, ``negative``, ``low`` charge.
    """
    g = np.random.default_rng(seed)
    x = g.normal(50, 7, (n_columns, n_rows))
    if kind == "sources":
        x += np.where(g.random(x.shape) < 0.1, g.exponential(300, x.shape), 0)
    elif kind == "huge":
        x += np.where(g.random(x.shape) < 0.1, 10 ** g.uniform(3, 5.5, x.shape), 0)
    elif kind == "empty":
        x = np.where(g.random(x.shape) < 0.05, g.exponential(100, x.shape), g.normal(0, 0.01, x.shape))
    elif kind == "negative":
        x -= 50
    elif kind == "low":
        x = g.exponential(3, x.shape)
    return x.astype(np.float32)


def densities(seed: int, n_columns: int, n_rows: int, kind: str) -> NDArray[np.float32]:
    """Trap maps: ``rising`` as on the chip, with ``steps`` down, ``random``, or ``none``."""
    g = np.random.default_rng(seed)
    t = np.tile((np.arange(n_rows) + 1) / n_rows, (n_columns, 1))
    if kind == "steps":
        t *= np.cumprod(np.where(g.random(t.shape) < 0.1, 0.75, 1), axis=1)
    elif kind == "random":
        t = 2 * g.random(t.shape)
    elif kind == "none":
        t = 0 * t
    return t.astype(np.float32)
