"""The real programs accept simulated visits: crds bestrefs, stwcs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Row, Table

from batch.simulation.visit import Visit


def is_reference(key: str, value: object) -> bool:
    return key.endswith(("FILE", "TAB")) and key != "ASN_TAB" and isinstance(value, str)


def test_crds_bestrefs_fills_all_reference_keywords_offline(any_visit: Visit, tmp_path: Path) -> None:
    raw = tmp_path / any_visit.exposures[0].name
    shutil.copy(any_visit.exposures[0], raw)
    expected = fits.getheader(raw)
    with fits.open(raw, mode="update") as hdus:
        for key, value in expected.items():
            if is_reference(key, value):
                hdus[0].header[key] = "wrong"
    environment = {
        **os.environ,
        "CRDS_PATH": str(any_visit.crds),
        "CRDS_CONTEXT": any_visit.context,
        "CRDS_SERVER_URL": "https://hst-crds-serverless.invalid",
        "CRDS_OBSERVATORY": "hst",
    }
    command = [sys.executable, "-m", "crds.bestrefs", "--files", raw.name, "--update-bestrefs"]
    command += ["--new-context", any_visit.context]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "0 errors" in run.stderr, run.stderr
    assert "0 warnings" in run.stderr, run.stderr
    found = fits.getheader(raw)
    # Tables of other pipelines, which no CRDS context of ACS knows, stay as they were.
    foreign = {"PHOTTAB", "GRAPHTAB", "COMPTAB"}
    keys = {key for key, value in expected.items() if is_reference(key, value)} - foreign
    assert {key: found[key] for key in keys} == {key: expected[key] for key in keys}


def undo_pointing_error(header: fits.Header, pointing: Row) -> None:
    header["CRVAL2"] -= (pointing["north"] + pointing["north_error"]) / 3600
    header["CRVAL1"] -= pointing["east_error"] / 3600 / np.cos(np.radians(header["CRVAL2"]))
    header["CRVAL2"] += pointing["north"] / 3600


def trim(header: fits.Header, left: int, bottom: int) -> None:
    """What BLEVCORR does to a header."""
    for axis, overscan in ((1, left), (2, bottom)):
        header[f"LTV{axis}"] -= overscan
        header[f"CRPIX{axis}"] -= overscan


def update_wcs(path: Path) -> None:
    """In a child, as the pipeline does it: stwcs leaves files open and warns."""
    program = f"from stwcs.updatewcs import updatewcs; updatewcs({path.name!r}, use_db=False)"
    subprocess.run([sys.executable, "-P", "-c", program], cwd=path.parent, check=True, capture_output=True)


def deviations(hdus: fits.HDUList, extver: int, stars: Table, pointing: Row) -> tuple[np.ndarray, np.ndarray]:
    """Where the WCS of a file puts stars, minus where the truth has them."""
    from stwcs.wcsutil import HSTWCS

    wcs = HSTWCS(hdus, ext=("SCI", extver))
    x, y = wcs.all_world2pix(stars["RA"], stars["DEC"], 1, tolerance=1e-6)
    return x - stars[f"{pointing['rootname']}_x"], y - stars[f"{pointing['rootname']}_y"]


def last_exposure_deviations(visit: Visit, folder: Path, *, overscan: bool) -> tuple[np.ndarray, np.ndarray]:
    """`deviations` of a subarray's last exposure, its pointing put right, with or without overscan."""
    pointing = Table.read(visit.truth / "pointing.ecsv")[-1]
    rootname = pointing["rootname"]
    stars = Table.read(visit.truth / "stars.ecsv")
    stars = stars[stars[f"{rootname}_chip"] > 0]
    path = folder / f"{rootname}_flt.fits"
    shutil.copy(visit.raw / f"{rootname}_raw.fits", path)
    left = 24 if visit.settings.amp in "AC" else 0
    with fits.open(path, mode="update") as hdus:
        undo_pointing_error(hdus["SCI"].header, pointing)
        if not overscan:
            trim(hdus["SCI"].header, left, 0)
            left = 0
    update_wcs(path)
    with fits.open(path) as hdus:
        names = [hdu.name for hdu in hdus]
        assert names.count("WCSDVARR") == 2
        assert names.count("D2IMARR") == 2
        assert hdus["SCI"].header["A_ORDER"] == 5
        dx, dy = deviations(hdus, 1, stars, pointing)
    assert dx.size > 1000
    return dx - left, dy


def test_stars_lie_where_stwcs_puts_them(
    any_visit: Visit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("jref", f"{any_visit.references}/")
    dx, dy = last_exposure_deviations(any_visit, tmp_path, overscan=False)
    assert np.abs(dx).max() < 0.0005
    assert np.abs(dy).max() < 0.0005


def test_stars_lie_where_stwcs_puts_them_on_the_raw_array(
    plain: Visit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("jref", f"{plain.references}/")
    dx, dy = last_exposure_deviations(plain, tmp_path, overscan=True)
    # With overscan in place stwcs looks the lattice up a little off; that is its own affair.
    assert np.abs(dx).max() < 0.01
    assert np.abs(dy).max() < 0.01


@pytest.mark.slow
def test_stars_lie_where_stwcs_puts_them_on_both_chips(
    full: Visit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("jref", f"{full.references}/")
    pointing = Table.read(full.truth / "pointing.ecsv")[0]
    stars = Table.read(full.truth / "stars.ecsv")
    path = tmp_path / f"{pointing['rootname']}_flt.fits"
    shutil.copy(full.exposures[0], path)
    with fits.open(path, mode="update") as hdus:
        for extver, virtual in ((1, 0), (2, 20)):
            header = hdus["SCI", extver].header
            undo_pointing_error(header, pointing)
            trim(header, 24, virtual)
    update_wcs(path)
    with fits.open(path) as hdus:
        for extver, chip in ((1, 2), (2, 1)):
            dx, dy = deviations(hdus, extver, stars[stars[f"{pointing['rootname']}_chip"] == chip], pointing)
            assert np.abs(dx).max() < 0.0005
            assert np.abs(dy).max() < 0.0005


def test_the_field_is_distorted_as_acs_distorts_it(any_visit: Visit) -> None:
    """The simulated stars do not fit a linear mapping by tens of pixels."""
    stars = Table.read(any_visit.truth / "stars.ecsv")
    rootname = any_visit.rootnames[-1]
    seen = stars[f"{rootname}_chip"] > 0
    ra, dec = stars["RA"][seen] - 5.65, stars["DEC"][seen] + 72.06
    design = np.stack([np.ones(len(ra)), ra, dec], axis=1)
    x = np.asarray(stars[f"{rootname}_x"][seen])
    residual = x - design @ np.linalg.lstsq(design, x, rcond=None)[0]
    assert 1 < np.abs(residual).max() < 60
