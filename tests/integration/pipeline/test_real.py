"""Three real HRC exposures of NGC 104, from raw to mosaic, with a CRDS cache that lacks most files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from astropy.io import fits
from astropy.stats import mad_std, sigma_clipped_stats
from astropy.wcs import WCS
from photutils.centroids import centroid_com
from photutils.detection import find_peaks

if TYPE_CHECKING:
    from conftest import Run

pytestmark = pytest.mark.slow

NAMES = {
    "j8bt05njq": "j8bt05_hrc_f555w",
    "j8bt06o6q": "j8bt06_hrc_f606w",
    "j8bt09jcq": "j8bt09_hrc_f330w",
}


@pytest.fixture(scope="module")
def real(shared: Path, tmp_path_factory: pytest.TempPathFactory, run_class: type[Run]) -> Run:
    """A finished run with missing references omitted."""
    run = run_class(
        shared / "data/real",
        shared / "data/crds_cache",
        tmp_path_factory.mktemp("real") / "work",
        "--set",
        "sweep.pixfrac=[0.5, 1.0]",
    )
    done = run("--missing-references", "omit")
    assert done.returncode == 0, done.stdout + done.stderr
    run.output = done.stdout
    return run


def mosaic(run: Run, root: str) -> tuple[np.ndarray, np.ndarray, WCS]:
    path = run.work / "products/select" / NAMES[root] / f"{NAMES[root]}_drz.fits"
    with fits.open(path, memmap=False) as hdus:
        return hdus["SCI"].data, hdus["WHT"].data, WCS(hdus["SCI"].header)


def raw_stars(shared: Path, root: str) -> tuple[np.ndarray, np.ndarray]:
    """Centroids of bright sources in the raw frame (zero-based x, y), and their sky positions."""
    with fits.open(shared / f"data/real/{root}_raw.fits", memmap=False) as hdus:
        data = hdus["SCI", 1].data.astype(float)
        wcs = WCS(hdus["SCI", 1].header)
    inside = np.zeros(data.shape, bool)
    inside[30:990, 50:1010] = True
    _, level, noise = sigma_clipped_stats(data[inside])
    peaks = find_peaks(np.where(inside, data - level, 0), 60 * noise, box_size=21)
    positions = []
    for x, y, value in zip(peaks["x_peak"], peaks["y_peak"], peaks["peak_value"], strict=True):
        cut = data[y - 2 : y + 3, x - 2 : x + 3] - level
        # a star fills its neighbours, a cosmic ray or hot pixel seldom does; saturated ones have no peak
        if value < 40_000 and np.sort(cut.ravel())[-9] > 0.15 * value:
            dx, dy = centroid_com(np.clip(cut, 0, None))
            positions.append((x - 2 + dx, y - 2 + dy))
    found = np.array(positions)
    return found, np.array(wcs.all_pix2world(found, 0))


def test_without_the_switch_one_message_lists_every_missing_file(
    shared: Path, tmp_path: Path, run_class: type[Run]
) -> None:
    run = run_class(shared / "data/real", shared / "data/crds_cache", tmp_path / "work")
    done = run()
    assert done.returncode == 1
    assert "15 reference files are not in the CRDS cache" in done.stderr
    for name in ("o1515069j_ccd.fits", "m4m0925ij_bia.fits", "p7d1548qj_idc.fits", "v9718264j_npl.fits"):
        assert done.stderr.count(name) == 1
    assert "--missing-references omit" in done.stderr
    assert not run.records()


def test_three_associations_end_with_frames_and_mosaics(real: Run) -> None:
    for root, name in NAMES.items():
        flt = real.work / f"products/calibrate/{name}/{root}/{root}_flt.fits"
        header = fits.getheader(flt, 0)
        assert header["BLEVCORR"] == "COMPLETE"
        assert fits.getdata(flt, 1).shape == (1024, 1024)
        assert (real.work / f"products/select/{name}/{name}_drz.fits").is_file()
        assert (real.work / f"products/report/{name}/{name}.html").is_file()


def test_what_was_omitted_is_said_in_header_log_and_report(real: Run) -> None:
    for root, name in NAMES.items():
        header = fits.getheader(real.work / f"products/calibrate/{name}/{root}/{root}_flt.fits", 0)
        omitted = {
            s for s in ("DQICORR", "BIASCORR", "DARKCORR", "FLATCORR", "PHOTCORR") if header[s] == "OMIT"
        }
        assert len(omitted) == 5
        history = " ".join(header["HISTORY"])
        log = (real.work / f"products/references/{name}/{root}/task.log").read_text()
        page = (real.work / f"products/report/{name}/{name}.html").read_text()
        for text in (history, log, page, real.output):
            assert all(s in text for s in omitted)
        record = json.loads((real.work / f"products/references/{name}/{root}/record.json").read_text())
        assert all(file in page for file in record["results"]["missing"].values())
        assert "handbook" in page
        assert "CCDTAB" in page


@pytest.mark.parametrize("root", NAMES)
def test_raw_and_mosaic_agree_on_where_the_stars_are(real: Run, shared: Path, root: str) -> None:
    """The mosaic has a star, centred to a third of a pixel, wherever the raw frame's WCS puts one."""
    image, weight, wcs = mosaic(real, root)
    _, sky = raw_stars(shared, root)
    assert len(sky) > 30
    offsets = []
    for x, y in np.array(wcs.all_world2pix(sky, 0)):
        i, j = round(y), round(x)
        cut = image[i - 3 : i + 4, j - 3 : j + 4]
        assert cut.shape == (7, 7)
        assert weight[i, j] > 0
        cut = np.clip(cut - np.median(image[i - 12 : i + 13, j - 12 : j + 13]), 0, None)
        dx, dy = centroid_com(cut)
        offsets.append((j - 3 + dx - x, i - 3 + dy - y))
    found = np.array(offsets)
    assert np.hypot(*np.median(found, axis=0)) < 0.2
    assert mad_std(found[:, 0]) < 0.33
    assert mad_std(found[:, 1]) < 0.33
    assert np.mean(np.hypot(*found.T) < 1.0) > 0.8


@pytest.mark.parametrize("root", NAMES)
def test_the_background_is_near_zero(real: Run, root: str) -> None:
    """Bias and sky are gone: the bias alone would leave about 80 e-/s.

    The field is crowded everywhere, so that the sky is no sharper defined than the stars between the stars.
    """
    image, weight, _ = mosaic(real, root)
    covered = image[weight > 0]
    assert np.isfinite(covered).all()
    assert abs(np.median(covered)) < 0.3
    _, clipped, _ = sigma_clipped_stats(covered, sigma=2.5, maxiters=10)
    assert abs(clipped) < 1.0


def test_two_filters_show_the_same_stars(real: Run, shared: Path) -> None:
    """F555W and F330W were taken at different pointings; their sources share one offset on the sky."""
    _, first = raw_stars(shared, "j8bt05njq")
    _, second = raw_stars(shared, "j8bt09jcq")
    scale = 3600 * np.array([np.cos(np.radians(72.08)), 1.0])
    offsets = ((first[:, None] - second[None]) * scale).reshape(-1, 2)
    near = offsets[np.abs(offsets).max(axis=1) < 2.0]
    counts, _, _ = np.histogram2d(near[:, 0], near[:, 1], bins=20, range=[[-2, 2], [-2, 2]])
    assert counts.max() >= 5
    assert counts.max() > 5 * max(counts.mean(), 0.5)
