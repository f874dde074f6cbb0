"""Stars, cosmic rays, and the charge they leave."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import dblquad
from scipy.ndimage import label

from batch.simulation import cosmicrays, psf
from batch.simulation.detector import OVERFULL, bleed
from batch.simulation.randomness import stream
from batch.simulation.scene import draw_magnitudes


def star(x: float, y: float, electrons: float = 1e5, size: int = 121) -> np.ndarray:
    image = np.zeros((size, size), np.float32)
    psf.add_stars(image, np.array([x]), np.array([y]), np.array([electrons]))
    return image


@pytest.mark.parametrize(("x", "y"), [(60.0, 60.0), (60.5, 60.25), (59.81, 60.37)])
def test_a_star_keeps_its_flux_and_its_centre(x: float, y: float) -> None:
    image = star(x, y).astype(float)
    rows, columns = np.indices(image.shape)
    assert image.sum() == pytest.approx(1e5, rel=2e-4)
    assert (image * columns).sum() / image.sum() == pytest.approx(x, abs=1e-3)
    assert (image * rows).sum() / image.sum() == pytest.approx(y, abs=1e-3)


def test_pixels_hold_the_integral_of_the_profile() -> None:
    def profile(v: float, u: float) -> float:
        gauss = psf.WEIGHTS / (2 * np.pi * psf.SIGMAS**2) * np.exp(-(u**2 + v**2) / (2 * psf.SIGMAS**2))
        return float(gauss.sum())

    image = star(60.3, 59.8, electrons=1.0e5)
    for column, row in ((60, 60), (62, 59), (57, 64)):
        low_x, low_y = column - 0.5 - 60.3, row - 0.5 - 59.8
        expected, _ = dblquad(profile, low_x, low_x + 1, low_y, low_y + 1)
        assert image[row, column] == pytest.approx(1e5 * expected, rel=1e-4)


def test_width_is_that_of_acs() -> None:
    image = star(60.0, 60.0)
    profile = image[60] / image[60].max()
    half = np.interp(0.5, profile[60:70][::-1], np.arange(60, 70)[::-1]) - 60
    assert 2 * half * 0.05 == pytest.approx(0.09, abs=0.01)


@pytest.mark.parametrize("radius", [2.0, 4.0, 10.0])
def test_encircled_light_matches_the_rendered_star(radius: float) -> None:
    fine = 20
    image = np.kron(star(60.0, 60.0), np.ones((fine, fine))) / fine**2
    centre = (image.shape[0] - 1) / 2
    rows, columns = np.indices(image.shape)
    inside = np.hypot(rows - centre, columns - centre) <= radius * fine
    assert image[inside].sum() / 1e5 == pytest.approx(psf.encircled(radius), rel=0.005)


def test_stars_outside_shine_in_and_nothing_breaks_at_edges() -> None:
    image = star(-3.0, 60.0)
    assert 0 < image.sum() < 0.5e5
    assert star(-500.0, 60.0).sum() == 0


def test_excess_charge_runs_along_its_column_and_is_conserved() -> None:
    charge = np.full((200, 5), 100.0, np.float32)
    charge[100, 2] = 1e6
    well = np.full_like(charge, 8e4)
    before = charge.astype(float).sum()
    bleed(charge, well)
    assert charge.astype(float).sum() == pytest.approx(before, rel=1e-6)
    assert charge.max() <= 8e4 * OVERFULL * (1 + 1e-6)
    assert np.all(charge[:, [0, 1, 3, 4]] == 100)
    full = np.flatnonzero(charge[:, 2] > 8e4)
    assert full[0] < 100 < full[-1]
    assert abs((full[0] + full[-1]) / 2 - 100) <= 1
    assert full.size == pytest.approx(1e6 / (8e4 * OVERFULL), abs=2)


def test_charge_that_reaches_the_edge_is_lost() -> None:
    charge = np.zeros((4, 1), np.float32)
    charge[0, 0] = 1e6
    bleed(charge, np.full_like(charge, 8e4))
    assert charge.sum() <= 4 * 8e4 * OVERFULL * (1 + 1e-6)


def test_cosmic_rays_come_at_their_rate_with_their_charge() -> None:
    shape, rate, seconds = (1000, 1000), 1.2, 100.0
    struck, pixels = cosmicrays.strike(stream(3, "rays"), shape, rate, seconds)
    area = shape[0] * shape[1] * cosmicrays.PIXEL**2
    # Neighbouring pixels of one track are one group; few tracks overlap at this density.
    _, events = label(struck >= 20, np.ones((3, 3)))
    assert events == pytest.approx(rate * area * seconds, rel=0.12)
    assert np.median(struck[struck >= 20]) > 100
    assert 2 < pixels["X"].size / events < 12
    again = np.zeros(shape, np.float32)
    again[pixels["Y"], pixels["X"]] = pixels["ELECTRONS"]
    assert np.array_equal(again[struck >= 1], struck[struck >= 1])


def test_some_cosmic_rays_are_points_and_some_are_tracks() -> None:
    struck, _ = cosmicrays.strike(stream(4, "rays"), (800, 800), 1.0, 60.0)
    groups, events = label(struck >= 20, np.ones((3, 3)))
    sizes = np.bincount(groups.ravel())[1:]
    assert (sizes <= 6).sum() > 0.2 * events
    assert sizes.max() > 12


def test_no_cosmic_rays_when_switched_off() -> None:
    struck, pixels = cosmicrays.strike(stream(5, "rays"), (100, 100), 0.0, 1000.0)
    assert not struck.any()
    assert len(pixels) == 0


def test_faint_stars_outnumber_bright_ones() -> None:
    magnitudes = draw_magnitudes(stream(6, "stars"), 20_000)
    assert magnitudes.min() >= 13
    assert magnitudes.max() <= 26
    counts, _ = np.histogram(magnitudes, [13, 17, 19, 21, 23, 25])
    assert np.all(np.diff(counts) > 0)
