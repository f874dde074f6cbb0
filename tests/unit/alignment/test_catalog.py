"""Catalogues of the user's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from astropy.wcs import WCS

from batch.alignment.catalog import read_catalog
from batch.errors import InputError


@pytest.fixture
def chip() -> WCS:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [10.0, 0.0]
    wcs.wcs.crpix = [500, 500]
    wcs.wcs.cd = np.array([[-1, 0], [0, 1]]) * 1e-5
    wcs.pixel_shape = (1000, 1000)
    return wcs


def table(path: Path, **columns: object) -> Path:
    Table(columns).write(path)
    return path


def test_only_stars_on_the_exposures_and_the_brightest_first(tmp_path: Path, chip: WCS) -> None:
    ra, dec = [10.0, 10.001, 10.002, 11.0, np.nan], [0.0, 0.001, 0.002, 0.0, 0.0]
    by_mag = table(tmp_path / "a.ecsv", ra=ra, Dec=dec, mag=[19.0, 17.0, 18.0, 10.0, 9.0])
    assert read_catalog(by_mag, [[chip]], 10, 2) == [(10.001, 0.001), (10.002, 0.002)]
    by_flux = table(tmp_path / "b.fits", RA=ra, DEC=dec, FLUX=[9.0, 1.0, 5.0, 99.0, 99.0])
    assert read_catalog(by_flux, [[chip]], 10, 2) == [(10.0, 0.0), (10.002, 0.002)]


def test_without_brightness_the_choice_is_spread_out(tmp_path: Path, chip: WCS) -> None:
    ra = np.linspace(9.996, 10.004, 100)
    path = table(tmp_path / "a.ecsv", RA=ra, DEC=np.zeros(100))
    chosen = np.array(read_catalog(path, [[chip]], 10, 30))
    assert 20 <= len(chosen) <= 30
    assert np.diff(chosen[:, 0]).max() < 5e-4


@pytest.mark.parametrize(
    ("columns", "what"),
    [
        ({"X": [1.0], "Y": [2.0]}, "no RA or DEC"),
        ({"RA": ["5h"], "DEC": ["-3d"]}, "is no angle"),
        ({"RA": [50.0], "DEC": [10.0]}, "none of its 1 stars"),
    ],
)
def test_a_catalogue_that_does_not_serve_is_refused(
    tmp_path: Path, chip: WCS, columns: dict[str, object], what: str
) -> None:
    with pytest.raises(InputError, match=what):
        read_catalog(table(tmp_path / "a.ecsv", **columns), [[chip]], 10, 100)


def test_a_file_that_is_no_table_is_refused_by_name(tmp_path: Path, chip: WCS) -> None:
    (tmp_path / "a.ecsv").write_text("nothing of the kind")
    with pytest.raises(InputError, match=r"a\.ecsv: not readable as a table"):
        read_catalog(tmp_path / "a.ecsv", [[chip]], 10, 100)
