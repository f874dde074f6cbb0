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
from astropy.table import Table

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


@pytest.mark.parametrize("overscan", [False, True])
def test_stars_lie_where_stwcs_puts_them(
    any_visit: Visit, overscan: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stwcs.wcsutil import HSTWCS

    monkeypatch.setenv("jref", f"{any_visit.references}/")
    stars = Table.read(any_visit.truth / "stars.ecsv")
    pointing = Table.read(any_visit.truth / "pointing.ecsv")[-1]
    rootname = pointing["rootname"]
    path = tmp_path / f"{rootname}_flt.fits"
    shutil.copy(any_visit.raw / f"{rootname}_raw.fits", path)
    left = 24 if any_visit.settings.amp in "AC" else 0
    with fits.open(path, mode="update") as hdus:
        header = hdus["SCI"].header
        header["CRVAL2"] -= (pointing["north"] + pointing["north_error"]) / 3600
        header["CRVAL1"] -= pointing["east_error"] / 3600 / np.cos(np.radians(header["CRVAL2"]))
        header["CRVAL2"] += pointing["north"] / 3600
        if not overscan:
            # What BLEVCORR does to the header.
            header["LTV1"] -= left
            header["CRPIX1"] -= left
            left = 0
    # In a child, as the pipeline does it: stwcs leaves files open and warns.
    program = f"from stwcs.updatewcs import updatewcs; updatewcs({path.name!r}, use_db=False)"
    subprocess.run([sys.executable, "-P", "-c", program], cwd=tmp_path, check=True, capture_output=True)
    with fits.open(path) as hdus:
        names = [hdu.name for hdu in hdus]
        assert names.count("WCSDVARR") == 2
        assert names.count("D2IMARR") == 2
        assert hdus["SCI"].header["A_ORDER"] == 5
        wcs = HSTWCS(hdus, ext=("SCI", 1))
        seen = stars[f"{rootname}_chip"] > 0
        x, y = wcs.all_world2pix(stars["RA"][seen], stars["DEC"][seen], 1, tolerance=1e-6)
    # With overscan in place stwcs looks the lattice up a little off; that is its own affair.
    limit = 0.01 if overscan else 0.0005
    assert seen.sum() > 1000
    assert np.abs(x - left - stars[f"{rootname}_x"][seen]).max() < limit
    assert np.abs(y - stars[f"{rootname}_y"][seen]).max() < limit


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
