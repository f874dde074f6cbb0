"""Mappings: nodes, corners, reach."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from batch.drizzling.geometry import Mapping
from batch.drizzling.kernels import SIZES
from batch.errors import UsageError


def bent(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return 3 + 1.5 * x - 0.2 * y + 1e-3 * x * x, -2 + 0.2 * x + 1.5 * y + 5e-4 * x * y


@pytest.mark.parametrize("shape", [(20, 35), (1, 1), (9, 10), (19, 21)])
@pytest.mark.parametrize("step", [1, 4, 10])
def test_nodes_enclose_the_chip(shape: tuple[int, int], step: int) -> None:
    mapping = Mapping.sample(bent, shape, step)
    rows, columns = mapping.nodes_x.shape
    assert (rows - 1) * step > shape[0] + 0.5
    assert (columns - 1) * step > shape[1] + 0.5
    j, i = rows - 1, columns - 1
    x, y = bent(np.array(float(i * step)), np.array(float(j * step)))
    assert mapping.nodes_x[j, i] == x
    assert mapping.nodes_y[j, i] == y


def test_large_chips_are_mapped_by_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = Mapping.sample(bent, (90, 70), 1)
    monkeypatch.setattr("batch.drizzling.geometry._CHUNK", 100)
    got = Mapping.sample(bent, (90, 70), 1)
    np.testing.assert_array_equal(got.nodes_x, expected.nodes_x)
    np.testing.assert_array_equal(got.nodes_y, expected.nodes_y)


def test_exact_corners() -> None:
    mapping = Mapping.sample(bent, (20, 30), exact=True)
    x, y = mapping.corners(slice(4, 6), slice(10, 13), 0.6)
    assert x.shape == y.shape == (4, 6)
    # the top right corner of the drop of column 11, row 5, counted from 0
    u, v = bent(np.array(12.3), np.array(6.3))
    assert x[3, 3] == pytest.approx(float(u), abs=1e-12)
    assert y[3, 3] == pytest.approx(float(v), abs=1e-12)


@pytest.mark.parametrize("pixfrac", [1.0, 0.6, 0.3, 0.01])
@pytest.mark.parametrize("scale", [0.3, 1.0, 5 / 3, 4.0])
def test_no_drop_reaches_beyond_its_box(pixfrac: float, scale: float) -> None:
    rng = np.random.default_rng(3)
    for angle in rng.uniform(-np.pi, np.pi, 10):
        c, s = scale * np.cos(angle), scale * np.sin(angle)
        mapping = Mapping.sample(lambda x, y, c=c, s=s: (c * x - s * y, s * x + c * y), (30, 30), exact=True)
        for values in mapping.corners(slice(0, 30), slice(0, 30), pixfrac):
            drops = values.reshape(30, 2, 30, 2)
            spans = np.floor(drops.max(axis=(1, 3))) - np.floor(drops.min(axis=(1, 3))) + 1
            assert spans.max() <= mapping.box_size(pixfrac) <= SIZES[-1]


def test_reach_is_that_of_the_largest_pixel() -> None:
    mapping = Mapping.sample(bent, (20, 30))
    assert mapping.reach == pytest.approx(1.5 + 0.2 + 2e-3 * 35, abs=0.02)


def test_too_small_output_pixels() -> None:
    with pytest.raises(UsageError, match="larger output scale"):
        Mapping.sample(lambda x, y: (20 * x, 20 * y), (5, 5)).box_size(1.0)
