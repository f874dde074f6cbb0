"""Memory follows the chunks, not the mosaic."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

PROGRAM = """
import sys, dask
from pathlib import Path
from batch.drizzling.weights import statistics
dask.config.set(scheduler="synchronous")
statistics({0.5: sys.argv[1], 1.0: sys.argv[2]}, chunk=512)
lines = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
print(int(lines["VmHWM"].split()[0]) * 1024)
"""


def peak(folder: Path, size: int) -> int:
    """Peak resident memory of measuring two maps of size x size, bytes.

    Read from /proc: what `os.wait4` tells of a spawned process is never below the size of its parent.
    """
    tile = np.random.default_rng(1).normal(1000, 100, (512, 512)).astype(np.float32)
    paths = [folder / f"{size}_{pixfrac}.fits" for pixfrac in (0.5, 1.0)]
    for path in paths:
        fits.writeto(path, np.tile(tile, (size // 512, size // 512)))
    command = [sys.executable, "-c", PROGRAM, *map(str, paths)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_sixteen_times_the_pixels_take_hardly_more(tmp_path: Path) -> None:
    small, large = peak(tmp_path, 1024), peak(tmp_path, 4096)
    print(f"peak of 1,024 x 1,024 {small / 1e6:.0f} MB, of 4,096 x 4,096 {large / 1e6:.0f} MB")
    # one of the two maps alone is 67 MB; mask and cells of the mosaic are a few
    assert large - small < 45e6
