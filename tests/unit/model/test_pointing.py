"""Where exposures lie, by formulas of our own, against astropy's WCS."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from astropy.wcs import WCS
from hypothesis import given
from hypothesis import strategies as st

from batch.drizzling.geometry import Mapping, between
from batch.drizzling.kernels import SIZES
from batch.drizzling.size import LARGEST_DROP, drop, falls_beside, foreseen, output_pixels
from batch.errors import UsageError
from batch.model.observation import Association, Exposure
from batch.model.pointing import GAP, apart, frame, from_plane, outline, to_plane

STEP = 0.05 / 3600
ROWS, COLUMNS = 2068, 4144


def exposure(
    root: str = "jaaaaaa1q", ra: float = 5.6, dec: float = -72.05, turn: float = 30.0, chips: int = 2
) -> Exposure:
    angle = math.radians(turn)
    # 3 degrees of skew, as WFC has it
    skew = math.radians(turn + 3)
    cd = (-STEP * math.cos(angle), STEP * math.sin(skew), STEP * math.sin(angle), STEP * math.cos(skew))
    wcs = (ra, dec, 2100.0, 1034.0, *cd)
    return Exposure(root, "WFC", "WFC", "ABCD", (), 339.0, 53900.0, (ROWS, COLUMNS), chips, "1-1", wcs=wcs)


def astropy_wcs(exposure: Exposure) -> WCS:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix = exposure.wcs[:2], exposure.wcs[2:4]
    wcs.wcs.cd = np.reshape(exposure.wcs[4:], (2, 2))
    return wcs


def association(*exposures: Exposure) -> Association:
    return Association("asn", exposures)


positions = st.tuples(st.floats(0, 360, exclude_max=True), st.floats(-88, 88), st.floats(0, 360))


@given(positions)
def test_corners_are_those_of_astropy(position: tuple[float, float, float]) -> None:
    given = exposure("jaaaaaa1q", *position)
    height = 2 * ROWS + GAP
    corners = [(0.5, 0.5), (COLUMNS + 0.5, 0.5), (COLUMNS + 0.5, height + 0.5), (0.5, height + 0.5)]
    wanted = astropy_wcs(given).wcs_pix2world(corners, 1)
    found = np.array(outline(given))
    off = (found - wanted + 180) % 360 - 180
    np.testing.assert_allclose(off[:, 0] * np.cos(np.radians(wanted[:, 1])), 0, atol=1e-10)
    np.testing.assert_allclose(off[:, 1], 0, atol=1e-10)


@given(positions, st.floats(-3, 3), st.floats(-3, 3))
def test_projection_and_back(position: tuple[float, float, float], xi: float, eta: float) -> None:
    centre = position[:2]
    assert to_plane(centre, from_plane(centre, (xi, eta))) == pytest.approx((xi, eta), abs=1e-9)


def test_the_other_half_of_the_sky_has_no_place_on_the_plane() -> None:
    assert to_plane((10.0, 20.0), (190.0, -20.0)) is None
    assert to_plane((10.0, 20.0), (100.0, 0.0)) is None


@pytest.mark.parametrize("rotation", [0.0, 33.0, -120.0])
def test_the_frame_is_that_of_a_turned_grid(rotation: float) -> None:
    given = [exposure(), exposure(ra=5.61, dec=-72.04, turn=75.0)]
    grid = WCS(naxis=2)
    grid.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    grid.wcs.crval = outline(given[0])[0]
    c, s = math.cos(math.radians(rotation)), math.sin(math.radians(rotation))
    grid.wcs.cd = STEP * np.array([[-c, s], [s, c]])
    x, y = grid.wcs_world2pix([sky for e in given for sky in outline(e)], 1).T
    made = frame(given, rotation)
    assert made is not None
    assert (made.height / STEP, made.width / STEP) == pytest.approx((np.ptp(y), np.ptp(x)), rel=1e-9)
    corners = np.array(made.quads).reshape(-1, 2) / STEP
    np.testing.assert_allclose(corners, np.transpose([x - x.min(), y - y.min()]), atol=1e-4)


def test_a_box_beside_turned_exposures_is_foreseen() -> None:
    """Turned by 45 degrees, they leave the corners of the mosaic empty."""
    given = association(exposure(turn=45.0))
    rows, columns = foreseen(given, 0.03) or (0, 0)
    size = 300
    corner, middle = (
        (50, 50 + size, 50, 50 + size),
        (columns // 2, columns // 2 + size, rows // 2, rows // 2 + size),
    )
    assert falls_beside(given, corner, 600, 0.03, 0.0)
    assert not falls_beside(given, middle, 600, 0.03, 0.0)
    # a part of it beside them is enough, and a margin that reaches that far is not
    assert falls_beside(given, (50, columns // 2, 50, rows // 2), 600, 0.03, 0.0)
    assert not falls_beside(given, corner, 4000, 0.03, 0.0)
    # along the axes of the exposure, the corners are full
    assert not falls_beside(given, corner, 600, 0.03, 45.0)
    assert not falls_beside(
        association(dataclasses.replace(given.exposures[0], wcs=())), corner, 600, 0.03, 0.0
    )


def test_drops_are_as_large_as_the_engine_finds_them() -> None:
    given = exposure(turn=20.0)
    grid = WCS(naxis=2)
    grid.wcs.ctype, grid.wcs.crval = ["RA---TAN", "DEC--TAN"], given.wcs[:2]
    angle = math.radians(70.0)
    c, s = math.cos(angle), math.sin(angle)
    grid.wcs.cd = 0.008 / 3600 * np.array([[-c, s], [s, c]])
    function = between(astropy_wcs(given), grid)
    mapping = Mapping.sample(function, (ROWS, COLUMNS))
    assert drop(given, 0.008, 70.0) == pytest.approx(mapping.reach, rel=1e-3)
    assert mapping.box_size(0.99 * LARGEST_DROP / mapping.reach) == SIZES[-1]
    with pytest.raises(UsageError, match="choose a larger output scale"):
        mapping.box_size(1.01 * LARGEST_DROP / mapping.reach)


def test_a_mosaic_of_exposures_side_by_side_is_foreseen_larger_than_one_of_them() -> None:
    alone = output_pixels(association(exposure()), None)
    row = [exposure(f"jaaaaaa{i}q", dec=-72.05 + 0.05 * i) for i in range(6)]
    assert output_pixels(association(*row), None) > 2.5 * alone
    rows, columns = foreseen(association(*row), 0.03) or (0, 0)
    assert rows == pytest.approx(columns + 0.25 * 3600 / 0.03, rel=0.05)
    # where it is not known where one of them points
    unknown = dataclasses.replace(row[0], wcs=())
    assert output_pixels(association(*row, unknown), None) == alone
    assert foreseen(association(unknown), None) is None


@pytest.mark.parametrize(
    ("offsets", "away"),
    [
        ([(0, 0), (0.001, 0.001)], []),
        ([(0, 0), (0, 0.5)], [1]),
        # a chain holds together; so do two pairs not
        ([(0, 0), (0, 0.05), (0, 0.1)], []),
        ([(0, 0), (0, 1.0), (0, 1.001), (0, 0.002), (0, 0.003)], [1, 2]),
        # a degree of right ascension is a third of one on the sky
        ([(0, 0), (0.3, 0)], [1]),
        ([(0, 0), (0.1, 0)], []),
        # the first of equal groups stays
        ([(0, 0), (120, 60)], [1]),
        ([(359.9995, 0), (0.0005, 0)], []),
    ],
)
def test_apart(offsets: list[tuple[float, float]], away: list[int]) -> None:
    given = [exposure(f"jaaaaaa{i}q", ra, -72.05 + dec) for i, (ra, dec) in enumerate(offsets)]
    assert apart(given, 7 / 3600, 0.02) == tuple(given[i].rootname for i in away)


def test_a_margin_lets_neighbours_touch() -> None:
    given = [exposure(), exposure("jaaaaaa2q", dec=-72.05 + 2 * (2 * ROWS) * STEP)]
    assert apart(given, 1 / 3600, 0.02)
    assert not apart(given, 300 / 3600, 0.02)


def test_exposures_that_do_not_tell_are_left_out() -> None:
    lost = dataclasses.replace(exposure("jaaaaaa2q", ra=100.0), wcs=())
    assert apart([exposure(), lost], 0.001, 0.02) == ()
    assert apart([lost], 0.001, 0.02) == ()
    assert apart([], 0.001, 0.02) == ()
    assert outline(dataclasses.replace(exposure(), shape=(0, 0))) == ()
