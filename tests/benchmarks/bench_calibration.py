"""Wall time and peak memory of the built-in engine on a WFC full frame, without the CTE correction.

    python tests/benchmarks/bench_calibration.py [case ...]

Every run is a process of its own, as in the pipeline, and its peak memory is what the kernel counted for it
(os.wait4). The frames are golden cases; calacs.e takes 1.5 to 3.7 s for one on warm files, and is run beside
where it is on PATH. Figures are printed, not asserted: they depend on the machine.
"""

from __future__ import annotations

import bz2
import gzip
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from astropy.io import fits

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT.parent / "shared" / "golden"
CASES = ("wfc_2006_presm4", "wfc_2012_dsint", "wfc_2013_clamp")
REPEATS = 3
CALACS_SECONDS = (1.5, 3.7)
CHILD = """
import sys, time
from pathlib import Path
from batch.calibration.builtin import BuiltinEngine
started = time.perf_counter()
raw, jref, area = (Path(p) for p in sys.argv[1:4])
BuiltinEngine(overwrite=True).calibrate(raw, jref, area, int(sys.argv[4]))
print(time.perf_counter() - started)
"""


def unpack(case: str, folder: Path, jref: Path) -> Path:
    """Lay out a case and the reference files that it names."""
    (packed,) = (GOLDEN / "cases" / case).glob("*_raw.fits.bz2")
    raw = folder / packed.stem
    raw.write_bytes(bz2.decompress(packed.read_bytes()))
    for value in fits.getheader(raw).values():
        name = str(value).strip().removeprefix("jref$")
        source = GOLDEN / "jref" / f"{name}.gz"
        if name != str(value).strip() and source.is_file() and not (jref / name).exists():
            with gzip.open(source) as stream, (jref / name).open("wb") as target:
                shutil.copyfileobj(stream, target)
    return raw


def run(raw: Path, jref: Path, threads: int) -> tuple[float, float, float]:
    """Wall time of the calibration, wall time of the process, and its peak memory (GB)."""
    started = time.perf_counter()
    argv = [sys.executable, "-P", "-c", CHILD, str(raw), str(jref), str(raw.parent), str(threads)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        answer = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"the run ended with status {process.returncode}")
    return float(answer), time.perf_counter() - started, usage.ru_maxrss * 1024 / 1e9


def run_calacs(raw: Path, jref: Path) -> float | None:
    """Wall time of calacs.e on the same frame, None where it is not installed."""
    program = shutil.which("calacs.e")
    if program is None:
        return None
    for product in raw.parent.glob("*_flt.fits"):
        product.unlink()
    started = time.perf_counter()
    subprocess.run([program, raw.name], cwd=raw.parent, env=os.environ | {"jref": f"{jref}/"}, check=True)
    return time.perf_counter() - started


def main(cases: list[str]) -> None:
    """Print one line a case and number of threads."""
    if not GOLDEN.is_dir():
        raise SystemExit(f"{GOLDEN} is not there: there is no full frame to calibrate")
    with tempfile.TemporaryDirectory() as scratch:
        jref = Path(scratch, "jref")
        jref.mkdir()
        for case in cases:
            folder = Path(scratch, case)
            folder.mkdir()
            raw = unpack(case, folder, jref)
            run(raw, jref, 1)  # compiles where nobody has yet, and warms the file cache
            for threads in (1, 2):
                runs = [run(raw, jref, threads) for _ in range(REPEATS)]
                wall, process, peak = (
                    min(r[0] for r in runs),
                    min(r[1] for r in runs),
                    max(r[2] for r in runs),
                )
                ratios = " to ".join(f"{seconds / wall:.1f}" for seconds in CALACS_SECONDS)
                print(
                    f"{case:16s} {threads} thread(s): {wall:5.2f} s ({process:.2f} s with start-up), "
                    f"peak {peak:.2f} GB, {ratios} times as fast as calacs.e is said to be"
                )
            measured = run_calacs(raw, jref)
            if measured is not None:
                print(f"{case:16s} calacs.e: {measured:.2f} s here")
            shutil.rmtree(folder)


if __name__ == "__main__":
    main(sys.argv[1:] or list(CASES))
