"""Subarrays after SM4: the stripes go, sky and stars stay, through either engine."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from batch.calibration import get_engine, stripes
from batch.calibration.header import read_setup
from batch.simulation.electronics import STRIPE
from batch.simulation.visit import Visit, VisitSettings, simulate


@pytest.fixture(scope="module")
def striped(tmp_path_factory: pytest.TempPathFactory) -> Visit:
    """A 2K subarray of 2017, as few stars as let the rows be measured."""
    settings = VisitSettings(
        seed=21, size="2k", exposures=1, short_exptime=None, date="2017-05-05", stars=3_000, cosmic_rays=0
    )
    return simulate(tmp_path_factory.mktemp("striped"), settings)


def run(visit: Visit, area: Path, engine: str = "builtin", *, destripe: bool) -> Path:
    area.mkdir(exist_ok=True)
    made = get_engine(engine).calibrate(  # type: ignore[arg-type]
        visit.exposures[0], visit.references, area, 1, destripe=destripe
    )
    return made[0]


@pytest.fixture(scope="module")
def pair(striped: Visit, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """With the stripes, and without."""
    area = tmp_path_factory.mktemp("pair")
    return run(striped, area / "with", destripe=False), run(striped, area / "without", destripe=True)


def rows(path: Path) -> np.ndarray:
    """The sky of each row against its neighbours', electrons."""
    sci = fits.getdata(path, ("SCI", 1)).astype(float)
    level = np.median(sci, axis=1)
    smooth = np.array([np.median(level[max(0, i - 30) : i + 31]) for i in range(level.size)])
    return level - smooth


def scatter(values: np.ndarray) -> float:
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


@pytest.mark.slow
def test_the_stripes_go_down_to_the_noise(pair: tuple[Path, Path]) -> None:
    before, after = (scatter(rows(path)) for path in pair)
    # the median of a row of 2048 pixels is itself uncertain by this much
    err = float(np.median(fits.getdata(pair[0], ("ERR", 1))))
    noise = 1.2533 * err / np.sqrt(2048)
    assert before > 0.8 * STRIPE
    assert after < max(0.3 * before, 2 * noise)


@pytest.mark.slow
def test_sky_and_stars_stay(striped: Visit, pair: tuple[Path, Path]) -> None:
    with fits.open(pair[0]) as one, fits.open(pair[1]) as two:
        before, after = one["SCI", 1].data.astype(float), two["SCI", 1].data.astype(float)
        assert np.array_equal(one["DQ", 1].data, two["DQ", 1].data)
        changed = one["ERR", 1].data / two["ERR", 1].data
    assert abs(np.median(after) - np.median(before)) < 0.1
    removed = before - after
    # the same all along a row, but for the flat and for dead pixels
    low, high = np.percentile(removed, (5, 95), axis=1)
    assert np.all(high - low < 0.1 * np.abs(high + low) / 2 + 0.1)
    assert 0.999 < np.median(changed) < 1.001
    lost, flux = _stars(striped, before, removed)
    assert len(flux) > 100
    # a box of 9 x 9 loses the nine stripes below it, which star brightness has no part in
    assert np.std(lost) < 3 * 9 * np.sqrt(9) * STRIPE
    bright = flux > np.median(flux)
    assert abs(np.mean(lost[bright]) - np.mean(lost[~bright])) < 4 * np.std(lost) / np.sqrt(len(lost) / 4)
    assert abs(np.median(lost / flux)) < 0.001


def _stars(visit: Visit, before: np.ndarray, removed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What boxes of 9 x 9 pixels on known stars lost, and what they held above the sky, electrons."""
    stars = Table.read(visit.truth / "stars.ecsv")
    stars = stars[(stars["MAG"] > 18) & (stars["MAG"] < 21)]
    root = visit.rootnames[0]
    x, y = (np.rint(np.asarray(stars[f"{root}_{axis}"]) - 1) for axis in "xy")
    inside = (x > 5) & (x < before.shape[1] - 6) & (y > 5) & (y < before.shape[0] - 6)
    sky = np.median(before)
    boxes = [
        np.s_[int(j) - 4 : int(j) + 5, int(i) - 4 : int(i) + 5]
        for i, j in zip(x[inside], y[inside], strict=True)
    ]
    # dead columns amplify whatever is subtracted from them
    boxes = [b for b in boxes if np.ptp(removed[b], axis=1).max() < 1]
    return (
        np.array([removed[b].sum() for b in boxes]),
        np.array([(before[b] - sky).sum() for b in boxes]),
    )


@pytest.mark.slow
def test_nothing_else_is_left_behind_and_the_header_says_so(pair: tuple[Path, Path]) -> None:
    assert sorted(p.name for p in pair[1].parent.iterdir()) == ["destripe.log", pair[1].name]
    header = fits.getheader(pair[1])
    assert "acs-batch: stripes removed by acstools" in str(header["HISTORY"])
    assert "stripes removed" not in str(fits.getheader(pair[0])["HISTORY"])
    assert header["FILENAME"] == pair[1].name


PROGRAM = """#!{python}
import os, sys
from pathlib import Path
from batch.calibration.builtin import BuiltinEngine
from batch.calibration.stages import run_ccd_stage, run_plane_stage
from batch.storage.fits import read_image
name = Path(sys.argv[0]).name
if sys.argv[1:] == ["--version"]:
    print("10.5.0 (16-Mar-2026)")
    sys.exit(0)
source = Path(sys.argv[1])
jref = Path(os.environ["jref"])
image = read_image(source)
where = Path(source.name.replace("_blv_tmp", "_raw"))
if name == "acsccd.e":
    run_ccd_stage(image, where, jref, 1)
    BuiltinEngine().write(image, Path(source.name.replace("_raw", "_blv_tmp")))
elif name == "acs2d.e":
    run_plane_stage(image, where, jref, 1)
    BuiltinEngine().write(image, Path(source.name.replace("_blv_tmp", "_flt")))
else:
    sys.exit("not meant to be called: " + name)
"""


@pytest.mark.slow
def test_calacs_goes_through_acs_destripe_plus(
    striped: Visit, pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real acs_destripe_plus over programs that do what acsccd.e and acs2d.e do."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("calacs.e", "acsccd.e", "acs2d.e", "acscte.e"):
        path = folder / name
        path.write_text(PROGRAM.replace("{python}", sys.executable))
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    flt = run(striped, tmp_path / "area", "calacs", destripe=True)
    with fits.open(flt) as theirs, fits.open(pair[1]) as ours:
        assert np.array_equal(theirs["SCI", 1].data, ours["SCI", 1].data)
        assert np.array_equal(theirs["ERR", 1].data, ours["ERR", 1].data)
        assert np.array_equal(theirs["DQ", 1].data, ours["DQ", 1].data)
        assert theirs[0].header["CAL_ENG"].startswith("calacs 10.5.0")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"EXPSTART": 57000.0}, True),
        ({"EXPSTART": 57000.0, "APERTURE": "WFC2C-1K"}, False),
        ({"EXPSTART": 57662.0, "APERTURE": "WFC2C-1K"}, True),
        ({"EXPSTART": 53900.0}, False),
        ({"SUBARRAY": False}, False),
        ({"DETECTOR": "HRC"}, False),
        ({"BLEVCORR": "OMIT"}, False),
    ],
)
def test_which_exposures_have_them(changes: dict[str, object], expected: bool, tmp_path: Path) -> None:
    header = fits.Header(
        {
            "INSTRUME": "ACS",
            "DETECTOR": "WFC",
            "ROOTNAME": "jsim01aaq",
            "APERTURE": "WFC2C-2K",
            "SUBARRAY": True,
            "CCDAMP": "C",
            "CCDGAIN": 2.0,
            "EXPTIME": 339.0,
            "EXPSTART": 57878.0,
            "EXPEND": 57878.1,
            "BLEVCORR": "PERFORM",
            **changes,
        }
    )
    assert stripes.leaves_stripes(read_setup(header, tmp_path)) is expected
