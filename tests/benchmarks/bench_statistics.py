"""The weight statistics: memory and time for ten pixfracs on a grid of 9,000 x 9,000 pixels.

    python tests/benchmarks/bench_statistics.py [--side 9000] [--pixfracs 10] [--threads 2] [--chunk 1024]

Weight maps are made of noise about a level, with a margin of nothing and gaps that are the more frequent the
smaller the pixfrac, and removed at the end (3.3 GB). Statistics run in a process of their own, as the stage
runs them; memory is its peak resident set. The same numbers computed by NumPy from whole arrays in float64
are printed beside them, with what they differ by and what that took.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from astropy.io import fits

ROOT = Path(__file__).resolve().parents[2]

_COMMON = """
import json, sys, time
from pathlib import Path

def answer(start, values):
    lines = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    used = int(lines["VmHWM"].split()[0]) * 1024
    print(json.dumps({"seconds": time.perf_counter() - start, "bytes": used, "values": values}))

given = json.loads(sys.argv[1])
"""

_OURS = (
    _COMMON
    + """
import dask
from batch.drizzling.weights import statistics

start = time.perf_counter()
with dask.config.set(scheduler="threads", num_workers=given["threads"]):
    made = statistics({float(p): path for p, path in given["maps"].items()}, chunk=given["chunk"])
boxes = [[int(made[k][i]) for k in ("x0", "x1", "y0", "y1")] for i in range(made.sizes["box"])]
answer(start, {"boxes": boxes, "ratios": made["box_rms_over_median"].values.tolist()})
"""
)

_PLAIN = (
    _COMMON
    + """
import numpy as np
from astropy.io import fits

start = time.perf_counter()
ratios = []
for path in given["maps"].values():
    whole = fits.getdata(path).astype(np.float64)
    cuts = [whole[y0:y1, x0:x1] for x0, x1, y0, y1 in given["boxes"]]
    ratios.append([float(c.std() / np.median(c)) for c in cuts])
    inside = whole[whole > 0]
    float(inside.std() / np.median(inside))
answer(start, {"ratios": ratios})
"""
)


def make(folder: Path, side: int, count: int) -> dict[str, str]:
    """Weight maps by pixfrac, row by row: none of them is ever whole in memory."""
    maps = {}
    for number in range(1, count + 1):
        pixfrac, path = number / count, folder / f"{number}_wht.fits"
        rng = np.random.default_rng(number)
        shape = {"SIMPLE": True, "BITPIX": -32, "NAXIS": 2, "NAXIS1": side, "NAXIS2": side}
        header = fits.Header({**shape, "D001PIXF": pixfrac})
        hdu = fits.StreamingHDU(path, header)
        for row in range(side):
            line = rng.normal(1356, 1356 * 0.7 * (1.05 - pixfrac), side).clip(1)
            line[rng.random(side) < 0.05 * max(0, 0.4 - pixfrac)] = 0
            line[:50] = line[-50:] = 0
            hdu.write((line * (50 <= row < side - 50)).astype(np.float32))
        hdu.close()
        maps[str(pixfrac)] = str(path)
    return maps


def run(code: str, given: object) -> dict[str, object]:
    """What a piece of a program in a process of its own answers."""
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(given)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=9000)
    parser.add_argument("--pixfracs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--chunk", type=int, default=1024)
    parser.add_argument("--folder", type=Path, help="where the maps are made; removed at the end")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        maps = make(Path(scratch), options.side, options.pixfracs)
        ours = run(_OURS, {"maps": maps, "threads": options.threads, "chunk": options.chunk})
        found = ours["values"]
        plain = run(_PLAIN, {"maps": maps, "boxes": found["boxes"]})
    one, other = (np.array(a["values"]["ratios"]) for a in (ours, plain))
    print(
        f"{options.pixfracs} maps of {options.side} x {options.side}, {options.threads} threads: statistics "
        f"{ours['seconds']:.1f} s, peak {ours['bytes'] / 1e9:.2f} GB; NumPy on whole float64 arrays, fewer "
        f"numbers: {plain['seconds']:.1f} s, peak {plain['bytes'] / 1e9:.2f} GB: "
        f"{plain['bytes'] / ours['bytes']:.1f} times the memory; largest difference of RMS/median in boxes "
        f"{np.abs(one / other - 1).max():.1e}"
    )


if __name__ == "__main__":
    main()
