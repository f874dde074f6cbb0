"""Small simulated visits, shared by the tests of this folder."""

from __future__ import annotations

import pytest

from batch.simulation.visit import Visit, VisitSettings, simulate

PLAIN = VisitSettings(seed=11, size="512", amp="C", exposures=2, pointing_error=0.8)
LATE = VisitSettings(
    seed=12,
    size="512",
    amp="B",
    exposures=1,
    short_exptime=None,
    date="2017-05-05",
    flash=4.6,
    cte=True,
    gain=1,
)
SPLIT = VisitSettings(seed=13, size="512", amp="D", association="crsplit", exposures=2, short_exptime=None)


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Visit:
    """A dithered visit of 2006 on a small subarray, with one short exposure."""
    return simulate(tmp_path_factory.mktemp("plain"), PLAIN)


@pytest.fixture(scope="session")
def late(tmp_path_factory: pytest.TempPathFactory) -> Visit:
    """One exposure of 2017 with everything: post-flash, charge trails, sink pixels, gain 1."""
    return simulate(tmp_path_factory.mktemp("late"), LATE)


@pytest.fixture(scope="session")
def split(tmp_path_factory: pytest.TempPathFactory) -> Visit:
    """A CR-SPLIT pair."""
    return simulate(tmp_path_factory.mktemp("split"), SPLIT)


@pytest.fixture(scope="session")
def full(tmp_path_factory: pytest.TempPathFactory) -> Visit:
    """One exposure of both chips, not crowded and without cosmic rays, so that many stars can be measured."""
    settings = VisitSettings(
        seed=14, size="full", exposures=1, short_exptime=None, stars=15_000, cosmic_rays=0
    )
    return simulate(tmp_path_factory.mktemp("full"), settings)


@pytest.fixture(scope="session", params=["plain", "late", "split"])
def any_visit(request: pytest.FixtureRequest) -> Visit:
    """Each of them."""
    return request.getfixturevalue(request.param)
