"""Statistics of weight maps against plain NumPy on whole arrays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from astropy.io import fits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batch.drizzling.coverage import PixelBox, cell_means, survey
from batch.drizzling.lazy import FitsImage
from batch.drizzling.weights import measure, open_weights, statistics
from batch.errors import InputError

Drizzled = Callable[..., np.ndarray]
Save = Callable[[dict[float, np.ndarray]], dict[float, Path]]
BOXES = (PixelBox(40, 90, 50, 100), PixelBox(100, 133, 101, 160))


def test_building_the_dataset_opens_nothing(tmp_path: Path) -> None:
    def opened(*_: Any, **__: Any) -> None:
        raise AssertionError("a block was computed while the dataset was built")

    images = {p: FitsImage(str(tmp_path / f"{p}.fits"), 0, (3000, 2000), np.dtype("f4")) for p in (0.5, 1.0)}
    with dask.config.set(scheduler=opened):
        dataset = open_weights(images, chunk=1000)
    assert dict(dataset.sizes) == {"pixfrac": 2, "y": 3000, "x": 2000}
    assert dataset["weight"].dtype == np.float32
    assert dataset["weight"].data.chunks == ((1, 1), (1000, 1000, 1000), (1000, 1000))
    with pytest.raises(InputError, match=r"0\.5\.fits\[0\]: cannot be read"):
        dataset["weight"][0, :10, :10].compute()


def test_numbers_equal_plain_float64_numpy(drizzled: Drizzled, save: Save) -> None:
    maps = {p: drizzled(p) for p in (0.1, 0.3, 0.8, 1.0)}
    result = statistics(save(maps), boxes=BOXES, chunk=64)
    coverage = survey(cell_means(maps[1.0]))
    deep = coverage.deep.repeat(8, 0).repeat(8, 1)[:200, :200]
    footprint = deep & (maps[1.0] >= np.float32(0.5 * coverage.nominal))
    for p, weight in maps.items():
        at = result.sel(pixfrac=p)
        boxes = [weight[b.slices].astype(np.float64) for b in BOXES]
        inside = weight[footprint].astype(np.float64)
        np.testing.assert_array_equal(at["median"], [np.median(b) for b in boxes])
        np.testing.assert_allclose(at["rms"], [b.std() for b in boxes], rtol=1e-13, atol=1e-10)
        np.testing.assert_allclose(at["mean"], [b.mean() for b in boxes], rtol=1e-14)
        np.testing.assert_allclose(at["box_rms_over_median"], at["rms"] / at["median"])
        assert at["rms_over_median"] == np.median(at["box_rms_over_median"])
        assert at["overall_median"] == np.median(inside)
        assert at["overall_rms"] == pytest.approx(inside.std(), rel=1e-13)
        np.testing.assert_array_equal(at["depth"], np.percentile(inside, result["percentile"]))
        assert at["empty_pixels"] == np.count_nonzero(inside == 0)
        assert at["empty_fraction"] == np.count_nonzero(inside == 0) / inside.size
    assert result["footprint_pixels"] == footprint.sum()


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chunk=st.integers(64, 260), threads=st.integers(1, 3), seed=st.integers(0, 99))
def test_chunks_threads_and_order_change_no_digit(
    drizzled: Drizzled, tmp_path: Path, chunk: int, threads: int, seed: int
) -> None:
    maps = {p: drizzled(p) for p in (0.2, 0.7, 1.0)}
    paths = {p: tmp_path / f"{p}.fits" for p in maps}
    for p, path in paths.items():
        fits.writeto(path, maps[p], overwrite=True)
    shuffled = np.random.default_rng(seed).permutation(list(paths))
    with dask.config.set(scheduler="synchronous"):
        plain = statistics(paths, box_size=64, chunk=4096)
    with dask.config.set(scheduler="threads", num_workers=threads):
        other = statistics({float(p): paths[p] for p in shuffled}, box_size=64, chunk=chunk)
    xr.testing.assert_identical(plain, other)


def test_holes_grow_as_drops_shrink(drizzled: Drizzled, save: Save) -> None:
    result = statistics(save({p: drizzled(p) for p in (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)}), box_size=64)
    assert (np.diff(result["rms_over_median"]) < 0).all()
    assert (np.diff(result["empty_fraction"]) <= 0).all()
    assert result["empty_fraction"][0] > 0.05
    assert result["empty_fraction"][-1] == 0
    assert result["masked_fraction"] == 0


def test_what_no_drop_can_fill_is_not_held_against_a_pixfrac(drizzled: Drizzled, save: Save) -> None:
    """A block of pixels that is bad in every exposure is missing at every pixfrac: masked, not empty."""
    maps = {p: drizzled(p) for p in (0.8, 1.0)}
    for weight in maps.values():
        weight[70:80, 60:75] = 0
    result = statistics(save(maps), box_size=32)
    assert result["empty_pixels"].values.tolist() == [0, 0]
    interior = survey(cell_means(maps[1.0])).interior.sum() * 64
    assert result["masked_fraction"] * interior == pytest.approx(150)


def test_a_hole_that_only_small_drops_leave_is_counted(drizzled: Drizzled, save: Save) -> None:
    maps = {p: drizzled(p) for p in (0.8, 1.0)}
    maps[0.8][70:75, 60:70] = 0
    assert statistics(save(maps), box_size=32)["empty_pixels"].values.tolist() == [50, 0]


def test_without_a_large_pixfrac_its_own_gaps_count(drizzled: Drizzled, save: Save) -> None:
    """With 0.1 alone every gap is in the largest pixfrac's map; they are gaps all the same."""
    (fraction,) = statistics(save({0.1: drizzled(0.1)}), box_size=64)["empty_fraction"].values
    assert fraction > 0.05


def test_negative_and_undefined_weights_count_as_none(drizzled: Drizzled, save: Save) -> None:
    maps = {p: drizzled(p) for p in (0.8, 1.0)}
    maps[0.8][70, 60:63] = (np.nan, -1, np.inf)
    assert statistics(save(maps), box_size=32)["empty_pixels"].values.tolist() == [3, 0]


def test_a_median_of_zero_has_an_infinite_ratio(drizzled: Drizzled, save: Save) -> None:
    result = statistics(save({p: drizzled(p, exptimes=(100.0,)) for p in (0.1, 1.0)}), box_size=64)
    assert result["rms_over_median"].values[0] == np.inf
    assert result["rms_over_median"].values[1] < 0.1


def test_reads_as_netcdf(drizzled: Drizzled, save: Save, tmp_path: Path) -> None:
    result = statistics(save({p: drizzled(p) for p in (0.5, 1.0)}), box_size=64)
    result.to_netcdf(tmp_path / "weights.nc", engine="scipy")
    with xr.open_dataset(tmp_path / "weights.nc", engine="scipy") as again:
        xr.testing.assert_identical(result, again.load())


def test_maps_inside_multi_extension_files_and_strings_as_paths(drizzled: Drizzled, tmp_path: Path) -> None:
    parts = [fits.PrimaryHDU(), fits.ImageHDU(np.zeros((200, 200), np.float32), name="SCI")]
    parts.append(fits.ImageHDU(drizzled(1.0), name="WHT"))
    fits.HDUList(parts).writeto(tmp_path / "hap_drz.fits")
    result = statistics({1.0: str(tmp_path / "hap_drz.fits")}, box_size=64)
    assert result["nominal_depth"] == pytest.approx(4 * 339, rel=0.01)


def test_errors(drizzled: Drizzled, save: Save) -> None:
    with pytest.raises(InputError, match="there are none"):
        statistics({})
    with pytest.raises(InputError, match=r"differ in shape: .*\(200, 200\).*\(208, 208\)"):
        statistics(save({0.5: drizzled(0.5), 1.0: drizzled(1.0, size=208)}))
    images = {1.0: np.zeros((200, 200), np.float32)}
    lazy = xr.Dataset(
        {"weight": (("pixfrac", "y", "x"), dask.array.from_array(images[1.0][None]))}, {"pixfrac": [1.0]}
    )
    with pytest.raises(InputError, match=r"pixfrac 1 has no weight"):
        measure(lazy)
