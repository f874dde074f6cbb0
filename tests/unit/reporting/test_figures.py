"""Stretches, colours and enlargement, pixel by pixel."""

from __future__ import annotations

import io

import numpy as np
import pytest
from astropy.io import fits
from matplotlib.image import imread

from batch.drizzling.lazy import FitsImage
from batch.drizzling.preview import crowded, reduce
from batch.reporting.figures import Frame, Stretch, annotated, curve, plain, weight_colours


def decoded(png: bytes) -> np.ndarray:
    return (imread(io.BytesIO(png))[..., :3] * 255).round().astype(np.uint8)


def test_the_stretch_is_monotonic_and_spans_black_to_white() -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(5, 1, (100, 100))
    image[40:45, 40:60] = np.linspace(10, 5000, 100).reshape(5, 20)
    stretch = Stretch.of(image)
    ramp = stretch.apply(np.linspace(stretch.low - 5, stretch.high + 5, 400)[None])[0, :, 0].astype(int)
    assert (np.diff(ramp) >= 0).all()
    assert (ramp[0], ramp[-1]) == (0, 255)
    sky = stretch.apply(np.array([[5.0]]))[0, 0, 0]
    assert 5 < sky < 110, "the sky is dark, but not black"


@pytest.mark.parametrize("image", [np.zeros((4, 4)), np.full((4, 4), np.nan)])
def test_the_stretch_of_nothing(image: np.ndarray) -> None:
    assert Stretch.of(image).apply(image).shape == (4, 4, 3)


def test_pixels_without_data_have_a_colour_of_their_own() -> None:
    rgb = Stretch(0, 1, 0.1).apply(np.array([[np.nan, 0.0]]))
    assert rgb[0, 0].tolist() != rgb[0, 1].tolist() == [0, 0, 0]


def test_holes_in_weight_are_red_only_where_looked_for() -> None:
    weight = np.array([[0.0, 1.0, 2.0]])
    red, blue = (weight_colours(weight, 2.0, holes=h)[0, 0].astype(int) for h in (True, False))
    assert red[0] > 2 * red[1]
    assert red[0] > 2 * red[2]
    assert np.ptp(blue) < 40
    shades = weight_colours(weight, 2.0)[0].astype(int).sum(axis=1)
    assert shades[1] < shades[2]


def test_plain_pictures_keep_every_pixel_with_the_first_row_below() -> None:
    rgb = np.random.default_rng(1).integers(0, 256, (7, 5, 3)).astype(np.uint8)
    np.testing.assert_array_equal(decoded(plain(rgb)), rgb[::-1])


def test_small_pictures_grow_to_squares_without_new_values() -> None:
    rgb = np.random.default_rng(1).integers(0, 256, (40, 30, 3)).astype(np.uint8)
    shown = decoded(annotated(rgb, 125))
    assert shown.shape == (120, 90, 3)
    np.testing.assert_array_equal(shown, rgb.repeat(3, axis=0).repeat(3, axis=1)[::-1])


def test_a_frame_lies_where_it_should() -> None:
    shown = decoded(annotated(np.zeros((100, 200, 3), np.uint8), 200, frames=[Frame(50, 80, 10, 40)]))
    bright = np.argwhere(shown[::-1].sum(axis=2) > 300)
    np.testing.assert_allclose(bright.min(axis=0), (10, 50), atol=2)
    np.testing.assert_allclose(bright.max(axis=0), (40, 80), atol=2)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_curve_is_a_picture_and_the_same_every_time(theme: str) -> None:
    verdicts = [
        {"pixfrac": 0.1, "rms_over_median": None, "passes": False},
        {"pixfrac": 0.5, "rms_over_median": 0.4, "passes": False},
        {"pixfrac": 1.0, "rms_over_median": 0.1, "passes": True},
    ]
    boxes = {0.1: [None, None], 0.5: [0.39, 0.41], 1.0: [0.1, 0.1]}
    first, second = (curve(verdicts, boxes, 0.2, 1.0, theme) for _ in range(2))
    assert first == second
    assert decoded(first).shape == (800, 1440, 3)


def test_a_curve_without_any_number() -> None:
    verdicts = [{"pixfrac": 0.1, "rms_over_median": None, "passes": False}]
    assert decoded(curve(verdicts, {0.1: [None]}, 0.2, 0.1)).any()


@pytest.fixture
def mosaic(tmp_path) -> tuple[FitsImage, FitsImage, np.ndarray, np.ndarray]:
    """Stars, crowded around (x, y) = (150, 60), one with a trail, and a corner without weight."""
    rng = np.random.default_rng(2)
    image = rng.normal(0, 1, (203, 251)).astype(np.float32)
    y, x = np.mgrid[:203, :251]
    stars = np.concatenate([rng.uniform(10, 190, (20, 2)), rng.normal((60, 150), 15, (60, 2))])
    for y0, x0 in stars:
        image += 500 * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / 2 / 1.5**2)
    image[130:180, 38:44] = 1e6
    weight = np.where((x < 30) & (y < 40), 0, 100).astype(np.float32)
    image[weight == 0] = np.nan
    fits.writeto(tmp_path / "sci.fits", image)
    fits.writeto(tmp_path / "wht.fits", weight)
    files = [FitsImage.find(tmp_path / f"{n}.fits", "none") for n in ("sci", "wht")]
    return files[0], files[1], image, weight


def test_reduction_is_the_mean_of_pixels_with_weight(mosaic) -> None:
    small = reduce(mosaic[0], mosaic[1], 50)
    assert (small.factor, small.image.shape) == (6, (34, 42))
    image, weight = mosaic[2].astype(float), mosaic[3].astype(float)
    for row, column in ((0, 0), (6, 4), (6, 5), (20, 20), (33, 41)):
        cut = np.s_[6 * row : 6 * row + 6, 6 * column : 6 * column + 6]
        inside = image[cut][weight[cut] > 0]
        expected = inside.mean() if inside.size else np.nan
        np.testing.assert_allclose(small.image[row, column], expected, rtol=1e-5)
        np.testing.assert_allclose(small.weight[row, column], weight[cut].mean(), rtol=1e-6)


def test_reduction_leaves_small_mosaics_alone(mosaic) -> None:
    small = reduce(mosaic[0], mosaic[1], 900)
    assert small.factor == 1
    np.testing.assert_array_equal(small.image, mosaic[2])


@pytest.mark.parametrize("longest", [130, 900])
def test_the_crowd_is_found_not_the_one_bright_trail(mosaic, longest: int) -> None:
    box = crowded(reduce(mosaic[0], mosaic[1], longest), 48, (203, 251))
    assert (box.x1 - box.x0, box.y1 - box.y0) == (48, 48)
    assert box.x0 < 150 < box.x1
    assert box.y0 < 60 < box.y1


def test_a_detail_larger_than_the_mosaic_is_the_mosaic(mosaic) -> None:
    box = crowded(reduce(mosaic[0], mosaic[1], 900), 5000, (203, 251))
    assert (box.x1 - box.x0, box.y1 - box.y0) == (203, 203)
    assert box.x1 <= 251
