"""A simulated visit with pointing errors of up to an arcsecond: what the mosaic must show of the truth."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from numpy.typing import NDArray
from truth import Measured, measure, rms

from batch.calibration import get_engine
from batch.simulation.visit import Visit, VisitSettings, simulate

if TYPE_CHECKING:
    from conftest import Bench

pytestmark = [
    pytest.mark.slow,
    # astropy's WCS reports the missing DATE of a mosaic's header
    pytest.mark.filterwarnings("ignore::astropy.wcs.FITSFixedWarning"),
]

COUNTED = 5.0
"""A cosmic ray counts when it left this many times the noise in a pixel."""


@dataclass(frozen=True)
class Observed:
    """A simulated visit, calibrated."""

    visit: Visit
    flts: list[Path]
    stars: Table


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Observed:
    folder = tmp_path_factory.mktemp("visit")
    visit = simulate(
        folder / "simulated", VisitSettings(size="1k", pointing_error=1.0, short_exptime=None, seed=3)
    )
    engine = get_engine("builtin")
    flts = []
    for raw in visit.exposures:
        area = folder / raw.name[:9]
        area.mkdir()
        copy = Path(shutil.copyfile(raw, area / raw.name))
        (flt,) = [
            p for p in engine.calibrate(copy, visit.references, area, 1) if p.name.endswith("_flt.fits")
        ]
        flts.append(flt)
    return Observed(visit, flts, Table.read(visit.truth / "stars.ecsv"))


@pytest.fixture(scope="module")
def relative(
    observed: Observed, bench: Callable[..., Bench], tmp_path_factory: pytest.TempPathFactory
) -> Bench:
    made = bench(tmp_path_factory.mktemp("relative"), observed.flts, observed.visit.references)
    made.through("sweep", (1.0, 0.5))
    return made


@pytest.fixture(scope="module")
def absolute(
    observed: Observed, bench: Callable[..., Bench], tmp_path_factory: pytest.TempPathFactory
) -> Bench:
    made = bench(
        tmp_path_factory.mktemp("absolute"),
        observed.flts,
        observed.visit.references,
        align={"catalog": str(observed.visit.truth / "catalog.ecsv")},
    )
    made.through("combine")
    return made


def stars_of(made: Bench, task: str, stars: Table) -> Measured:
    """Stars that all exposures cover: by combine's context, since at a small pixfrac drops leave gaps."""
    with fits.open(made.path(made.records[task], "mosaic")) as hdus:
        image, wcs = np.asarray(hdus[0].data, np.float64), WCS(hdus[0].header)
    context = fits.getdata(made.path(made.records["combine/jtst01010"], "context"))
    return measure(image, wcs, context, len(made.association.exposures), stars)


def test_pointing_errors_reach_an_arcsecond(observed: Observed) -> None:
    """What the other tests are about is there."""
    pointing = Table.read(observed.visit.truth / "pointing.ecsv")
    errors = np.hypot(pointing["east_error"], pointing["north_error"])
    assert errors.max() > 0.5


def test_relative_alignment_places_stars_but_for_one_common_shift(
    relative: Bench, observed: Observed
) -> None:
    found = stars_of(relative, "combine/jtst01010", observed.stars)
    assert len(found.ratio) > 30
    assert (rms(found.offset - np.median(found.offset, axis=0)) < 0.1).all()


def test_absolute_alignment_places_stars(absolute: Bench, observed: Observed) -> None:
    found = stars_of(absolute, "combine/jtst01010", observed.stars)
    assert len(found.ratio) > 30
    assert (rms(found.offset) < 0.1).all()


@pytest.mark.parametrize("task", ["combine/jtst01010", "sweep/jtst01010/pf1.0", "sweep/jtst01010/pf0.5"])
def test_aperture_fluxes(relative: Bench, observed: Observed, task: str) -> None:
    found = stars_of(relative, task, observed.stars)
    assert len(found.ratio) > 30
    assert np.median(found.ratio) == pytest.approx(1, abs=0.02)


def test_the_sweep_at_the_pixfrac_of_combine_equals_its_mosaic(relative: Bench) -> None:
    """With distortion, real masks and a sky that differs from exposure to exposure."""
    first, second = relative.records["combine/jtst01010"], relative.records["sweep/jtst01010/pf1.0"]
    for kind in ("mosaic", "weight", "context"):
        expected, got = (fits.getdata(relative.path(r, kind)) for r in (first, second))
        np.testing.assert_allclose(got, expected, rtol=2e-6, atol=2e-6 * np.nanstd(expected), err_msg=kind)


def _rays(relative: Bench, observed: Observed) -> Iterator[tuple[NDArray[np.float64], NDArray[np.int16]]]:
    """Charge from cosmic rays away from stars, electrons, and the final flags, for each exposure."""
    record = relative.records["combine/jtst01010"]
    for path in relative.paths(record, "flt"):
        root = path.name[:9]
        dq, exptime = fits.getdata(path, "DQ"), fits.getval(path, "EXPTIME")
        hits = fits.getdata(observed.visit.cosmic_rays(root), 1)
        charge = np.zeros(dq.shape)
        np.add.at(charge, (hits["Y"], hits["X"]), hits["ELECTRONS"])
        electrons = np.asarray(observed.stars["FLUX"]) * exptime
        for x, y, e in zip(
            observed.stars[f"{root}_x"] - 1, observed.stars[f"{root}_y"] - 1, electrons, strict=True
        ):
            reach = 3 if e < 5_000 else 6 if e < 100_000 else 12
            if e > 200 and -reach < x < dq.shape[1] + reach and -reach < y < dq.shape[0] + reach:
                rows, cols = (slice(max(0, round(v) - reach), round(v) + reach + 1) for v in (y, x))
                charge[rows, cols] = 0
        yield charge, dq


def test_cosmic_rays_are_gone(relative: Bench, observed: Observed) -> None:
    """Of the pixels that cosmic rays spoilt, at least 95 % have no part in the mosaic."""
    good = sum({16, 64, 256})
    sky = relative.records["combine/jtst01010"].results["sky"]
    noise = np.sqrt(np.mean([levels[0] for levels in sky.values()]) + 5.0**2)
    kept = spoilt = 0
    for charge, dq in _rays(relative, observed):
        hit = charge > COUNTED * noise
        spoilt += int(hit.sum())
        kept += int(((dq[hit] & ~good) == 0).sum())
    assert spoilt > 2000
    assert kept <= 0.05 * spoilt


def test_stars_are_not_taken_for_cosmic_rays(relative: Bench, observed: Observed) -> None:
    """At the cores of bright stars, where the undersampled image differs most between exposures."""
    lost = total = 0
    for path in relative.paths(relative.records["combine/jtst01010"], "flt"):
        root, dq = path.name[:9], fits.getdata(path, "DQ")
        flux = np.asarray(observed.stars["FLUX"])
        bright = (flux > 50) & (flux < 300) & (np.asarray(observed.stars[f"{root}_chip"]) > 0)
        cols, rows = (np.rint(observed.stars[f"{root}_{a}"][bright] - 1).astype(int) for a in "xy")
        lost += int(((dq[rows, cols] & 4096) != 0).sum())
        total += int(bright.sum())
    assert total > 200
    assert lost < 0.01 * total


def test_every_task_stays_within_its_promise_of_memory(relative: Bench, absolute: Bench) -> None:
    """Nor is the promise more than twice what is used: that would leave workers idle."""
    for made in (relative, absolute):
        for task_id, record in made.records.items():
            if task_id.split("/")[0] in ("wcs", "align", "combine", "sweep"):
                promise = made.tasks[task_id].needs.memory
                used = record.usage.peak_memory
                assert 0.5 * promise < used < promise, (
                    f"{task_id}: {used / 1e6:.0f} of {promise / 1e6:.0f} MB"
                )
