"""Which exposures share sky."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.wcs import WCS

from batch.alignment.overlap import order_by_overlap, out_of_reach, overlap_matrix

SIDE = 1000


def chip(x: float = 0.0, y: float = 0.0, ra: float = 5.6, dec: float = -72.0) -> WCS:
    """A chip of 1000 x 1000 pixels of 0.05 arcsec, moved by x, y pixels."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [ra, dec]
    wcs.wcs.crpix = [SIDE / 2 - x, SIDE / 2 - y]
    wcs.wcs.cd = np.array([[-1, 0], [0, 1]]) * 0.05 / 3600
    wcs.pixel_shape = (SIDE, SIDE)
    return wcs


def test_fractions_are_those_of_the_areas() -> None:
    matrix = overlap_matrix([[chip()], [chip(x=500)], [chip(x=500, y=750)]], margin=0)
    assert matrix[0, 0] == 1
    assert matrix[0, 1] == pytest.approx(0.5, abs=0.05)
    assert matrix[1, 2] == pytest.approx(0.25, abs=0.05)
    assert matrix[0, 2] == pytest.approx(0.125, abs=0.05)


def test_two_chips_cover_together() -> None:
    matrix = overlap_matrix([[chip()], [chip(y=-500), chip(y=500)]], margin=1)
    assert matrix[0, 1] == 1
    assert matrix[1, 0] == pytest.approx(0.5, abs=0.05)


def test_the_margin_forgives_wrong_pointings() -> None:
    assert overlap_matrix([[chip()], [chip(x=1010)]], margin=0)[0, 1] == 0
    assert overlap_matrix([[chip()], [chip(x=1010)]], margin=40)[0, 1] > 0


def test_the_other_side_of_the_sky_does_not_overlap() -> None:
    assert not np.triu(overlap_matrix([[chip()], [chip(ra=185.6, dec=72.0)]], margin=10), 1).any()


def test_a_chain_reaches_what_the_first_does_not() -> None:
    matrix = overlap_matrix([[chip()], [chip(x=1600)], [chip(x=800)], [chip(x=9000)]], margin=0)
    assert out_of_reach(matrix, 0, 0.02) == [3]
    assert order_by_overlap(matrix[:3, :3], 0) == [0, 2, 1]
