"""What the tests of the drizzle share."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from beside import load

HERE = Path(__file__).resolve().parents[2] / "regression" / "drizzling"


@pytest.fixture(scope="session")
def build() -> ModuleType:
    """Chips, and mosaics as arrays."""
    return load(HERE / "builders.py")
