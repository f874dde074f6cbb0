"""From calibrated exposures to the sweep, on an undistorted field whose pointing errors are known."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from astropy.io import fits

from batch.model.record import Status

if TYPE_CHECKING:
    from conftest import Bench, Sky

pytestmark = pytest.mark.slow

COSMIC_RAY, STATIC = 4096, 16384


def image(path: Path) -> np.ndarray:
    return np.asarray(fits.getdata(path, 0), dtype=np.float64)


def test_without_an_idctab_the_linear_wcs_stays(swept: Bench, sky: Sky) -> None:
    record = swept.records["wcs/jtst01010/jtst01abq"]
    assert record.status is Status.SKIPPED
    assert "IDCTAB" in record.reason
    assert any("linear WCS" in note for note in record.notes)
    before, after = fits.getheader(sky.flts[1], "SCI"), fits.getheader(swept.path(record, "flt"), "SCI")
    assert all(before[k] == after[k] for k in ("CTYPE1", "CRVAL1", "CRVAL2", "CD1_1", "CD2_2"))


def test_alignment_finds_the_pointing_errors(swept: Bench) -> None:
    results = swept.records["align/jtst01010"].results
    assert results["reference"] == "jtst01aaq"
    assert "stars" in results["reason"]
    for root, error in {"jtst01abq": (11.0, -7.0), "jtst01acq": (-6.0, 14.0)}.items():
        fit = results["exposures"][root]
        assert (fit["dx"], fit["dy"]) == pytest.approx(error, abs=0.05)
        assert fit["rotation"] == pytest.approx(0, abs=0.01)
        assert fit["scale"] == pytest.approx(1, abs=2e-4)
        assert max(fit["rms_x"], fit["rms_y"]) < 0.1
        assert 80 < fit["matches"] <= fit["sources"]


def test_the_sweep_at_the_pixfrac_of_combine_equals_its_mosaic(swept: Bench) -> None:
    """Same grid, same sky, same masks (cosmic rays and static), same weights."""
    combined, again = swept.records["combine/jtst01010"], swept.records["sweep/jtst01010/pf1.0"]
    for kind in ("mosaic", "weight", "context"):
        first, second = image(swept.path(combined, kind)), image(swept.path(again, kind))
        np.testing.assert_allclose(second, first, rtol=1e-6, atol=1e-6, err_msg=kind)
    assert again.results["grid"] == combined.results["grid"]


def test_the_masks_are_in_the_dq_arrays(swept: Bench, sky: Sky) -> None:
    record = swept.records["combine/jtst01010"]
    for path in swept.paths(record, "flt"):
        root = path.name[:9]
        dq = fits.getdata(path, "DQ")
        assert np.mean((dq[sky.hits[root]] & COSMIC_RAY) != 0) > 0.95
        # the static mask is that of all exposures together
        assert (dq[7:10, 50:60] & (STATIC | COSMIC_RAY)).all()
        assert record.results["rejected"][root] == np.mean((dq & COSMIC_RAY) != 0)
        assert fits.getval(path, "MDRIZSKY", "SCI") == record.results["sky"][root][0]


@pytest.mark.parametrize("task", ["combine/jtst01010", "sweep/jtst01010/pf0.5"])
def test_the_sky_is_gone(swept: Bench, task: str) -> None:
    """A sweep without sky subtraction would have a level of 30 e- / 300 s, scaled to the smaller pixel."""
    pixels = image(swept.path(swept.records[task], "mosaic"))
    left = 30 / 300 * (0.03 / 0.05) ** 2
    assert abs(np.nanmedian(pixels)) < 0.05 * left
    sky = swept.records["combine/jtst01010"].results["sky"]
    assert all(levels == [pytest.approx(30, abs=0.3)] for levels in sky.values())


def test_sweep_products_have_plain_names_and_describe_themselves(swept: Bench) -> None:
    record = swept.records["sweep/jtst01010/pf0.5"]
    names = {p.kind: p.name for p in record.products}
    assert names == {
        "mosaic": "jtst01010_pf0.5_drz_sci.fits",
        "weight": "jtst01010_pf0.5_drz_wht.fits",
        "context": "jtst01010_pf0.5_drz_ctx.fits",
    }
    header = fits.getheader(swept.path(record, "mosaic"))
    assert header["FILENAME"] == names["mosaic"]
    assert header["D001OUWE"] == names["weight"]
    assert header["D001PIXF"] == 0.5
    assert header["NDRIZIM"] == 3
    shape = tuple(record.results["grid"]["shape"])
    assert all(p.shape == shape and p.hdu == 0 and p.dtype for p in record.products)


def test_a_smaller_drop_leaves_the_weight_less_even(swept: Bench) -> None:
    """Pixels of 0.03 from three exposures of 0.05 arcsec: halving the drop must show in the weights."""
    spread = {}
    for name in ("pf1.0", "pf0.5"):
        weight = image(swept.path(swept.records[f"sweep/jtst01010/{name}"], "weight"))
        inner = weight[100:-100, 100:-100]
        spread[name] = inner.std() / np.median(inner)
    assert spread["pf0.5"] > 2 * spread["pf1.0"]


def test_what_takes_long_to_import_is_imported_before_the_tasks(swept: Bench) -> None:
    """By modules that there are: a name that is none would only cost time."""
    asked = {t.stage: t.needs.imports for t in swept.tasks.values() if t.needs.imports}
    assert asked.pop("calibrate") == ("batch.calibration.stages",)
    assert set(asked) - {"sweep"} == {"align", "combine"}
    assert ("sweep" in asked) is (swept.settings.sweep.engine == "astrodrizzle")
    assert {*asked.values()} == {("drizzlepac",)}
    assert all(find_spec(m) for t in swept.tasks.values() for m in t.needs.imports)


def test_only_what_belongs_there_is_published(swept: Bench) -> None:
    for record in swept.records.values():
        listed = {p.name for p in swept.work.folder(record.id).iterdir()}
        assert listed - {p.name for p in record.products} <= {"record.json", "task.log"}


def test_exposures_that_do_not_overlap_are_refused_by_name(
    tmp_path: Path, expose: Callable[..., Sky], bench: Callable[..., Bench]
) -> None:
    there = expose(tmp_path / "sky", offsets=[(0, 0), (3, 1), (2000, 0)], errors=[(0, 0)] * 3)
    apart = bench(tmp_path / "work", there.flts)
    for e in apart.association.exposures:
        apart.do("wcs", exposure=e.rootname)
    record = apart.do("align")
    assert record.failure is not None
    assert record.failure.kind == "InputError"
    assert "jtst01acq: does not overlap" in record.failure.message
    assert "jtst01abq" not in record.failure.message


def test_an_alignment_that_is_not_good_enough_is_refused_with_its_numbers(
    tmp_path: Path, sky: Sky, bench: Callable[..., Bench]
) -> None:
    strict = bench(tmp_path / "work", sky.flts[:2], align={"max_rms": 0.001})
    for e in strict.association.exposures:
        strict.do("wcs", exposure=e.rootname)
    record = strict.do("align")
    assert record.failure is not None
    assert record.failure.kind == "InputError"
    assert "rms 0.0" in record.failure.message
    assert "align.max_rms" in record.failure.message
