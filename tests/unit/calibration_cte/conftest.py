"""PCTETABs to spoil."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

TRAPS, TRAIL, COLUMNS = 9999, 100, 8192
KEYWORDS = {"CTEDATE0": 52334.9, "CTEDATE1": 57710.4, "PCTETLEN": 60, "PCTENFOR": 5, "PCTENPAR": 7}


def primary(name: str) -> fits.PrimaryHDU:
    hdu = fits.PrimaryHDU()
    cards = {
        "CTE_NAME": name,
        "CTE_VER": "3.0",
        "PCTERNOI": 3.25,
        "PCTENSMD": 0,
        "PCTETRSH": -10.0,
        "FIXROCR": 1,
    }
    hdu.header.update({**cards, "PEDIGREE": "GROUND", "DESCRIP": "made for a test"})
    return hdu


def one_set(version: int, traps: int, trail: int) -> list[fits.hdu.base.ExtensionHDU]:
    levels = np.full(TRAPS, 999999)
    levels[:traps] = np.arange(traps)
    nodes = [(f"SENS_{n:04d}", "E", np.full(COLUMNS, version + n / 1e4)) for n in (512, 1024, 1536, 2048)]
    release = np.zeros((TRAIL, TRAPS), np.float32)
    release[:trail] = 1 / trail
    qprof = [("W", "I", np.arange(1, TRAPS + 1)), ("QLEV_Q", "J", levels), ("DPDE_W", "E", np.ones(TRAPS))]
    sclbycol = [("IZ", "I", np.arange(COLUMNS)), *nodes]
    hdus = [
        fits.BinTableHDU.from_columns(
            [fits.Column(n, f, array=a) for n, f, a in columns], name=name, ver=version
        )
        for name, columns in (("QPROF", qprof), ("SCLBYCOL", sclbycol))
    ]
    hdus += [fits.ImageHDU(a, name=n, ver=version) for n, a in (("RPROF", release), ("CPROF", 1 - release))]
    hdus[0].header.update({**KEYWORDS, "PCTETLEN": trail})
    return hdus


@pytest.fixture(scope="session")
def parallel_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of generation 2: four extensions, parameters in the primary header."""
    path = tmp_path_factory.mktemp("pctetab") / "old_cte.fits"
    first = primary("PixelCTE 2017")
    first.header.update(KEYWORDS)
    fits.HDUList([first, *one_set(1, 50, 60)]).writeto(path)
    return path


@pytest.fixture(scope="session")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of generation 3, whose sets differ in number of traps, trail and density."""
    path = tmp_path_factory.mktemp("pctetab") / "new_cte.fits"
    sets = [hdu for k in range(1, 6) for hdu in one_set(k, 10 * k, 20 + k)]
    fits.HDUList([primary("Par/Serial PixelCTE 2023"), *sets]).writeto(path)
    return path


@pytest.fixture
def spoil(parallel_only: Path, tmp_path: Path) -> Callable[[Callable[[fits.HDUList], object]], Path]:
    """A copy of the small table after a change to its HDUs."""

    def spoil(change: Callable[[fits.HDUList], object]) -> Path:
        path = tmp_path / "spoilt_cte.fits"
        with fits.open(parallel_only, memmap=False) as hdus:
            change(hdus)
            hdus.writeto(path)
        return path

    return spoil
