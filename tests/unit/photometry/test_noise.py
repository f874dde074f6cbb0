"""The noise factor against noise that was drizzled."""

from __future__ import annotations

import numpy as np
import pytest

from batch.photometry.noise import correlated_noise

SIZE, EXPOSURES = 480, 24


def overlaps(offset: float, pixfrac: float, ratio: float) -> np.ndarray:
    """What part of each drop of a line falls on each output pixel, shape (SIZE, drops)."""
    centres = (np.arange(int(SIZE * ratio) + 3) - 1 + offset) / ratio
    half = pixfrac / ratio / 2
    low, high = (centres - half)[None], (centres + half)[None]
    pixel = np.arange(SIZE)[:, None]
    return np.clip(np.minimum(high, pixel + 1) - np.maximum(low, pixel), 0, None) / (2 * half)


@pytest.mark.parametrize(("pixfrac", "ratio"), [(0.7, 0.6), (1.0, 0.6), (0.3, 0.6), (0.5, 1.0)])
def test_noise_of_areas_over_noise_of_pixels(pixfrac: float, ratio: float) -> None:
    """Many exposures at random dithers, so that weights are even, as the theory asks."""
    rng = np.random.default_rng(7)
    total, weight = np.zeros((2, SIZE, SIZE))
    for dy, dx in rng.uniform(0, 1, (EXPOSURES, 2)):
        rows, columns = (overlaps(d, pixfrac, ratio) for d in (dy, dx))
        noise = rng.standard_normal((rows.shape[1], columns.shape[1]))
        total += rows @ noise @ columns.T
        weight += np.outer(rows.sum(axis=1), columns.sum(axis=1))
    image = (total / weight)[8:-8, 8:-8]
    side = 16
    blocks = image[: image.shape[0] // side * side, : image.shape[1] // side * side]
    means = blocks.reshape(blocks.shape[0] // side, side, -1, side).mean(axis=(1, 3))
    assert means.size > 800
    # drops that stick out of a block take a little of its noise with them
    drop = pixfrac / ratio
    edge = 1 - max(drop, 1) / (3 * side)
    measured = means.std() * side / image.std() / edge
    assert measured == pytest.approx(correlated_noise(pixfrac, ratio), rel=0.07)


def test_limits() -> None:
    assert correlated_noise(1e-9, 0.6) == pytest.approx(1)
    below, above = correlated_noise(0.6 - 1e-9, 0.6), correlated_noise(0.6, 0.6)
    assert below == pytest.approx(above) == pytest.approx(1.5)
    assert correlated_noise(0.8, 0.6, "point") == 1
    assert correlated_noise(0.8, 0.6, "turbo") == correlated_noise(0.8, 0.6)
    assert correlated_noise(0.8, 0.6, "gaussian") is None
