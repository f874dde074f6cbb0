"""Maps of tiles, stamps of stars, and when the published curve is drawn."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.image import imread

from batch.reporting.figures import NO_DATA, curve
from batch.reporting.published import CURVE, is_comparable
from batch.reporting.stamps import four
from batch.reporting.tilemap import tile_maps

CD = [[-0.03 / 3600, 0.0], [0.0, 0.03 / 3600]]
TURNED = [[-0.018 / 3600, 0.024 / 3600], [0.024 / 3600, 0.018 / 3600]]


def decoded(png: bytes) -> np.ndarray:
    return (imread(io.BytesIO(png))[..., :3] * 255).round().astype(int)


def near(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int(np.count_nonzero(np.abs(picture - colour).max(axis=2) < 6))


@pytest.mark.parametrize(
    ("wish", "detectors", "grid", "kernel", "drawn"),
    [
        ("auto", ["WFC"] * 4, {"cd": CD}, "square", True),
        ("auto", ["WFC"] * 4, {"cd": TURNED}, "square", True),
        ("auto", ["WFC"] * 3, {"cd": CD}, "square", False),
        ("auto", ["HRC"] * 4, {"cd": CD}, "square", False),
        ("auto", ["WFC"] * 4, {"cd": CD}, "gaussian", False),
        ("auto", ["WFC"] * 4, {"cd": (np.array(CD) * 4 / 3).tolist()}, "square", False),
        ("auto", ["WFC"] * 4, {}, "square", False),
        ("always", ["HRC"], {}, "point", True),
        ("never", ["WFC"] * 4, {"cd": CD}, "square", False),
    ],
)
def test_the_published_curve_is_drawn_where_it_compares(
    wish: str, detectors: list[str], grid: dict[str, object], kernel: str, drawn: bool
) -> None:
    assert is_comparable(wish, detectors, grid, kernel) is drawn


def test_the_published_curve_is_in_the_picture() -> None:
    verdicts = [{"pixfrac": p, "rms_over_median": 0.1, "passes": True} for p in (0.1, 0.5, 1.0)]
    plain = decoded(curve(verdicts, {}, 0.2, 0.1))
    both = decoded(curve(verdicts, {}, 0.2, 0.1, published={"J9L960010": CURVE}))
    assert plain.shape == both.shape
    # its topmost point stands far above ours: the axis has made room
    bluish = (both[..., 2] - both[..., 0] > 60) & (both[..., 1] > 90)
    assert np.count_nonzero(bluish) > 500
    assert np.argwhere(bluish)[:, 0].min() < 0.2 * both.shape[0]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_tiles_above_the_limit_are_orange_and_those_below_blue(theme: str) -> None:
    values = np.full((6, 8), 0.05)
    values[:3] = 0.6
    values[0, 0] = np.inf
    values[5, 7] = np.nan
    args = ({0.5: values, 0.8: values / 4}, 0.2, 0.8, (600, 790), 100, theme)
    first = tile_maps(*args)
    assert first == tile_maps(*args)
    picture = decoded(first)
    left = picture[:, : picture.shape[1] // 3]
    warm = left[..., 0] - left[..., 2] > 70
    cold = left[..., 2] - left[..., 0] > 70
    # row 0 of the mosaic is at the bottom
    assert np.argwhere(warm)[:, 0].mean() > np.argwhere(cold)[:, 0].mean()
    assert np.count_nonzero(warm) > 5000 < np.count_nonzero(cold)


def test_one_map_without_any_number_above_the_limit() -> None:
    assert decoded(tile_maps({1.0: np.full((2, 2), 0.01)}, 0.2, 1.0, (200, 200), 100)).shape[2] == 3


def test_stamps_show_each_star_by_its_own_peak() -> None:
    y, x = np.mgrid[-5:6, -5:6]
    star = np.exp(-(x**2 + y**2) / 4.0)
    weight = np.ones((11, 11))
    weight[0, 0] = 0
    canvas = four([(7 + 100 * star, weight), (7 + 5 * star, weight)], [100, 5], (128, 128, 128))
    assert canvas.shape == (23, 23, 3)
    upper = canvas[12:]
    np.testing.assert_allclose(upper[:, :11].astype(int), upper[:, 12:].astype(int), atol=1)
    assert upper[5, 5].min() >= 253
    assert tuple(upper[0, 0]) == NO_DATA
    assert upper[0, 10].max() < 30
    assert (canvas[:12] == 128).all()


def test_a_stamp_without_any_pixel_is_slate() -> None:
    canvas = four([(np.full((5, 5), np.nan), np.zeros((5, 5)))], [1.0], (0, 0, 0))
    assert near(canvas.astype(int), NO_DATA) == 25
