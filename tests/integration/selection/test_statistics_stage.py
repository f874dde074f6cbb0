"""The statistics stage on a published sweep."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr
from astropy.io import fits

from batch.errors import InputError
from batch.stages import statistics

Maps = Callable[..., dict[float, np.ndarray]]


def test_numbers_and_netcdf(published: Any, maps: Maps) -> None:
    published.sweep(maps(0.1, 0.5, 1.0))
    outcome = published.run(statistics, box_size=64)
    assert [p.kind for p in outcome.products] == ["statistics"]
    rows = outcome.results["families"][0]["pixfracs"]
    assert [r["pixfrac"] for r in rows] == [0.1, 0.5, 1.0]
    (path,) = published.inputs("select").files("statistics", "statistics")
    with xr.open_dataset(path, engine="scipy") as dataset:
        assert dataset["rms_over_median"].values.tolist() == [r["rms_over_median"] for r in rows]
        assert dataset["empty_fraction"].values.tolist() == [r["empty_fraction"] for r in rows]
    box = outcome.results["families"][0]["boxes"][0]
    weight = published.inputs("select").files("sweep", "weight")[1]
    cut = fits.getdata(weight)[box["y0"] : box["y1"], box["x0"] : box["x1"]].astype(np.float64)
    assert rows[1]["box_rms_over_median"][0] == pytest.approx(cut.std() / np.median(cut), rel=1e-12)
    json.dumps(outcome.results, allow_nan=False)


def test_a_median_of_zero_is_no_number_in_json(published: Any, maps: Maps) -> None:
    published.sweep(maps(0.1, 1.0, exposures=1))
    rows = published.run(statistics, box_size=64).results["families"][0]["pixfracs"]
    assert rows[0]["rms_over_median"] is None
    json.dumps(rows, allow_nan=False)


def test_boxes_of_the_user(published: Any, maps: Maps) -> None:
    published.sweep(maps(0.5, 1.0))
    outcome = published.run(statistics, boxes=[{"x0": 50, "x1": 90, "y0": 60, "y1": 80}])
    assert outcome.results["families"][0]["boxes"] == [{"x0": 50, "x1": 90, "y0": 60, "y1": 80}]
    assert outcome.results["boxes_given"] is True


def test_a_box_outside_names_setting_and_extent(published: Any, maps: Maps) -> None:
    published.sweep(maps(1.0))
    with pytest.raises(InputError, match=r"statistics\.boxes x 50:390, y 60:80: lies outside the footprint"):
        published.run(statistics, boxes=[{"x0": 50, "x1": 390, "y0": 60, "y1": 80}])


def test_boxes_that_had_to_shrink_are_noted(published: Any, maps: Maps) -> None:
    published.sweep(maps(1.0))
    (note,) = published.run(statistics, box_size=400).notes
    assert note.startswith("boxes of 96 pixels instead of 400")


def test_a_sweep_without_weights(published: Any) -> None:
    with pytest.raises(InputError, match="j94f05010: the sweep left no weight map"):
        published.run(statistics)
