"""Sweeps over scale and kernel beside pixfrac, from the masked exposures to the chosen mosaic."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import xarray as xr
from astropy.io import fits
from astropy.wcs import WCS

from batch.runtime.company import companies

if TYPE_CHECKING:
    from conftest import Bench, Sky

NAME = "jtst01010"


@pytest.fixture(scope="module")
def combined(tmp_path_factory: pytest.TempPathFactory, sky: Sky, bench: Callable[..., Bench]) -> Bench:
    """Three exposures, through combine; only read by the tests."""
    made = bench(tmp_path_factory.mktemp("combined"), sky.flts)
    made.through("combine")
    return made


@pytest.fixture(scope="module")
def staggered(
    tmp_path_factory: pytest.TempPathFactory, expose: Callable[..., Sky], bench: Callable[..., Bench]
) -> Bench:
    """The same of exposures that go down to the right, so that two corners of the mosaic stay empty."""
    folder = tmp_path_factory.mktemp("staggered")
    sky = expose(folder / "sky", ((0.0, 0.0), (60.0, -50.0), (120.0, -100.0)))
    made = bench(folder / "work", sky.flts)
    made.through("combine")
    return made


def run(made: Bench) -> list[list[str]]:
    """The sweep in as few processes as may be, then what follows it; returns who shared a process."""
    todo = [t for t in made.tasks.values() if t.stage == "sweep"]
    shared = companies(todo)
    for group in shared:
        for record in made.share(*group):
            assert record.status.ok, record.failure
    for stage in ("statistics", "select", "report"):
        record = made.do(stage)
        assert record.status.ok, record.failure
    return [[t.drizzle.name for t in group if t.drizzle] for group in shared]


def image(made: Bench, name: str, kind: str) -> np.ndarray:
    path = made.path(made.records[f"sweep/{NAME}/{name}"], kind)
    return np.asarray(fits.getdata(path, 0), dtype=np.float64)


@pytest.mark.slow
def test_two_scales(combined: Bench) -> None:
    made = combined.sweeping(pixfrac=(0.8, 1.0), scale=(0.05, 0.03))
    assert run(made) == [["pf0.8_s0.03", "pf1.0_s0.03"], ["pf0.8_s0.05", "pf1.0_s0.05"]]
    # the scale of combine is its own grid, pixel by pixel
    first = made.path(made.records[f"combine/{NAME}"], "weight")
    np.testing.assert_allclose(image(made, "pf1.0_s0.03", "weight"), fits.getdata(first), rtol=1e-6)
    weights = {s: image(made, f"pf0.8_s{s}", "weight") for s in (0.03, 0.05)}
    assert weights[0.05].sum() == pytest.approx(weights[0.03].sum(), rel=1e-6)
    fine, coarse = (made.path(made.records[f"sweep/{NAME}/pf0.8_s{s}"], "mosaic") for s in (0.03, 0.05))
    assert coarse.name == f"{NAME}_pf0.8_s0.05_drz_sci.fits"
    one, other = (WCS(fits.getheader(p)) for p in (fine, coarse))
    # the lower left corner of the area is a corner of pixels on both
    np.testing.assert_allclose(one.wcs_pix2world([[0.5, 0.5]], 1), other.wcs_pix2world([[0.5, 0.5]], 1))
    assert fits.getval(coarse, "D001SCAL") == pytest.approx(0.05, rel=1e-6)
    # light: electrons / s per output pixel
    middles = [image(made, f"pf1.0_s{s}", "mosaic") for s in (0.03, 0.05)]
    totals = [np.nansum(m) for m in middles]
    assert totals[0] == pytest.approx(totals[1], rel=2e-3)
    chosen = made.records[f"select/{NAME}"].results
    assert [v["name"] for v in chosen["verdicts"]] == [
        f"pf{p}_s{s}" for s in (0.03, 0.05) for p in ("0.8", "1.0")
    ]
    assert chosen["rule"] == "the finest scale first, then the smallest pixfrac"
    for path in made.paths(made.records[f"statistics/{NAME}"], "statistics"):
        with xr.open_dataset(path) as dataset:
            assert dataset.sizes["pixfrac"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["multi", "astrodrizzle"])
@pytest.mark.parametrize("scale", [(), (0.03, 0.06)])
def test_a_box_beside_the_exposures_is_refused_before_the_sweep(
    staggered: Bench, engine: str, scale: tuple[float, ...]
) -> None:
    """It lies on the mosaic, in a corner that no exposure reaches."""
    weight = np.asarray(fits.getdata(staggered.path(staggered.records[f"combine/{NAME}"], "weight")))
    assert not weight[:24, :24].any()
    corner = {"x0": 0, "x1": 24, "y0": 0, "y1": 24}
    made = staggered.sweeping([corner], pixfrac=(1.0,), scale=scale, engine=engine)
    task = next(t for t in made.tasks.values() if t.stage == "sweep")
    (record,) = made.share(task)
    assert record.failure is not None
    assert record.failure.message.startswith("statistics.boxes x 0:24, y 0:24: lies outside the footprint")
    assert not record.products
    # what is made does not depend on boxes: with others it stays as it is
    others = staggered.sweeping(pixfrac=(1.0,), scale=scale, engine=engine)
    assert others.tasks[task.id].fingerprint == task.fingerprint


@pytest.mark.slow
def test_a_pixfrac_that_joins_a_sweep_leaves_the_others_as_they_are(swept: Bench) -> None:
    before, after = (swept.sweeping(pixfrac=p) for p in ((0.8, 1.0), (0.5, 0.8, 1.0)))
    for name in ("pf0.8", "pf1.0"):
        task = f"sweep/{NAME}/{name}"
        assert before.tasks[task] == after.tasks[task]
    assert before.tasks[f"select/{NAME}"] != after.tasks[f"select/{NAME}"]


@pytest.mark.slow
def test_two_kernels_by_two_engines(combined: Bench) -> None:
    made = combined.sweeping(pixfrac=(1.0,), kernel=("square", "gaussian"))
    assert run(made) == [["pf1.0_square"], ["pf1.0_gaussian"]]
    engines = {n: made.records[f"sweep/{NAME}/pf1.0_{n}"].results["engine"] for n in ("square", "gaussian")}
    assert engines == {"square": "multi", "gaussian": "astrodrizzle"}
    headers = [fits.getheader(made.path(made.records[f"sweep/{NAME}/pf1.0_{n}"], "mosaic")) for n in engines]
    assert [h["D001KERN"] for h in headers] == ["square", "gaussian"]
    shapes = {image(made, f"pf1.0_{n}", "weight").shape for n in engines}
    assert len(shapes) == 1
    square, gaussian = (image(made, f"pf1.0_{n}", "weight") for n in engines)
    assert np.abs(square - gaussian).max() > 1
    found = made.records[f"statistics/{NAME}"].results["families"]
    assert [f["kernel"] for f in found] == ["square", "gaussian"]
    assert found[0]["boxes"] == found[1]["boxes"]
    assert made.records[f"select/{NAME}"].results["name"].startswith("pf1.0_square")


@pytest.mark.slow
def test_astrodrizzle_on_a_rescaled_grid(combined: Bench, tmp_path: Path) -> None:
    """Both engines make the same of another scale."""
    images = {}
    for engine in ("multi", "astrodrizzle"):
        made = combined.sweeping(pixfrac=(0.8,), scale=(0.045,), engine=engine)
        record = made.do("sweep", pixfrac=0.8)
        assert record.status.ok, record.failure
        assert record.results["scale"] == 0.045
        assert record.subject == f"{NAME}/pf0.8"
        images[engine] = {kind: image(made, "pf0.8", kind) for kind in ("mosaic", "weight", "context")}
        images[engine]["grid"] = record.results["grid"]
    grids = [images[e]["grid"] for e in ("multi", "astrodrizzle")]
    assert grids[0]["shape"] == grids[1]["shape"]
    for key in ("crval", "crpix", "cd"):
        np.testing.assert_allclose(grids[0][key], grids[1][key], rtol=1e-9, err_msg=key)
    for kind in ("mosaic", "weight", "context"):
        ours, theirs = (images[e][kind] for e in ("multi", "astrodrizzle"))
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6, err_msg=kind)
