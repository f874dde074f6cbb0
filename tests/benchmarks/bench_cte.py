"""CTE correction of a full frame: time, and the ratio to the direct form at equal work.

    python tests/benchmarks/bench_cte.py [--threads 2] [--sky 50] [--pctetab wfc_cte.fits[.gz]]

The direct form is section 7 of the specification as it stands, traps outside and rows inside; acscte spends
all but 2 % of its time there (about 1 ns a step, 1600 s of CPU for a full frame). It runs on a sample of the
same columns, and both are given as CPU time, which other programs on the machine disturb less than the wall
clock.
"""

from __future__ import annotations

import argparse
import gzip
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from batch.calibration.cte import CteTable, correct, forward, read_table
from batch.calibration.cte_amp import _model_frame
from batch.calibration.cte_kernels import read_out
from batch.calibration.cte_pass import prepare, trap_map

EXPSTART, NOISE = 59000.0, {"A": 4.35, "B": 3.75, "C": 4.05, "D": 5.05}
GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden" / "jref" / "wfc_cte.fits.gz"


def scene(amp: str, table: CteTable, sky: float, size: int = 2048) -> NDArray[np.float32]:
    """One amp: stars to 4e5 e-, 0.4 % hot pixels, trailed; 0.02 % untrailed spikes; noise."""
    g = np.random.default_rng(ord(amp))
    flux = 10 ** g.uniform(2, 5.6, 2500)
    image = np.full((size, size), sky)
    y, x = np.mgrid[-6:7, -6:7]
    for f, cy, cx in zip(flux, *g.uniform(6, size - 7, (2, flux.size)), strict=True):
        j, i = int(cy), int(cx)
        star = f / (2 * np.pi) * np.exp(-((x + i - cx) ** 2 + (y + j - cy) ** 2) / 2)
        image[j - 6 : j + 7, i - 6 : i + 7] += star
    image += np.where(g.random(image.shape) < 0.004, g.exponential(300, image.shape), 0)
    charge = g.poisson(np.minimum(image, 78000)).astype(np.float32)
    trailed = forward(charge, amp=amp, table=table, expstart=EXPSTART, threads=os.cpu_count() or 1)
    trailed += np.where(g.random(image.shape) < 0.0002, g.exponential(2000, image.shape), 0)
    return (trailed + g.normal(0, NOISE[amp], image.shape)).astype(np.float32)


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def direct(p: Any, T: Any, q: Any, dpde: Any, rp: Any, cp: Any, L: int, shifts: int) -> None:
    """Section 7 for one column."""
    u = np.uint64  # no test for negative indices in the loop, as in C
    for _ in range(shifts):
        p_max = max(10.0, p.max())
        w_max = q.size - 1
        while w_max > 0 and q[w_max] > p_max:
            w_max -= 1
        for w in range(w_max, -1, -1):
            k = L
            F = 0.0
            level = q[w]
            for r in range(p.size):
                x = p[u(r)]
                inside = k < L
                if r > 0 and T[u(r)] < T[u(r - 1)]:
                    F *= np.float64(T[u(r)]) / np.float64(T[u(r - 1)])
                a = 0.0
                e = 0.0
                g = 0.0
                if inside:
                    k += 1
                    a = rp[u(w), u(k - 1)] * F
                if x >= level:
                    if inside:
                        e = cp[u(w), u(k - 1)] * F
                    F = (dpde[w] / shifts) * np.float64(T[u(r)])
                    g = F
                    k = 0
                p[u(r)] = x + ((a + e) - g)


def ratio(image: NDArray[np.float32], table: CteTable, axis: str, sample: int) -> tuple[float, float, float]:
    """CPU seconds of one readout of some columns, direct and fast, and ns a step of the direct form."""
    traps = table.serial["C"] if axis == "serial" else table.parallel
    columns = np.ascontiguousarray(_model_frame(image, "C", axis)[:: len(image) // sample])
    densities = trap_map(traps, traps.growth(EXPSTART), 0, *columns.shape)
    ready = prepare(traps, densities)
    q, share = traps.levels.astype(np.float64), traps.capacities
    fast = columns.copy()
    repeats = 50
    start = time.thread_time()
    for _ in range(repeats):
        fast[:] = columns
        read_out(fast, densities, 0, len(fast), ready.tables, ready.single, False)
    fast_time = (time.thread_time() - start) / repeats
    slow = columns.astype(np.float64)
    direct(slow[0].copy(), densities[0], q[:2], share, traps.release, traps.remaining, traps.trail, 1)
    start = time.thread_time()
    for p, t in zip(slow, densities, strict=True):
        direct(p, t, q, share, traps.release, traps.remaining, traps.trail, traps.shifts)
    slow_time = time.thread_time() - start
    assert np.abs(fast - slow).max() < 1e-2
    steps = sum((q <= p.max()).sum() for p in columns) * columns.shape[1] * traps.shifts
    return slow_time, fast_time, slow_time / steps * 1e9


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pctetab", type=Path, default=GOLDEN)
    parser.add_argument("--sky", type=float, default=50.0, help="e-")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        for label in ("first import in an environment (compiles)", "later imports"):
            code = (
                "import numba, time; t = time.process_time(); import batch.calibration.cte; "
                "print(time.process_time() - t)"
            )
            env = {**os.environ, "NUMBA_CACHE_DIR": folder}
            out = subprocess.run(
                [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
            )
            print(f"{label}: {float(out.stdout):.1f} s CPU")
        path = options.pctetab
        if path.suffix == ".gz":
            path = Path(folder) / path.stem
            path.write_bytes(gzip.decompress(options.pctetab.read_bytes()))
        table = read_table(path)

    image = scene("C", table, options.sky)
    print(f"scene: median column maximum {np.median(image.max(axis=0)):.0f} e-")
    total = {"direct": 0.0, "fast": 0.0}
    for axis, sample in (("serial", 64), ("parallel", 16)):
        slow, fast, step = ratio(image, table, axis, sample)
        traps = table.serial["C"] if axis == "serial" else table.parallel
        readouts = 8192 / sample * traps.iterations
        total["direct"] += slow * readouts
        total["fast"] += fast * readouts
        print(
            f"{axis} readout, {sample} columns: direct {slow:.3f} s ({step:.2f} ns a step), "
            f"interval stack {fast:.4f} s: {slow / fast:.0f} times faster"
        )

    # the frame: both directions, smoothing, repeated runs behind readout cosmic rays
    frame = {amp: scene(amp, table, options.sky) for amp in "CDAB"}
    cpu, wall = time.process_time(), time.perf_counter()
    for amp, sci in frame.items():
        correct(
            sci, np.sqrt(np.abs(sci) + 16), amp=amp, table=table, expstart=EXPSTART,
            read_noise=NOISE[amp], threads=options.threads,
        )  # fmt: skip
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    print(f"full frame, {options.threads} threads: {wall:.1f} s wall, {cpu:.1f} s CPU")
    print(
        f"direct form, one run a column: {total['direct']:.0f} s CPU, {total['direct'] / cpu:.0f} times "
        f"the whole correction (which takes further runs where readout cosmic rays were)"
    )


if __name__ == "__main__":
    main()
