"""Statistics on a cluster of processes are, to the last digit, those of one thread."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import dask
import numpy as np
import pytest
import xarray as xr
from astropy.io import fits

from batch.drizzling.weights import statistics

Maps = Callable[..., dict[float, np.ndarray]]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_workers_changes_no_digit(maps: Maps, tmp_path: Path, workers: int) -> None:
    distributed = pytest.importorskip("distributed")
    paths = {}
    for pixfrac, weight in maps(0.2, 0.7, 1.0).items():
        paths[pixfrac] = tmp_path / f"{pixfrac}.fits"
        fits.writeto(paths[pixfrac], np.tile(weight, (2, 3)))
    with dask.config.set(scheduler="synchronous"):
        plain = statistics(paths, box_size=64, tile=40, chunk=4096)
    cluster = distributed.LocalCluster(
        n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None
    )
    with cluster, distributed.Client(cluster):
        xr.testing.assert_identical(statistics(paths, box_size=64, tile=40, chunk=80), plain)
