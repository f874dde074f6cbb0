"""Calibrating simulated exposures gives back what was put in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from photutils.aperture import CircularAperture, aperture_photometry
from scipy.spatial import cKDTree

from batch.calibration import get_engine
from batch.simulation import psf
from batch.simulation.filters import FILTERS
from batch.simulation.headers import load_template
from batch.simulation.visit import Visit, VisitSettings, simulate

RADIUS = 4.0


def calibrated(visit: Visit, exposure: int, area: Path) -> dict[str, Path]:
    """The engine's products by suffix."""
    area.mkdir(exist_ok=True)
    paths = get_engine("builtin").calibrate(visit.exposures[exposure], visit.references, area, 1)
    return {path.stem[-3:]: path for path in paths}


def star_ratios(visit: Visit, product: Path, extver: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Which stars are isolated and unsaturated, and their aperture fluxes over the true ones."""
    rootname = product.name[:9]
    stars = Table.read(visit.truth / "stars.ecsv")
    x, y = (np.asarray(stars[f"{rootname}_{axis}"]) - 1 for axis in "xy")
    flux = np.asarray(stars["FLUX"])
    with fits.open(product) as hdus:
        image, flags = hdus["SCI", extver].data.astype(float), hdus["DQ", extver].data
        exptime, number = hdus[0].header["EXPTIME"], hdus["SCI", extver].header["CCDCHIP"]
    ny, nx = image.shape
    kept = (stars["MAG"] > 19.5) & (stars["MAG"] < 22.5) & (x > 20) & (x < nx - 20) & (y > 20) & (y < ny - 20)
    kept &= stars[f"{rootname}_chip"] == number
    tree = cKDTree(np.stack([np.nan_to_num(x, nan=-1e4), np.nan_to_num(y, nan=-1e4)], axis=1))
    for index in np.flatnonzero(kept):
        near = [i for i in tree.query_ball_point(tree.data[index], 15) if i != index]
        box = flags[round(y[index]) - 5 : round(y[index]) + 6, round(x[index]) - 5 : round(x[index]) + 6]
        kept[index] = flux[near].sum() < 0.01 * flux[index] and not np.any(box & (256 | 4))
    sky = FILTERS[visit.settings.filter].sky * exptime
    aperture = CircularAperture(np.stack([x[kept], y[kept]], axis=1), RADIUS)
    measured = np.asarray(aperture_photometry(image - sky, aperture)["aperture_sum"])
    return np.flatnonzero(kept), measured / psf.encircled(RADIUS) / (flux[kept] * exptime)


def pixel_area(visit: Visit, product: Path, stars: np.ndarray, extver: int = 1) -> np.ndarray:
    """Area of the stars' pixels over 0.05 arcsec squared, by the SIP terms of the real exposure."""
    table = Table.read(visit.truth / "stars.ecsv")[stars]
    rootname = product.name[:9]
    x, y = (np.asarray(table[f"{rootname}_{axis}"]) for axis in "xy")
    header = fits.getheader(product, ("SCI", extver))
    x, y = x - header["LTV1"], y - header["LTV2"]
    wcs = WCS(load_template().chips[header["CCDCHIP"]])
    east = np.cos(np.radians(wcs.wcs.crval[1]))
    (ra0, dec0), (ra1, dec1), (ra2, dec2) = (
        wcs.all_pix2world(x + dx, y + dy, 1) for dx, dy in ((0, 0), (1, 0), (0, 1))
    )
    cross = (ra1 - ra0) * (dec2 - dec0) - (ra2 - ra0) * (dec1 - dec0)
    return np.abs(cross) * east * 3600**2 / 0.05**2


EMPTY: dict[str, Any] = {"stars": 0, "cosmic_rays": 0.0, "exposures": 1, "short_exptime": None, "size": "512"}


@pytest.mark.parametrize(
    "change",
    [
        {"amp": "A"},
        {"amp": "B", "gain": 1},
        {"amp": "C", "flash": 20.0},
        {"amp": "D", "flash": 20.0, "date": "2017-05-05"},
    ],
)
def test_an_empty_field_calibrates_to_the_true_sky(change: dict[str, Any], tmp_path: Path) -> None:
    visit = simulate(tmp_path / "visit", VisitSettings(seed=21, **EMPTY | change))
    with fits.open(calibrated(visit, 0, tmp_path / "out")["flt"]) as hdus:
        sky, error, flags = hdus["SCI"].data, hdus["ERR"].data, hdus["DQ"].data
        assert hdus[0].header["BLEVCORR"] == "COMPLETE"
        assert hdus[0].header["PHOTCORR"] == "COMPLETE"
        assert hdus["SCI"].header["PHOTFLAM"] == pytest.approx(7.8e-20, rel=0.05)
    good = flags == 0
    # 512 rows give the bias level to 0.11 electron.
    assert sky[good].mean() == pytest.approx(FILTERS["F606W"].sky * 339, abs=0.5)
    assert sky[good].std() / error[good].mean() == pytest.approx(1.0, abs=0.02)
    assert 0.003 < np.mean(flags & 16 > 0) < 0.02
    assert np.mean(flags & 4 > 0) > 1e-4


@pytest.mark.slow
def test_a_full_frame_after_sm4_calibrates_to_the_true_sky(tmp_path: Path) -> None:
    change = {"size": "full", "date": "2013-05-05", "flash": 5.0}
    visit = simulate(tmp_path / "visit", VisitSettings(seed=22, **EMPTY | change))
    with fits.open(calibrated(visit, 0, tmp_path / "out")["flt"]) as hdus:
        for extver in (1, 2):
            sky, flags = hdus["SCI", extver].data, hdus["DQ", extver].data
            assert sky.shape == (2048, 4096)
            for half in (slice(0, 2048), slice(2048, 4096)):
                good = flags[:, half] == 0
                assert sky[:, half][good].mean() == pytest.approx(FILTERS["F606W"].sky * 339, abs=0.4)


def test_star_fluxes_come_back(plain: Visit, tmp_path: Path) -> None:
    """In a calibrated image a star is too faint by the area of its pixel, which drizzling puts right."""
    product = calibrated(plain, 1, tmp_path)["flt"]
    which, ratios = star_ratios(plain, product)
    assert ratios.size > 50
    area = pixel_area(plain, product, which)
    assert np.median(ratios * area) == pytest.approx(1.0, abs=0.005)
    assert abs(np.median(ratios) - 1) > 0.01


@pytest.mark.slow
def test_star_fluxes_come_back_on_both_chips(full: Visit, tmp_path: Path) -> None:
    product = calibrated(full, 0, tmp_path)["flt"]
    for extver in (1, 2):
        which, ratios = star_ratios(full, product, extver)
        area = pixel_area(full, product, which, extver)
        assert ratios.size > 300
        assert np.ptp(area) > 0.08
        for corner in (area < np.percentile(area, 20), area > np.percentile(area, 80)):
            assert np.median((ratios * area)[corner]) == pytest.approx(1.0, abs=0.007)


def test_saturated_stars_and_struck_pixels_are_as_the_truth_says(plain: Visit, tmp_path: Path) -> None:
    product = calibrated(plain, 1, tmp_path)["flt"]
    rootname = product.name[:9]
    stars = Table.read(plain.truth / "stars.ecsv")
    flags, image = fits.getdata(product, "DQ"), fits.getdata(product, "SCI")
    bright = stars[(stars["MAG"] < 17) & (stars[f"{rootname}_chip"] > 0)]
    faint = stars[(stars["MAG"] > 21) & (stars[f"{rootname}_chip"] > 0)]

    def flagged(table: Table) -> np.ndarray:
        x, y = (np.rint(table[f"{rootname}_{axis}"]).astype(int) - 1 for axis in "xy")
        return np.asarray(flags[np.clip(y, 0, 511), np.clip(x, 0, 2047)] & 256 > 0)

    assert len(bright) > 20
    assert flagged(bright).mean() > 0.95
    assert flagged(faint).mean() < 0.05
    with fits.open(plain.cosmic_rays(rootname)) as hdus:
        hits = hdus["CRS"].data
    strong = hits[hits["ELECTRONS"] > 300]
    assert np.mean(image[strong["Y"], strong["X"]] > 200) > 0.99


@pytest.mark.slow
def test_the_cte_correction_brings_trailed_charge_back(late: Visit, tmp_path: Path) -> None:
    perfect = simulate(tmp_path / "visit", replace(late.settings, cte=False))
    products = calibrated(late, 0, tmp_path / "trailed")
    which, without_traps = star_ratios(perfect, calibrated(perfect, 0, tmp_path / "perfect")["flt"])
    loss = {}
    for kind in ("flt", "flc"):
        same, ratios = star_ratios(late, products[kind])
        common, first, second = np.intersect1d(which, same, return_indices=True)
        assert common.size > 50
        loss[kind] = 1 - np.median(ratios[second] / without_traps[first])
    assert loss["flt"] > 0.001
    assert abs(loss["flc"]) < loss["flt"] / 3
