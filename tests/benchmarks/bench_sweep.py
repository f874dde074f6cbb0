"""The sweep over pixfracs: time and memory of the multi-pixfrac drizzle, and the ratio to AstroDrizzle.

    python tests/benchmarks/bench_sweep.py [--size full] [--threads 2] [--folder DIR] [--pixfracs 0.1,0.2,...]

Four simulated exposures are calibrated and combined (kept in --folder for the next time). Then AstroDrizzle's
final step runs at every pixfrac, one call each, and the multi-pixfrac drizzle runs once for all and once for
one; every run is a process of its own, and times are those of the call with its products written, without
imports and without the copies that AstroDrizzle needs of its inputs. AstroDrizzle's final step has one
thread whatever num_cores is, so the ratio is also given for one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from beside import load  # noqa: E402

_ASTRODRIZZLE = """
import json, resource, sys, time
from pathlib import Path
import drizzlepac.astrodrizzle
from batch.drizzling.astrodrizzle import final

given = json.loads(sys.argv[1])
given["grid"] = Path(given["grid"])
start = time.perf_counter()
final(given.pop("names"), **given)
usage = resource.getrusage(resource.RUSAGE_SELF)
Path("time.json").write_text(json.dumps([time.perf_counter() - start, usage.ru_maxrss / 1e3]))
"""

_MULTI = """
import json, resource, sys, time
from pathlib import Path
from batch.drizzling.multi import Grid, Input, drizzle

given = json.loads(sys.argv[1])
case = Path(given["case"])
start = time.perf_counter()
grid = Grid.read(*(case / f"final_drz_{kind}.fits" for kind in ("sci", "wht", "ctx")))
inputs = [Input(case / name, tuple(sky)) for name, sky in given["sky"].items()]
drizzle(
    inputs, grid, given["pixfracs"], lambda p: Path(f"pf{p}").absolute(), bits=given["bits"],
    threads=given["threads"], memory=4_000_000_000,
)
usage = resource.getrusage(resource.RUSAGE_SELF)
Path("time.json").write_text(json.dumps([time.perf_counter() - start, usage.ru_maxrss / 1e3]))
"""


def timed(code: str, area: Path, argument: object) -> tuple[float, float]:
    """Wall time, s, and peak memory, MB, of a call in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(argument)],
        cwd=area,
        env=os.environ | {"PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stdout[-1000:] + done.stderr[-3000:])
    seconds, memory = json.loads((area / "time.json").read_text())
    return seconds, memory


def astrodrizzle(case: Any, area: Path, pixfrac: float, bits: int) -> tuple[float, float]:
    """One call of AstroDrizzle's final step."""
    area.mkdir()
    for name in case.sky:
        shutil.copyfile(case.folder / name, area / name)
    (area / "grid.fits").symlink_to(case.folder / "final_drz_sci.fits")
    given = {"names": list(case.sky), "grid": "grid.fits", "sky": case.sky, "bits": bits}
    return timed(_ASTRODRIZZLE, area, given | {"weight": "EXP", "pixfrac": pixfrac, "kernel": "square"})


def multi(case: Any, area: Path, pixfracs: list[float], threads: int, bits: int) -> tuple[float, float]:
    """One call for all pixfracs."""
    area.mkdir()
    given = {"case": str(case.folder), "sky": case.sky, "bits": bits}
    return timed(_MULTI, area, given | {"pixfracs": pixfracs, "threads": threads})


def agreement(ours: Path, theirs: Path) -> str:
    """Fractions of pixels that differ by more than 1e-6, and totals, in words."""
    kinds = ("sci", "wht", "ctx")
    science, weight, context = (fits.getdata(f"{ours}_{k}.fits").astype("f8") for k in kinds)
    science0, weight0, context0 = (fits.getdata(f"{theirs}_{k}.fits").astype("f8") for k in kinds)
    used = (weight > 0) & (weight0 > 0)
    noise = 1.4826 * np.median(np.abs(science0[used] - np.median(science0[used])))
    wrong = np.abs(science - science0) > np.maximum(1e-6 * np.abs(science0), 1e-6 * noise)
    wrong |= np.isnan(science) != np.isnan(science0)
    flux, flux0 = (np.sum(s[used] * w[used]) for s, w in ((science, weight), (science0, weight0)))
    off = np.mean(np.abs(weight - weight0) > 1e-6 * weight0)
    return (
        f"WHT differs on {off:.1e}, SCI on {wrong.mean():.1e}, CTX on {np.mean(context != context0):.1e} of "
        f"the pixels; total weight {weight.sum() / weight0.sum() - 1:+.0e}, flux {flux / flux0 - 1:+.0e}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", default="full", choices=["full", "2k", "1k"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--pixfracs", default="0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1.0")
    options = parser.parse_args()
    pixfracs = [float(p) for p in options.pixfracs.split(",")]
    help_ = load(ROOT / "tests" / "integration" / "drizzling_multi" / "conftest.py")
    with tempfile.TemporaryDirectory(dir=options.folder and options.folder.parent) as scratch:
        folder = (options.folder or Path(scratch) / "case").absolute()
        if (folder / "made.json").is_file():
            made = json.loads((folder / "made.json").read_text())
            case = help_.Case(folder, made["sky"], Path(made["flat"]))
        else:
            case = help_.prepare(folder, size=options.size, exposures=4, short_exptime=None)
        area = Path(scratch)
        measure(case, area, pixfracs, options.threads, help_.BITS)


def measure(case: Any, area: Path, pixfracs: list[float], threads: int, bits: int) -> None:
    """Run everything and print ratios."""
    multi(case, area / "first", pixfracs[:1], threads, bits)  # compiles the kernels where that is to be done
    shutil.rmtree(area / "first")
    theirs, texts = [], []
    for pixfrac in pixfracs:
        theirs.append(astrodrizzle(case, area / f"a{pixfrac}", pixfrac, bits))
        print(f"AstroDrizzle, pixfrac {pixfrac}: {theirs[-1][0]:.1f} s, {theirs[-1][1]:.0f} MB", flush=True)
    total = sum(t for t, _ in theirs)
    for number in sorted({1, threads}):
        time.sleep(5)  # lets the system write what it has
        all_, peak = multi(case, area / "many", pixfracs, number, bits)
        if number == threads:
            texts = [f"pixfrac {p}: {agreement(area / 'many' / f'pf{p}', area / f'a{p}' / 'final_drz')}"
                     for p in pixfracs]  # fmt: skip
        shutil.rmtree(area / "many")
        one, _ = multi(case, area / "one", pixfracs[-1:], number, bits)
        shutil.rmtree(area / "one")
        print(
            f"{number} thread(s): {len(pixfracs)} pixfracs {all_:.1f} s, {peak:.0f} MB: "
            f"{total / all_:.1f} times faster; pixfrac {pixfracs[-1]} alone {one:.1f} s: "
            f"{theirs[-1][0] / one:.1f} times faster; {len(pixfracs)} cost as much as {all_ / one:.1f}"
        )
    print("\n".join(texts))


if __name__ == "__main__":
    main()
