"""An exposure whose header asks for the CTE correction goes on as flc."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from batch.simulation.visit import VisitSettings, simulate

if TYPE_CHECKING:
    from conftest import Run

pytestmark = pytest.mark.slow


def finished(run: Run) -> Run:
    done = run()
    assert done.returncode == 0, done.stdout + done.stderr
    return run


def test_trailed_charge_comes_back(tmp_path: Path, run_class: type[Run]) -> None:
    settings = VisitSettings(
        size="1k", exposures=1, short_exptime=None, date="2013-03-13", cte=True, cosmic_rays=0, stars=20_000
    )
    visit = simulate(tmp_path / "visit", settings)
    twin = simulate(tmp_path / "twin", replace(settings, cte=False))
    run = finished(run_class(visit.raw, visit.crds, tmp_path / "work", "--until", "wcs"))
    untrailed = finished(run_class(twin.raw, twin.crds, tmp_path / "other", "--until", "calibrate"))
    (root,) = visit.rootnames
    task = f"calibrate/{visit.association}/{root}"
    images = {}
    for kind, switch in (("flt", "PERFORM"), ("flc", "COMPLETE")):
        with fits.open(run.work / "products" / task / f"{root}_{kind}.fits", memmap=False) as hdus:
            assert hdus[0].header["PCTECORR"] == switch
            images[kind] = hdus["SCI", 1].data
    perfect = fits.getdata(untrailed.work / "products" / task / f"{root}_flt.fits", ("SCI", 1))
    assert _lost(images["flt"], perfect, visit.truth / "stars.ecsv", root) > 0.01
    assert abs(_lost(images["flc"], perfect, visit.truth / "stars.ecsv", root)) < 0.004
    record = run.records()[f"wcs/{visit.association}/{root}"]
    assert [p["name"] for p in record["products"]] == [f"{root}_flc.fits"]
    (planned,) = [
        t for t in json.loads((run.work / "plan.json").read_text())["tasks"] if t["stage"] == "calibrate"
    ]
    assert 0.5 < run.records()[task]["usage"]["peak_memory"] / planned["needs"]["memory"] < 1


def _lost(image: np.ndarray, perfect: np.ndarray, truth: Path, root: str) -> float:
    """Flux that faint stars far from the amplifier have lost from a small aperture, as a median fraction."""
    stars = Table.read(truth)
    x, y = (np.asarray(stars[f"{root}_{a}"]) - 1 for a in "xy")
    flux = np.asarray(stars["FLUX"])
    chosen = (np.asarray(stars[f"{root}_chip"]) > 0) & (flux > 8) & (flux < 60)
    chosen &= (x > 8) & (x < image.shape[1] - 9) & (y > 600) & (y < image.shape[0] - 9)
    lost = []
    for i in np.flatnonzero(chosen):
        if flux[np.hypot(x - x[i], y - y[i]) < 9].sum() < 1.02 * flux[i]:
            lost.append(1 - _aperture(image, x[i], y[i]) / _aperture(perfect, x[i], y[i]))
    assert len(lost) > 100
    return float(np.median(lost))


def _aperture(image: np.ndarray, x: float, y: float) -> float:
    column, row = round(x), round(y)
    cut = image[row - 8 : row + 9, column - 8 : column + 9]
    # the sky from the sides: trails run along columns
    sky = np.median(np.concatenate([cut[:, :3].ravel(), cut[:, -3:].ravel()]))
    return float((cut[5:12, 5:12] - sky).sum())
