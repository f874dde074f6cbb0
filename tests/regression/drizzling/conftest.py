"""What the tests of the drizzle share."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from beside import load

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def naive() -> ModuleType:
    """Polygons clipped one by one."""
    return load(HERE / "naive_polygon.py")


@pytest.fixture(scope="session")
def build() -> ModuleType:
    """Chips, and mosaics as arrays."""
    return load(HERE / "builders.py")
