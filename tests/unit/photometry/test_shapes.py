"""Shape and light of single stars against what they were made with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch.photometry.sampling import APERTURES, Sampling
from batch.photometry.shapes import _derivatives, _model, measure_star

Build = Callable[..., np.ndarray]


@settings(max_examples=25, deadline=None)
@given(
    fwhm=st.floats(2.6, 4.5),
    ellipticity=st.floats(0, 0.4),
    angle=st.floats(0, np.pi),
    offset=st.tuples(st.floats(-0.7, 0.7), st.floats(-0.7, 0.7)),
    sky=st.floats(-5, 50),
)
def test_what_went_in_comes_out(
    gaussian: Build,
    sampling: Sampling,
    fwhm: float,
    ellipticity: float,
    angle: float,
    offset: tuple[float, float],
    sky: float,
) -> None:
    x, y = 17 + offset[0], 17 + offset[1]
    image = gaussian((35, 35), x, y, 300.0, fwhm, ellipticity, angle) + sky
    shape = measure_star(image, np.ones((35, 35)), sampling)
    assert shape is not None
    assert (shape.x, shape.y) == pytest.approx((x, y), abs=0.01)
    # integration over a pixel adds 1/12 to the variance each way, and so makes a star wider and rounder
    major = (fwhm / 2.3548) ** 2 / (1 - ellipticity) + 1 / 12
    minor = (fwhm / 2.3548) ** 2 * (1 - ellipticity) + 1 / 12
    assert shape.fwhm == pytest.approx(2.3548 * (major * minor) ** 0.25, rel=0.01)
    assert shape.ellipticity == pytest.approx(1 - np.sqrt(minor / major), abs=0.01)
    assert shape.fluxes[1] == pytest.approx(300, rel=0.005)


def test_apertures_hold_the_light_of_a_gaussian(gaussian: Build, sampling: Sampling) -> None:
    image = gaussian((35, 35), 17.2, 16.8, 1000.0, 3.3, 0, 0)
    shape = measure_star(image, np.ones((35, 35)), sampling)
    assert shape is not None
    variance = (3.3 / 2.3548) ** 2 + 2 / 12
    for radius, flux in zip(APERTURES, shape.fluxes, strict=True):
        assert flux == pytest.approx(1000 * (1 - np.exp(-((radius / 0.03) ** 2) / 2 / variance)), rel=0.01)


def test_gaps_between_drops_hardly_change_a_star(gaussian: Build, sampling: Sampling) -> None:
    image = gaussian((35, 35), 17.1, 17.3, 500.0, 3.3, 0.1, 1.0) + 2
    whole = measure_star(image, np.ones((35, 35)), sampling)
    weight = np.where(np.random.default_rng(2).uniform(size=image.shape) < 0.15, 0.0, 1.0)
    image[weight == 0] = np.nan
    holed = measure_star(image, weight, sampling)
    assert whole is not None
    assert holed is not None
    assert holed.fwhm == pytest.approx(whole.fwhm, rel=0.01)
    assert holed.ellipticity == pytest.approx(whole.ellipticity, abs=0.01)
    assert holed.fluxes == pytest.approx(whole.fluxes, rel=0.01)


def test_pixels_with_little_weight_count_little(gaussian: Build, sampling: Sampling) -> None:
    image = gaussian((35, 35), 17.0, 17.0, 500.0, 3.3, 0.0, 0.0)
    image[17, 19] += 40
    weight = np.ones((35, 35))
    spoilt = measure_star(image, weight, sampling)
    weight[17, 19] = 1e-3
    spared = measure_star(image, weight, sampling)
    assert spoilt is not None
    assert spared is not None
    assert spoilt.ellipticity > 0.1 > 0.01 > spared.ellipticity


@pytest.mark.parametrize("value", [0.0, -3.0, np.nan])
def test_no_star_is_no_shape(sampling: Sampling, value: float) -> None:
    assert measure_star(np.full((35, 35), value), np.ones((35, 35)), sampling) is None


def test_too_few_pixels_with_weight_are_no_shape(gaussian: Build, sampling: Sampling) -> None:
    image = gaussian((35, 35), 17.0, 17.0, 500.0, 3.3, 0.0, 0.0)
    weight = np.zeros((35, 35))
    weight[17, 13:20] = 1
    weight[3] = 1
    assert measure_star(image, weight, sampling) is None


@settings(max_examples=25, deadline=None)
@given(
    p=st.tuples(
        st.floats(0.1, 2), st.floats(-2, 2), st.floats(-2, 2), st.floats(0.05, 1), st.floats(-0.2, 0.2)
    ),
    c=st.floats(0.05, 1),
    floor=st.floats(-1, 1),
)
def test_slopes_of_the_model_are_its_differences(p: tuple[float, ...], c: float, floor: float) -> None:
    point = np.array([*p, c, floor])
    y, x = (axis.ravel().astype(float) for axis in np.mgrid[-5:6, -5:6])
    slopes = _derivatives(point, x, y)
    assert slopes.shape == (121, 7)
    for number, step in enumerate(1e-6 * np.eye(7)):
        differences = (_model(point + step, x, y) - _model(point - step, x, y)) / 2e-6
        np.testing.assert_allclose(slopes[:, number], differences, atol=1e-6 * (1 + np.abs(slopes).max()))
