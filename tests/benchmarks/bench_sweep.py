"""The sweep over pixfracs: time and memory of the multi-pixfrac drizzle, and the ratio to AstroDrizzle.

    python tests/benchmarks/bench_sweep.py [--size full] [--threads 2] [--folder DIR] [--scratch DIR]

Four simulated exposures are calibrated and combined (kept in --folder for the next time). Then AstroDrizzle's
final step runs at every pixfrac, one call each, and before and after that the multi-pixfrac drizzle once for
all and once for one; every run is a process of its own, and times are those of the call with its products
written, without imports and without the copies that AstroDrizzle needs of its inputs. AstroDrizzle is given
the same --threads (num_cores), of which its final step uses one whatever it is given; the ratio to one thread
of ours is printed as well.

Before each run everything is written to disk and free memory is filled with page cache, as on a machine that
has been at work for a while: a virtual machine whose host takes back what is free would else pay 3 s and more
for each GB touched first, and the figures would be those of its host. Where the disk cannot take 10 GB at
once, a --scratch in memory (tmpfs) keeps it out of the figures of both.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
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
from drizzlepac import astrodrizzle
from batch.drizzling.astrodrizzle import final

given = json.loads(sys.argv[1])
given["grid"] = Path(given["grid"])
plain, threads = astrodrizzle.AstroDrizzle, given.pop("threads")
astrodrizzle.AstroDrizzle = lambda *names, **options: plain(*names, **(options | {"num_cores": threads}))
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


def settle(folder: Path) -> None:
    """Write what is to be written, and fill free memory with page cache."""
    os.sync()
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") - 500_000_000
    if free > 0:
        with (folder / "hole").open("ab+", buffering=0) as hole:  # without a block on disk
            hole.truncate(hole.seek(0, os.SEEK_END) + free)
            while hole.read(1 << 24):
                pass


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


def astrodrizzle(case: Any, area: Path, pixfrac: float, threads: int, bits: int) -> tuple[float, float]:
    """One call of AstroDrizzle's final step."""
    area.mkdir()
    for name in case.sky:
        shutil.copyfile(case.folder / name, area / name)
    (area / "grid.fits").symlink_to(case.folder / "final_drz_sci.fits")
    settle(case.folder)
    given = {"names": list(case.sky), "grid": "grid.fits", "sky": case.sky, "bits": bits}
    return timed(
        _ASTRODRIZZLE,
        area,
        given | {"weight": "EXP", "pixfrac": pixfrac, "kernel": "square", "threads": threads},
    )


def multi(case: Any, area: Path, pixfracs: list[float], threads: int, bits: int) -> tuple[float, float]:
    """One call for all pixfracs."""
    area.mkdir()
    settle(case.folder)
    given = {"case": str(case.folder), "sky": case.sky, "bits": bits}
    return timed(_MULTI, area, given | {"pixfracs": pixfracs, "threads": threads})


def sweep(
    case: Any, area: Path, pixfracs: list[float], threads: int, bits: int
) -> tuple[float, float, float]:
    """Wall time of the last pixfrac alone and of all, s, and peak memory of all, MB; all stay in ``many``."""
    shutil.rmtree(area / "many", ignore_errors=True)
    one, _ = multi(case, area / "one", pixfracs[-1:], threads, bits)
    shutil.rmtree(area / "one")
    return one, *multi(case, area / "many", pixfracs, threads, bits)


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
    parser.add_argument("--folder", type=Path, help="where the four exposures are kept for the next time")
    parser.add_argument("--scratch", type=Path, help="where the runs write: 13 GB; see above")
    parser.add_argument("--pixfracs", default="0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1.0")
    options = parser.parse_args()
    pixfracs = [float(p) for p in options.pixfracs.split(",")]
    help_ = load(ROOT / "tests" / "integration" / "drizzling_multi" / "conftest.py")
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        folder = (options.folder or Path(scratch) / "case").absolute()
        if (folder / "made.json").is_file():
            made = json.loads((folder / "made.json").read_text())
            case = help_.Case(folder, made["sky"], Path(made["flat"]))
        else:
            case = help_.prepare(folder, size=options.size, exposures=4, short_exptime=None)
        area = Path(scratch)
        measure(case, area, pixfracs, options.threads, help_.BITS)
        (folder / "hole").unlink(missing_ok=True)


def measure(case: Any, area: Path, pixfracs: list[float], threads: int, bits: int) -> None:
    """Run everything and print ratios."""
    multi(case, area / "first", pixfracs[:1], threads, bits)  # compiles the kernels where that is to be done
    shutil.rmtree(area / "first")
    numbers = sorted({1, threads})
    before = {number: sweep(case, area, pixfracs, number, bits) for number in numbers}
    theirs, texts = [], []
    for pixfrac in pixfracs:  # each is compared and removed, so that two full sets never lie side by side
        theirs.append(astrodrizzle(case, area / "a", pixfrac, threads, bits))
        with ProcessPoolExecutor(1, get_context("spawn")) as own:  # else the next would seem as large as this
            found = own.submit(agreement, area / "many" / f"pf{pixfrac}", area / "a/final_drz").result()
        texts.append(f"pixfrac {pixfrac}: {found}")
        shutil.rmtree(area / "a")
        print(f"AstroDrizzle, pixfrac {pixfrac}: {theirs[-1][0]:.1f} s, {theirs[-1][1]:.0f} MB", flush=True)
    total = sum(t for t, _ in theirs)
    for number in numbers:  # once more, since machines grow slower under load, and faster
        (one0, all0, peak0), (one1, all1, peak1) = before[number], sweep(case, area, pixfracs, number, bits)
        one, all_ = (one0 + one1) / 2, (all0 + all1) / 2
        print(
            f"{number} thread(s): {len(pixfracs)} pixfracs {all0:.1f} and {all1:.1f} s, "
            f"{max(peak0, peak1):.0f} MB: {total / all_:.1f} times faster; pixfrac {pixfracs[-1]} alone "
            f"{one0:.1f} and {one1:.1f} s: {theirs[-1][0] / one:.1f} times faster; "
            f"{len(pixfracs)} cost as much as {all_ / one:.1f}"
        )
    print("\n".join(texts))


if __name__ == "__main__":
    main()
