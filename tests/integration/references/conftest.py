"""A CRDS server with its store, and an empty cache beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from crds_server import CrdsServer, of_cache, serve

from batch.references.download import Patience
from batch.references.location import Cache
from batch.references.service import Service
from batch.simulation.visit import Visit, VisitSettings, simulate


@pytest.fixture
def server(tmp_path: Path) -> Iterator[CrdsServer]:
    """Twenty reference files of 200 kB each."""
    store = tmp_path / "store"
    store.mkdir()
    rng = np.random.default_rng(1)
    files = {}
    for number in range(20):
        path = store / f"f{number:08d}j_drk.fits"
        path.write_bytes(rng.bytes(200_000 + number))
        files[path.name] = path
    with serve(CrdsServer(files, "hst_0001.pmap", {"hst_0001.pmap": ()})) as running:
        yield running


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """Nothing in it yet."""
    root = tmp_path / "cache"
    root.mkdir()
    return Cache(root)


@pytest.fixture
def service(server: CrdsServer, cache: Cache) -> Service:
    """The real crds client, told of the stand-in."""
    return Service(cache, server.url, timeout=2, attempts=2, pause=0)


@pytest.fixture
def patience() -> Patience:
    """Little of it."""
    return Patience(attempts=3, pause=0.01, silence=1.0, deadline=30.0)


@pytest.fixture(scope="session")
def visit(tmp_path_factory: pytest.TempPathFactory) -> Visit:
    """One exposure of 2072 x 512 pixels."""
    settings = VisitSettings(size="512", exposures=1, short_exptime=None, stars=5_000)
    return simulate(tmp_path_factory.mktemp("one"), settings)


@pytest.fixture
def store(visit: Visit) -> Iterator[CrdsServer]:
    """A server of the reference files and mappings of the visit."""
    with serve(of_cache(visit.crds, "hst_0001.pmap")) as running:
        yield running


@pytest.fixture(autouse=True)
def _no_crds_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CRDS_PATH", "CRDS_CONTEXT", "CRDS_SERVER_URL"):
        monkeypatch.delenv(name, raising=False)
