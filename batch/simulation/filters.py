"""The filters that can be simulated: wheels, throughput, sky."""

from __future__ import annotations

from typing import NamedTuple


class Filter(NamedTuple):
    """One filter with ACS/WFC."""

    filter1: str
    filter2: str
    """The two wheels."""
    zero_point: float
    """Vega magnitude of 1 electron / s (ACS zero points of 2006)."""
    photflam: float
    """erg / cm2 / Angstrom / electron"""
    photplam: float
    photbw: float
    """Angstrom"""
    sky: float
    """electrons / s / pixel"""


FILTERS = {
    "F435W": Filter("CLEAR1L", "F435W", 25.767, 3.122e-19, 4328.2, 292.7, 0.030),
    "F475W": Filter("F475W", "CLEAR2L", 26.155, 1.814e-19, 4746.9, 414.6, 0.060),
    "F606W": Filter("F606W", "CLEAR2L", 26.407, 7.777e-20, 5921.1, 672.3, 0.130),
    "F814W": Filter("CLEAR1L", "F814W", 25.523, 6.997e-20, 8057.0, 652.3, 0.110),
}
