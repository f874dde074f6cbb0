"""Which stars are taken, and that they are the same at every pixfrac."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from batch.errors import InputError
from batch.photometry import stars as module
from batch.photometry.sampling import Sampling
from batch.photometry.stars import find_stars
from batch.photometry.sweep import measure_stars, summarize

Field = Callable[..., Any]
GOOD = [(40.2, 60.4, 100.0), (100.7, 300.1, 200.0), (60.5, 505.0, 150.0), (110.0, 517.3, 250.0)]
"""Two of them next to the seam of two bands, on either side."""


def where(found: list[Any]) -> list[tuple[int, int]]:
    return [(s.x, s.y) for s in found]


def test_bright_lonely_stars_are_found_brightest_first(field: Field, sampling: Sampling) -> None:
    found = find_stars(*field(GOOD), sampling, 10)
    assert where(found) == [(110, 517), (101, 300), (60, 505), (40, 60)] or where(found) == [
        (110, 517),
        (101, 300),
        (61, 505),
        (40, 60),
    ]
    assert where(find_stars(*field(GOOD, name="b"), sampling, 2)) == where(found)[:2]


def test_what_is_no_good_star_is_left_out(field: Field, sampling: Sampling) -> None:
    weight = np.full((700, 160), 1200.0)
    weight[380:420] = 300
    weight[600:610, 50:53] = 0
    bad = [
        (40, 150, 2000.0),  # saturated
        (100, 150, 200.0),
        (109, 150, 40.0),  # its neighbour
        (80, 250, 60.0, 9.0, 0.1, 0.0),  # a galaxy
        (40, 350, 100.0, 3.3, 0.6, 0.0),  # a trail
        (80, 400, 100.0),  # seen by one exposure of four
        (50, 605, 100.0),  # at bad columns
        (8, 200, 100.0),  # at the rim
        (80, 640, 1.0),  # faint
    ]
    image, weights = field([*GOOD, *bad], weight=weight)
    pixels = fits.getdata(image.path)
    pixels[450, 80] += 30  # a cosmic ray
    fits.writeto(image.path, pixels, overwrite=True)
    assert {y for _, y in where(find_stars(image, weights, sampling, 20))} == {517, 300, 505, 60}


def test_bands_do_not_decide(field: Field, sampling: Sampling, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = field(GOOD)
    expected = where(find_stars(*pair, sampling, 10))
    for rows in (64, 511, 2000):
        monkeypatch.setattr(module, "BAND", rows)
        assert where(find_stars(*pair, sampling, 10)) == expected


def test_an_empty_field_has_no_stars(field: Field, sampling: Sampling) -> None:
    assert find_stars(*field([]), sampling, 10) == []
    nothing = field(GOOD, weight=np.zeros((700, 160)), name="b")
    assert find_stars(*nothing, sampling, 10) == []


def test_the_same_stars_at_every_pixfrac(field: Field, sampling: Sampling) -> None:
    def widened(fwhm: float, ellipticity: float, factor: float) -> list[tuple[float, ...]]:
        return [(x, y, factor * flux, fwhm, ellipticity, 0.4) for x, y, flux in GOOD]

    patchy = np.where(np.random.default_rng(3).uniform(size=(700, 160)) < 0.1, 0.0, 1200.0)
    mosaics = {
        0.3: field(widened(3.0, 0.12, 1.01), name="c", weight=patchy),
        0.6: field(widened(3.1, 0.05, 1.0), name="d"),
        1.0: field(widened(3.4, 0.05, 1.0), name="e"),
    }
    dataset = measure_stars(mosaics, sampling, 10)
    assert dict(dataset.sizes) == {"pixfrac": 3, "star": 4, "aperture": 2}
    assert sorted(dataset["y"].values.tolist()) == [60, 300, 505, 517]
    rows = summarize(dataset)
    json.dumps(rows, allow_nan=False)
    assert [r["pixfrac"] for r in rows] == [0.3, 0.6, 1.0]
    assert [r["stars"] for r in rows] == [4, 4, 4]
    for row, width, ellipticity in zip(rows, (3.0, 3.1, 3.4), (0.12, 0.05, 0.05), strict=True):
        blurred = np.hypot(width, 2.3548 / np.sqrt(12)) * 0.03
        assert row["fwhm"] == pytest.approx(blurred, rel=0.02)
        assert row["ellipticity"] == pytest.approx(ellipticity, abs=0.015)
    assert [r["fwhm_growth"] for r in rows] == pytest.approx([0, 0.03, 0.12], abs=0.01)
    assert rows[0]["flux"][1] == pytest.approx(1.01, abs=0.004)
    assert rows[2]["flux"] == [1, 1]
    assert rows[1]["flux"][0] > 1.02, "a narrower star has more of its light in the small aperture"


def test_no_stars_at_all_is_a_dataset_all_the_same(field: Field, sampling: Sampling) -> None:
    dataset = measure_stars({0.5: field([]), 1.0: field([], name="b")}, sampling, 10, "gaussian")
    (first, _) = rows = summarize(dataset)
    json.dumps(rows, allow_nan=False)
    assert (first["stars"], first["fwhm"], first["noise_factor"]) == (0, None, None)


@pytest.mark.parametrize(("detector", "scale", "limit"), [("WFC", 0.03, 60.0), ("HRC", 0.025, 297.0)])
def test_what_pixels_mean_comes_from_the_header(
    tmp_path: Path, detector: str, scale: float, limit: float
) -> None:
    turn = np.array([[-0.6, 0.8], [0.8, 0.6]]) * scale / 3600
    header = fits.Header({f"CD{i + 1}_{j + 1}": turn[i, j] for i in (0, 1) for j in (0, 1)})
    fits.writeto(tmp_path / "a.fits", np.zeros((4, 4), np.float32), header)
    sampling = Sampling.of(tmp_path / "a.fits", 0, detector, 300.0)
    assert sampling.scale == pytest.approx(scale)
    assert sampling.brightest == pytest.approx(limit, rel=0.01)
    # an aperture of 0.1 arcsec for WFC; HRC's stars are narrower by 0.7
    assert sampling.pixels(0.1) == pytest.approx(0.1 / 0.03 if detector == "WFC" else 0.07 / 0.025)


def test_a_header_without_scale_is_an_error(tmp_path: Path) -> None:
    fits.writeto(tmp_path / "a.fits", np.zeros((4, 4), np.float32))
    with pytest.raises(InputError, match=r"a\.fits: has no CD1_1"):
        Sampling.of(tmp_path / "a.fits", 0, "WFC", 300.0)
