"""The distortion model that stwcs writes, against the positions at which stars were simulated."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from batch.calibration import get_engine
from batch.model.record import Record
from batch.simulation.visit import Visit, VisitSettings, simulate

if TYPE_CHECKING:
    from conftest import Bench

pytestmark = [
    pytest.mark.slow,
    # headers as the engine and stwcs write them, seen by astropy's WCS
    pytest.mark.filterwarnings("ignore::astropy.wcs.FITSFixedWarning"),
]


@dataclass(frozen=True)
class Observed:
    visit: Visit
    flt: Path


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Observed:
    """One exposure that points where its header says."""
    folder = tmp_path_factory.mktemp("distortion")
    settings = VisitSettings(size="1k", exposures=1, short_exptime=None, pointing_error=0.0, stars=2000)
    visit = simulate(folder / "simulated", settings)
    raw = Path(shutil.copyfile(visit.exposures[0], folder / visit.exposures[0].name))
    products = get_engine("builtin").calibrate(raw, visit.references, folder, 1)
    return Observed(visit, next(p for p in products if p.name.endswith("_flt.fits")))


def off(made: Bench, record: Record, observed: Observed) -> np.ndarray:
    """Positions by the WCS minus the true ones, pixels, shape (stars, 2)."""
    stars = Table.read(observed.visit.truth / "stars.ecsv")
    (root,) = observed.visit.rootnames
    stars = stars[(stars[f"{root}_chip"] > 0) & (stars[f"{root}_x"] > 1) & (stars[f"{root}_y"] > 1)]
    with fits.open(made.path(record, "flt")) as hdus:
        wcs = WCS(hdus["SCI", 1].header, hdus)
        x, y = wcs.all_world2pix(stars["RA"], stars["DEC"], 1, tolerance=1e-5)
    return np.column_stack([x - stars[f"{root}_x"], y - stars[f"{root}_y"]])


def test_the_whole_model_places_stars_to_a_thousandth_of_a_pixel(
    tmp_path: Path, observed: Observed, bench: Callable[..., Bench]
) -> None:
    made = bench(tmp_path / "work", [observed.flt], observed.visit.references)
    record = made.do("wcs", exposure=observed.visit.rootnames[0])
    assert record.status.ok, record.failure
    assert not record.notes
    assert record.results["model"].startswith("IDC_")
    difference = off(made, record, observed)
    assert len(difference) > 100
    assert np.abs(difference).max() < 0.001
    assert difference.std(axis=0).max() < 4e-5
    header = fits.getheader(made.path(record, "flt"))
    assert all(header[k].startswith("jref$") for k in ("IDCTAB", "NPOLFILE", "D2IMFILE"))
    assert not any(str(tmp_path) in str(v) for v in header.values())


@pytest.mark.parametrize(
    ("keyword", "extension", "size"), [("NPOLFILE", "WCSDVARR", 4e-4), ("D2IMFILE", "D2IMARR", 1e-2)]
)
def test_without_a_table_the_model_goes_on_and_says_so(
    tmp_path: Path, observed: Observed, bench: Callable[..., Bench], keyword: str, extension: str, size: float
) -> None:
    made = bench(tmp_path / "work", [observed.flt], observed.visit.references, missing=[keyword])
    record = made.do("wcs", exposure=observed.visit.rootnames[0])
    assert record.status.ok, record.failure
    assert any(keyword in note and "is not there" in note for note in record.notes)
    with fits.open(made.path(record, "flt")) as hdus:
        assert hdus[0].header[keyword] == "N/A"
        assert extension not in {hdu.name for hdu in hdus}
    # of the size of what is left out, pixels; with both tables a tenth of that is not reached
    assert size < off(made, record, observed).std(axis=0).max() < 10 * size


def test_without_the_idctab_positions_are_pixels_off(
    tmp_path: Path, observed: Observed, bench: Callable[..., Bench]
) -> None:
    """What the other tests measure is no accident of an undistorted field."""
    made = bench(tmp_path / "work", [observed.flt], observed.visit.references, missing=["IDCTAB"])
    record = made.do("wcs", exposure=observed.visit.rootnames[0])
    assert "IDCTAB" in record.reason
    assert off(made, record, observed).std(axis=0).max() > 1


def test_a_table_without_the_chip_is_refused(
    tmp_path: Path, observed: Observed, bench: Callable[..., Bench]
) -> None:
    references = Path(shutil.copytree(observed.visit.references, tmp_path / "references"))
    path = references / fits.getval(observed.flt, "IDCTAB").removeprefix("jref$")
    with fits.open(path, mode="update") as hdus:
        hdus[1].data["DETCHIP"] = 9
    made = bench(tmp_path / "work", [observed.flt], references)
    record = made.do("wcs", exposure=observed.visit.rootnames[0])
    assert record.failure is not None
    assert record.failure.kind == "LibraryError"
    assert "_flt.fits" in record.failure.message


def test_inverse_variance_weights_use_the_flat_field(
    tmp_path: Path, observed: Observed, bench: Callable[..., Bench]
) -> None:
    with_flat, without = (
        bench(
            tmp_path / name,
            [observed.flt],
            observed.visit.references,
            missing=missing,
            combine={"weight": "IVM"},
        )
        for name, missing in (("with", []), ("without", ["PFLTFILE"]))
    )
    weights = []
    for made in (with_flat, without):
        weights.append(
            np.asarray(fits.getdata(made.path(made.through("sweep", (1.0,)), "weight")), np.float64)
        )
    assert not any("flat field" in n for n in with_flat.records["combine/jtst01010"].notes)
    assert any("no flat field" in n for n in without.records["sweep/jtst01010/pf1.0"].notes)
    both = (weights[0] > 0) & (weights[1] > 0)
    ratio = weights[0][both] / weights[1][both]
    assert 0.003 < ratio.std() < 0.3
