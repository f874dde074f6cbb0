"""Stars are found where they are; cosmic rays, saturation and noise are not taken for stars."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.special import erf

from batch.alignment.sources import find_sources

SHAPE, SKY, READ = (300, 320), 40.0, 5.0


def field(
    count: int, rays: int, brightest: float = 4e4, seed: int = 2
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image (electrons), star positions (x, y), and where cosmic rays struck."""
    rng = np.random.default_rng(seed)
    stars = np.column_stack([rng.uniform(8, SHAPE[1] - 8, count), rng.uniform(8, SHAPE[0] - 8, count)])
    image = np.full(SHAPE, SKY)
    for (x, y), electrons in zip(stars, np.geomspace(brightest / 20, brightest, count), strict=True):
        across = np.diff(erf((np.arange(SHAPE[1] + 1) - 0.5 - x) / (0.85 * np.sqrt(2)))) / 2
        along = np.diff(erf((np.arange(SHAPE[0] + 1) - 0.5 - y) / (0.85 * np.sqrt(2)))) / 2
        image += electrons * np.outer(along, across)
    image = rng.poisson(image) + rng.normal(0, READ, SHAPE)
    hit = np.zeros(SHAPE, bool)
    for row, col in zip(
        rng.integers(5, SHAPE[0] - 9, rays), rng.integers(5, SHAPE[1] - 9, rays), strict=True
    ):
        length, slope = rng.integers(1, 8), rng.choice([(0, 1), (1, 0), (1, 1)])
        for k in range(length):
            hit[row + k * slope[0], col + k * slope[1]] = True
    image[hit] += rng.uniform(500, 20000, int(hit.sum()))
    return image.astype(np.float32), stars, hit


def clean() -> np.ndarray:
    return np.zeros(SHAPE, np.int16)


def test_positions_are_good_to_a_twentieth_of_a_pixel() -> None:
    image, stars, _ = field(60, 0)
    found = find_sources(image, clean(), "WFC", 50, 2000)
    distance, _ = cKDTree(stars).query(np.column_stack([found.x, found.y]))
    assert len(found) > 50
    assert np.sqrt(np.mean(distance[distance < 1] ** 2)) < 0.07
    assert (distance < 1).mean() > 0.98


def test_cosmic_rays_do_not_win() -> None:
    """As bright as the stars and twice as many, they are a small part of what is found."""
    image, stars, _ = field(100, 200)
    found = find_sources(image, clean(), "WFC", 50, 2000)
    distance, _ = cKDTree(stars).query(np.column_stack([found.x, found.y]))
    assert (distance < 1).sum() > 60
    assert (distance > 1).sum() < 0.15 * 200


def test_the_threshold_goes_down_for_a_poor_field() -> None:
    image, _, _ = field(40, 0, brightest=2200.0)
    few = find_sources(image, clean(), "WFC", 3, 2000)
    many = find_sources(image, clean(), "WFC", 20, 2000)
    assert 3 <= len(few) < 20 <= len(many)
    assert many.threshold < few.threshold


def test_the_threshold_goes_up_for_a_rich_field() -> None:
    image, _, _ = field(200, 0)
    everything, some = (find_sources(image, clean(), "WFC", 50, n) for n in (2000, 60))
    assert len(some) == 60 < len(everything)
    assert some.threshold > everything.threshold
    assert some.peak.min() >= some.threshold
    assert some.peak.min() >= np.sort(everything.peak)[-60]


@pytest.mark.parametrize(("flag", "reach"), [(4, 1), (256, 3)])
def test_flagged_cores_and_saturation_are_left_out(flag: int, reach: int) -> None:
    image, stars, _ = field(60, 0)
    x, y = np.rint(stars[-1]).astype(int)
    for distance, kept in ((reach, False), (reach + 3, True)):
        dq = clean()
        dq[y, x + distance] = flag
        found = find_sources(image, dq, "WFC", 50, 2000)
        near = np.hypot(found.x - stars[-1, 0], found.y - stars[-1, 1]).min() < 1
        assert near == kept, distance


def test_nothing_is_found_in_noise_or_without_good_pixels() -> None:
    image, _, _ = field(0, 0)
    assert len(find_sources(image, clean(), "WFC", 50, 2000)) < 5
    assert len(find_sources(image, clean() | np.int16(1), "WFC", 50, 2000)) == 0
    image[:] = np.nan
    assert len(find_sources(image, clean(), "WFC", 50, 2000)) == 0
