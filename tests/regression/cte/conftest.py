"""What the tests of the CTE correction share."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from beside import load

from batch.calibration.cte import CteTable, read_table

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def naive() -> ModuleType:
    """The specification read literally."""
    return load(HERE / "naive.py")


@pytest.fixture(scope="session")
def build() -> ModuleType:
    """Trap sets, tables, columns."""
    return load(HERE / "builders.py")


@pytest.fixture(scope="session")
def unpack(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """Unpack a gzipped golden file into a folder of this session."""
    folder = tmp_path_factory.mktemp("golden")

    def unpack(packed: Path) -> Path:
        target = folder / packed.parent.name / packed.name.removesuffix(".gz")
        if not target.exists():
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(gzip.decompress(packed.read_bytes()))
        return target

    return unpack


@pytest.fixture(scope="session")
def jref(golden: Path, unpack: Callable[[Path], Path]) -> Path:
    """A folder with the golden CCDTAB and PCTETAB."""
    unpack(golden / "jref" / "wfc_ccd.fits.gz")
    return unpack(golden / "jref" / "wfc_cte.fits.gz").parent


@pytest.fixture(scope="session")
def golden_table(jref: Path) -> CteTable:
    """The golden PCTETAB."""
    return read_table(jref / "wfc_cte.fits")
