"""PCTETAB: what is read, and what is said about a table that cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from batch.calibration.cte import read_table
from batch.errors import InputError

Change = Callable[[fits.HDUList], object]
Spoil = Callable[[Change], Path]


def test_five_sets_are_read(complete: Path) -> None:
    table = read_table(complete)
    assert (table.name, table.version) == ("Par/Serial PixelCTE 2023", "3.0")
    assert (table.threshold, table.fix_rocr, table.noise_model) == (-10.0, True, 0)
    assert (table.pedigree, table.description) == ("GROUND", "made for a test")
    sets = [table.parallel, *(table.serial[amp] for amp in "ABCD")]
    for k, traps in enumerate(sets, 1):
        assert (len(traps.levels), traps.trail, traps.iterations, traps.shifts) == (10 * k, 20 + k, 5, 7)
        assert traps.release.shape == traps.remaining.shape == (10 * k, 100)
        assert traps.release[0, 19 + k] == np.float32(1 / (20 + k))
        assert traps.release[0, 20 + k] == 0
        np.testing.assert_allclose(
            traps.densities[8191], k + np.array([512, 1024, 1536, 2048]) / 1e4, rtol=1e-7
        )
        assert traps.growth(57710.4) == 1
        assert traps.growth(52334.9) == 0


def test_parallel_only_tables_are_an_option(parallel_only: Path) -> None:
    with pytest.raises(InputError, match=r"CTE_NAME.*'PixelCTE 2017'.*obsolete"):
        read_table(parallel_only)
    table = read_table(str(parallel_only), parallel_only=True)
    assert table.serial == {}
    assert table.parallel.trail == 60


def header(index: int, keyword: str, value: object = None) -> Change:
    """Set a keyword, or remove it."""

    def change(hdus: fits.HDUList) -> None:
        if value is None:
            del hdus[index].header[keyword]
        else:
            hdus[index].header[keyword] = value

    return change


def values(index: int, column: str, rows: object, value: float) -> Change:
    def change(hdus: fits.HDUList) -> None:
        hdus[index].data[column][rows] = value

    return change


def cut(index: int, rows: int) -> Change:
    def change(hdus: fits.HDUList) -> None:
        hdus[index].data = hdus[index].data[:rows]

    return change


def pixel(index: int, value: float) -> Change:
    def change(hdus: fits.HDUList) -> None:
        hdus[index].data[3, 3] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (header(0, "CTE_NAME", "PixelCTE 2012"), "CTE_NAME"),
        (header(0, "CTE_NAME"), "CTE_NAME: is missing"),
        (header(0, "CTE_VER"), "CTE_VER"),
        (header(0, "FIXROCR", 2), "FIXROCR"),
        (header(0, "PCTETRSH"), "PCTETRSH"),
        (header(0, "PCTENSMD", "none"), "PCTENSMD"),
        (header(0, "PCTENFOR"), "PCTENFOR"),
        (header(0, "PCTETLEN", 101), "PCTETLEN"),
        (header(0, "PCTETLEN", 0), "PCTETLEN"),
        (header(0, "PCTENPAR", 0), "PCTENPAR"),
        (header(0, "CTEDATE1", 52334.9), "CTEDATE1"),
        (cut(1, 8000), r"QPROF,1\].*8000 rows, 9999"),
        (cut(2, 8191), r"SCLBYCOL,1\].*8191 rows, 8192"),
        (values(1, "QLEV_Q", 5, 7), "QLEV_Q.*sorted"),
        (values(1, "QLEV_Q", 5, 999999), "QLEV_Q.*sorted"),
        (values(1, "QLEV_Q", slice(None), 999999), "QLEV_Q"),
        (values(1, "DPDE_W", 3, np.nan), "DPDE_W"),
        (values(2, "IZ", 17, 16), "IZ.*leaves out 1 columns, the first is 17"),
        (values(2, "SENS_1024", 17, np.inf), "SENS_1024"),
        (header(1, "TTYPE2", "LEVEL"), "QLEV_Q"),
        (lambda hdus: hdus.pop(4), "CPROF"),
        (lambda hdus: hdus.pop(2), "SCLBYCOL"),
        (lambda hdus: setattr(hdus[3], "data", hdus[3].data[:50]), "RPROF"),
        (pixel(3, np.nan), "RPROF"),
    ],
)
def test_unusable_tables_are_named(spoil: Spoil, change: Change, message: str) -> None:
    path = spoil(change)
    with pytest.raises(InputError, match=message) as caught:
        read_table(path, parallel_only=True)
    assert path.name in caught.value.message


def test_a_table_that_counts_from_one_is_used(spoil: Spoil, caplog: pytest.LogCaptureFixture) -> None:
    """Column 0 of amp C, which such a table leaves out, is not corrected; the log says so."""

    def change(hdus: fits.HDUList) -> None:
        hdus[2].data["IZ"] = np.arange(1, 8193)

    table = read_table(spoil(change), parallel_only=True)
    assert (table.parallel.densities[0] == 0).all()
    assert (table.parallel.densities[1:] > 0).all()
    assert "column 0 of amp C" in caplog.text


@pytest.mark.parametrize("size", [0, 1000, 2880, 20000, -2880])
def test_truncated_files_are_named(parallel_only: Path, tmp_path: Path, size: int) -> None:
    path = tmp_path / "short_cte.fits"
    path.write_bytes(parallel_only.read_bytes()[:size])
    with pytest.raises(InputError, match=r"short_cte\.fits"):
        read_table(path, parallel_only=True)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none_cte\.fits"):
        read_table(tmp_path / "none_cte.fits")
