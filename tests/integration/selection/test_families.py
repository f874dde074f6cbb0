"""Sweeps over scale and kernel as well: every combination is measured, judged and shown."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from astropy.io import fits
from rich.console import Console

from batch.config.mosaics import SelectSettings
from batch.drizzling.choice import choose
from batch.drizzling.coverage import PixelBox
from batch.errors import InputError
from batch.model.drizzle import combinations
from batch.reporting.terminal import sweep_table
from batch.stages import report, select, statistics

Maps = Callable[..., dict[float, np.ndarray]]
PIXFRACS = (0.5, 0.8, 1.0)


@pytest.fixture(scope="module")
def scales(fresh: Callable[[Path], Any], tmp_path_factory: pytest.TempPathFactory, maps: Maps) -> Any:
    """Two scales, three pixfracs, through to the report; only read by the tests."""
    published = fresh(tmp_path_factory.mktemp("scales"))
    for scale in (0.03, 0.04):
        published.sweep(maps(*PIXFRACS, scale=scale), scale=scale, family=f"s{scale}")
    published.run(statistics, box_size=64, tile=32)
    published.run(select)
    published.run(report)
    return published


def results(published: Any, stage: str) -> Any:
    return next(r.results for r in published.records if r.stage == stage)


def test_each_scale_has_a_file_of_its_own(scales: Any) -> None:
    families = results(scales, "statistics")["families"]
    paths = scales.inputs("select").files("statistics", "statistics")
    assert [p.name for p in paths] == ["j94f05010_s0.03_weights.nc", "j94f05010_s0.04_weights.nc"]
    for path, family, scale in zip(paths, families, (0.03, 0.04), strict=True):
        with xr.open_dataset(path) as dataset:
            assert dataset["pixfrac"].values.tolist() == list(PIXFRACS)
            ratios = dataset["rms_over_median"].values.tolist()
            assert ratios == [r["rms_over_median"] for r in family["pixfracs"]]
            assert (dataset.attrs["scale"], dataset.attrs["kernel"]) == (scale, "square")
        assert (family["scale"], family["kernel"], family["file"]) == (scale, "square", path.name)


def test_boxes_are_the_same_on_the_sky(scales: Any) -> None:
    fine, coarse = (f["boxes"] for f in results(scales, "statistics")["families"])
    assert len(fine) == len(coarse) > 0
    for one, other in zip(fine, coarse, strict=True):
        for key, value in one.items():
            assert abs(other[key] - 0.75 * value) < 1
            assert (other[key] >= 0.75 * value) if key.endswith("0") else (other[key] <= 0.75 * value)
    weights = [p for p in scales.inputs("x").files("sweep", "weight") if "_pf0.5_s0.04_" in p.name]
    row = results(scales, "statistics")["families"][1]["pixfracs"][0]
    for box, found in zip(coarse, row["box_rms_over_median"], strict=True):
        cut = fits.getdata(weights[0])[box["y0"] : box["y1"], box["x0"] : box["x1"]].astype(np.float64)
        assert found == pytest.approx(cut.std() / np.median(cut), rel=1e-12)


def test_larger_pixels_are_filled_more_evenly(scales: Any) -> None:
    fine, coarse = (f["pixfracs"] for f in results(scales, "statistics")["families"])
    assert fine[0]["rms_over_median"] > 1.2 * coarse[0]["rms_over_median"]


def test_the_same_stars_are_measured_at_every_scale(scales: Any) -> None:
    first, second = (xr.open_dataset(p) for p in scales.inputs("report").files("select", "stars"))
    with first, second:
        assert first.sizes["star"] == second.sizes["star"] >= 5
        for axis in ("x", "y"):
            assert (np.abs((second[axis] + 0.5) / 0.75 - (first[axis] + 0.5)) <= 1 / 0.75).all()
        widths, others = (d["fwhm"].sel(pixfrac=1.0).values for d in (first, second))
        known = np.isfinite(widths) & np.isfinite(others)
        assert known.sum() >= 5
        np.testing.assert_allclose(others[known], widths[known], rtol=0.02)
        fluxes = [d["flux"].sel(pixfrac=1.0).isel(aperture=1).values[known] for d in (first, second)]
        # per pixel: nine sixteenths of the area
        assert np.median(fluxes[0] / fluxes[1]) == pytest.approx(16 / 9, rel=0.02)


def test_every_combination_has_its_verdict_everywhere(scales: Any) -> None:
    found = results(scales, "select")
    names = [f"pf{p}_s{s}" for s in (0.03, 0.04) for p in PIXFRACS]
    assert [v["name"] for v in found["verdicts"]] == names
    passing = [v for v in found["verdicts"] if v["passes"]]
    assert {v["scale"] for v in passing} == {0.03, 0.04}
    assert found["name"] == passing[0]["name"]
    assert found["scale"] == 0.03
    assert found["why"] == (
        f"pixfrac {found['pixfrac']} at 0.03 arcsec leaves no holes, an even weight map and round stars, and "
        "is preferred (the finest scale first, then the smallest pixfrac)"
    )
    header = fits.getheader(scales.inputs("report").file("select", "chosen"))
    assert (header["PIXFRAC"], header["PFSCALE"], header["PFKERNEL"]) == (found["pixfrac"], 0.03, "square")
    assert header["PFNTRIED"] == 6
    history = "".join(map(str, header["HISTORY"]))
    for verdict in found["verdicts"]:
        assert f"{verdict['name']} RMS/median {verdict['rms_over_median']:.4f}" in history


def test_page_and_terminal_show_them(scales: Any) -> None:
    html = (scales.products / "report/j94f05010/j94f05010.html").read_text(encoding="utf-8")
    found = results(scales, "select")
    assert f"Pixfrac {found['pixfrac']} at 0.03 arcsec" in html
    assert html.count("scale, ″") == 2
    record = next(r for r in scales.records if r.stage == "select")
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(sweep_table("j94f05010", record))
    words = console.export_text()
    assert "j94f05010: scale, pixfrac" in words
    assert words.count("0.04 ") == 3
    for verdict in found["verdicts"]:
        assert f"{verdict['rms_over_median']:.3f}" in html
        assert f"{verdict['rms_over_median']:.3f}" in words


def test_the_grids_of_kernels_have_the_same_boxes(published: Any, maps: Maps) -> None:
    for kernel, pixfracs in (("turbo", (0.8, 1.0)), ("square", (0.8, 1.0))):
        published.sweep(maps(*pixfracs), kernel=kernel, family=kernel)
    outcome = published.run(statistics, box_size=64)
    first, second = outcome.results["families"]
    assert (first["kernel"], second["kernel"]) == ("turbo", "square")
    assert first["boxes"] == second["boxes"]
    chosen = published.run(select)
    # both are the same maps here: the first kernel of the settings wins
    assert chosen.results["name"] == "pf0.8_turbo"
    assert chosen.results["label"] == "pixfrac 0.8 with the turbo kernel"
    assert chosen.products[0].name == "j94f05010_drz.fits"
    published.run(report)


def test_points_leave_holes_at_any_pixfrac(published: Any, maps: Maps) -> None:
    """Drops of no size are not gapless because their pixfrac is called 1: what is empty counts."""
    (weight,) = maps(0.1).values()
    published.sweep({1.0: weight}, kernel="point")
    (family,) = published.run(statistics, box_size=64).results["families"]
    assert family["pixfracs"][0]["empty_pixels"] > 1000


def test_a_box_that_is_too_small_on_the_coarse_grid(published: Any, maps: Maps) -> None:
    for scale in (0.03, 0.06):
        published.sweep(maps(1.0, scale=scale), scale=scale, family=f"s{scale}")
    with pytest.raises(
        InputError, match=r"statistics\.boxes x 101:104, y 100:120: holds 1 x 10 whole pixels"
    ):
        published.run(statistics, boxes=[{"x0": 101, "x1": 104, "y0": 100, "y1": 120}])


def test_a_box_on_another_grid_is_what_lies_whole_in_it() -> None:
    assert PixelBox(40, 80, 0, 12).on_grid(0.75) == PixelBox(30, 60, 0, 9)
    assert PixelBox(41, 79, 1, 12).on_grid(0.75) == PixelBox(31, 59, 1, 9)
    assert PixelBox(3, 9, 3, 9).on_grid(1.0) == PixelBox(3, 9, 3, 9)


def rows(passing: set[str], *given: Any) -> list[dict[str, Any]]:
    return [
        {
            "name": d.name,
            "pixfrac": d.pixfrac,
            "scale": d.scale,
            "kernel": d.kernel,
            "rms_over_median": 0.1 if d.name in passing else 0.5,
            "empty_fraction": 0.0,
            "empty_pixels": 0,
        }
        for d in combinations(*given)
    ]


BOTH = ((0.5, 0.8), (0.04, 0.03), ("square", "gaussian"))


@pytest.mark.parametrize(
    ("passing", "chosen"),
    [
        ({"pf0.8_s0.03_square", "pf0.5_s0.04_square"}, "pf0.8_s0.03_square"),
        ({"pf0.5_s0.04_square", "pf0.8_s0.04_square"}, "pf0.5_s0.04_square"),
        ({"pf0.8_s0.04_square", "pf0.5_s0.03_gaussian"}, "pf0.8_s0.04_square"),
        ({"pf0.5_s0.04_gaussian", "pf0.8_s0.03_gaussian"}, "pf0.8_s0.03_gaussian"),
        (set(), "pf0.8_s0.04_square"),
    ],
)
def test_the_order_of_preference(passing: set[str], chosen: str) -> None:
    choice = choose(rows(passing, *BOTH), SelectSettings())
    assert (choice.name, choice.passed) == (chosen, bool(passing))
    assert len(choice.verdicts) == 8
    assert {v.name for v in choice.verdicts if v.passes} == passing
    if not passing:
        assert choice.why == (
            "nothing passes; pixfrac 0.8 at 0.04 arcsec with the square kernel is the best compromise: the "
            "coarsest pixels, the largest drops"
        )
