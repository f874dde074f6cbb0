"""Tiles and the edge of weight maps against plain NumPy on whole arrays; maps of others."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import dask
import numpy as np
import pytest
import xarray as xr
from astropy.io import fits

from batch.drizzling.coverage import cell_means, survey
from batch.drizzling.weight_tiles import assemble, tile_block
from batch.drizzling.weights import statistics
from batch.errors import InputError

Drizzled = Callable[..., np.ndarray]
Save = Callable[[dict[float, np.ndarray]], dict[float, Path]]


def regions(largest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Footprint and edge as the module says, of whole pixels."""
    coverage = survey(cell_means(largest))
    ny, nx = largest.shape
    deep, covered = (c.repeat(8, 0).repeat(8, 1)[:ny, :nx] for c in (coverage.deep, coverage.covered))
    return deep & (largest >= np.float32(0.5 * coverage.nominal)), covered & ~deep & (largest > 0)


def test_tiles_equal_plain_float64_numpy(drizzled: Drizzled, save: Save) -> None:
    maps = {p: drizzled(p, size=203) for p in (0.1, 0.6, 1.0)}
    maps[1.0][60:64, 90:97] = 0
    result = statistics(save(maps), box_size=32, tile=40)
    inside, _ = regions(maps[1.0])
    seen = 0
    for p, weight in maps.items():
        at = result.sel(pixfrac=p)
        for row, y in enumerate(range(0, 203, 40)):
            for column, x in enumerate(range(0, 203, 40)):
                cut = np.s_[y : y + 40, x : x + 40]
                values = weight[cut][inside[cut]].astype(np.float64)
                tile = at.isel(tile_y=row, tile_x=column)
                assert tile["tile_pixels"] == values.size
                assert tile["tile_empty_pixels"] == np.count_nonzero(values == 0)
                if values.size < 800:
                    assert np.isnan(tile["tile_rms_over_median"])
                    continue
                seen += 1
                assert tile["tile_rms"] == values.std()
                assert tile["tile_median"] == np.median(values)
                assert tile["tile_rms_over_median"] == values.std() / np.median(values)
    assert seen == 3 * 15
    assert result["tile_y"].values.tolist() == [19.5, 59.5, 99.5, 139.5, 179.5, 219.5]
    assert result.attrs["tile"] == 40


def test_summaries_of_tiles_are_values_of_tiles(drizzled: Drizzled, save: Save) -> None:
    result = statistics(save({p: drizzled(p) for p in (0.5, 1.0)}), box_size=64, tile=32)
    for p in (0.5, 1.0):
        at = result.sel(pixfrac=p)
        ratios = np.sort(at["tile_rms_over_median"].values.ravel())
        ratios = ratios[~np.isnan(ratios)]
        assert at["tiles_middle"].item() in ratios
        assert (ratios <= at["tiles_high"].values).mean() >= 0.95
        assert np.quantile(ratios, 0.94) <= at["tiles_high"] <= ratios.max()


@pytest.mark.parametrize(("tile", "chunk"), [(40, 64), (64, 100), (32, 32), (250, 64)])
def test_tiles_do_not_depend_on_chunks(drizzled: Drizzled, save: Save, tile: int, chunk: int) -> None:
    paths = save({p: drizzled(p) for p in (0.3, 0.9)})
    with dask.config.set(scheduler="threads", num_workers=3):
        first = statistics(paths, box_size=64, tile=tile, chunk=chunk)
    xr.testing.assert_identical(first, statistics(paths, box_size=64, tile=tile, chunk=4096))


def test_a_tile_shows_where_the_weight_is_uneven(drizzled: Drizzled, save: Save) -> None:
    weight = drizzled(1.0)
    weight[80:120, 120:160:2] *= 0.7
    result = statistics(save({1.0: weight}), box_size=32, tile=40)["tile_rms_over_median"][0]
    assert np.unravel_index(np.nanargmax(result), result.shape) == (2, 3)


def test_the_edge_frays_as_drops_shrink(drizzled: Drizzled, save: Save) -> None:
    maps = {p: drizzled(p, exptimes=(100.0, 100.0)) for p in (0.1, 0.4, 0.7, 1.0)}
    result = statistics(save(maps), box_size=64)
    _, edge = regions(maps[1.0])
    assert result["edge_pixels"] == edge.sum() > 1000
    for p, weight in maps.items():
        empty = np.count_nonzero(weight[edge] == 0)
        assert result["edge_empty_pixels"].sel(pixfrac=p) == empty
        assert result["edge_empty_fraction"].sel(pixfrac=p) == empty / edge.sum()
    assert (np.diff(result["edge_empty_fraction"]) <= 0).all()
    assert result["edge_empty_fraction"][0] > 0.1
    assert result["edge_empty_fraction"][-1] == 0


def test_places_of_one_exposure_in_four_belong_to_the_edge(save: Save) -> None:
    weight = np.zeros((240, 240), np.float32)
    weight[20:220, 20:160] = 400
    weight[20:220, 160:220] = 100
    assert statistics(save({0.8: weight}), box_size=32)["edge_pixels"] > 180 * 50


def test_blocks_of_tiles_fall_into_place() -> None:
    rng = np.random.default_rng(3)
    weights = rng.gamma(4, 10, (96, 70)).astype(np.float32)
    inside = rng.uniform(size=weights.shape) < 0.8
    whole = tile_block(weights, inside, 32, (0, 0))
    parts = [
        tile_block(weights[y : y + 32, x : x + 64], inside[y : y + 32, x : x + 64], 32, (y, x))
        for y in (64, 0, 32)
        for x in (64, 0)
    ]
    joined = assemble(parts, (3, 3))
    for name in ("size", "zeros", "rms", "median", "ratio"):
        np.testing.assert_array_equal(getattr(joined, name), getattr(whole, name))


def test_a_median_of_zero_has_an_infinite_ratio() -> None:
    weights = np.zeros((32, 32), np.float32)
    weights[:10] = 5
    tiles = tile_block(weights, np.ones((32, 32), bool), 32, (0, 0))
    assert tiles.ratio.tolist() == [[np.inf]]
    assert tile_block(weights, np.zeros((32, 32), bool), 32, (0, 0)).size.tolist() == [[0]]


def hap(path: Path, weight: np.ndarray, **primary: float) -> Path:
    """A product as the HAP pipeline lays it out: pixels in extensions, no data where nothing was seen."""
    science = np.where(weight > 0, 1, np.nan).astype(np.float32)
    fits.HDUList(
        [
            fits.PrimaryHDU(header=fits.Header({"TELESCOP": "HST", **primary})),
            fits.ImageHDU(science, name="SCI", ver=1),
            fits.ImageHDU(weight, name="WHT", ver=1),
            fits.ImageHDU((weight > 0).astype(np.int32), name="CTX", ver=1),
            fits.BinTableHDU.from_columns(
                [fits.Column("ROOTNAME", "9A", array=["j8bt06nxq"])], name="HDRTAB"
            ),
        ]
    ).writeto(path)
    return path


def test_products_of_others_tell_their_pixfrac(drizzled: Drizzled, save: Save, tmp_path: Path) -> None:
    maps = {p: drizzled(p) for p in (0.5, 1.0)}
    names = {0.5: "hst_10368_05_acs_wfc_f606w_j94f05_drc.fits", 1.0: "hst_10368_05_acs_wfc_f606w_drz.fits"}
    paths = [hap(tmp_path / names[p], maps[p], D001PIXF=p) for p in (1.0, 0.5)]
    plain = statistics(save(maps), box_size=64)
    xr.testing.assert_identical(statistics(paths, box_size=64), plain)
    xr.testing.assert_identical(statistics(map(str, paths), box_size=64), plain)
    alone = statistics(paths[1], box_size=64)
    assert alone["pixfrac"].values.tolist() == [0.5]


def test_maps_that_do_not_tell_their_pixfrac(drizzled: Drizzled, tmp_path: Path) -> None:
    weight = drizzled(1.0)
    silent, first, second = (
        hap(tmp_path / f"{n}_drz.fits", weight, **k)
        for n, k in (("silent", {}), ("first", {"D001PIXF": 1.0}), ("second", {"D001PIXF": 1.0}))
    )
    with pytest.raises(InputError, match=r"silent_drz\.fits: the header has no D001PIXF.*\{pixfrac: file\}"):
        statistics([silent])
    with pytest.raises(InputError, match=r"second_drz\.fits: has the pixfrac 1 of .*first_drz\.fits"):
        statistics([first, second])
    with pytest.raises(InputError, match="there are none"):
        statistics([])


def test_images_that_are_no_weight_are_not_taken_for_one(tmp_path: Path) -> None:
    parts = [
        fits.PrimaryHDU(),
        *(fits.ImageHDU(np.ones((64, 64), np.float32), name=n) for n in ("SCI", "ERR")),
    ]
    fits.HDUList(parts).writeto(tmp_path / "a_flt.fits")
    with pytest.raises(InputError, match=r"a_flt\.fits: holds 2 images, none of them WHT"):
        statistics({1.0: tmp_path / "a_flt.fits"})


def test_maps_without_any_weight(drizzled: Drizzled, save: Save) -> None:
    empty = np.zeros((200, 200), np.float32)
    with pytest.raises(InputError, match="pixfrac 1 has no weight inside its footprint"):
        statistics(save({0.5: drizzled(0.5), 1.0: empty}))


def test_a_smaller_pixfrac_without_any_weight(drizzled: Drizzled, save: Save) -> None:
    empty = np.zeros((200, 200), np.float32)
    with pytest.raises(InputError, match=r"pixfrac 0\.5 has no weight where pixfrac 1 has some"):
        statistics(save({0.5: empty, 1.0: drizzled(1.0)}), box_size=64)


def test_anyone_can_open_the_file(drizzled: Drizzled, save: Save, tmp_path: Path) -> None:
    """xarray chooses the engine by itself."""
    result = statistics(save({p: drizzled(p) for p in (0.5, 1.0)}), box_size=64, tile=40)
    result.to_netcdf(tmp_path / "weights.nc", engine="scipy")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "numpy.ndarray size changed", RuntimeWarning)  # netCDF4's import
        with xr.open_dataset(tmp_path / "weights.nc") as again:
            xr.testing.assert_identical(result, again.load())
            assert again["tile_rms_over_median"].dims == ("pixfrac", "tile_y", "tile_x")
