"""Reference images and tables: which imset, which section, which row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from batch.calibration.alignment import align, nearest
from batch.calibration.ccd import Quadrants, quadrants, select_ccdtab_row
from batch.calibration.frame import Frame
from batch.calibration.header import Chip
from batch.calibration.imphttab import interpolate
from batch.calibration.oscntab import select_oscntab_row
from batch.calibration.photometry import photmode
from batch.errors import InputError
from batch.storage.fits import read_image


@pytest.fixture
def frame(exposure: Any) -> Frame:
    return Frame.of(read_image(exposure.raw), exposure.raw, exposure.jref, 1)


CHIP = Chip(number=1, good_bits=-1, ltv=(24.0, 20.0), ltm=(1.0, 1.0))


@pytest.mark.parametrize(("value", "whole"), [(0.5, 1), (-0.5, -1), (1.49, 1), (-1.51, -2), (0.0, 0)])
def test_halves_go_away_from_zero(value: float, whole: int) -> None:
    assert nearest(value) == whole


def test_section_of_a_subarray(frame: Frame) -> None:
    reference = frame.references.open("BIASFILE")
    section = align(reference, CHIP, (52, 72))
    assert (section.rows, section.columns) == (slice(0, 52), slice(0, 72))
    assert section.same_frame
    assert section.inner == (20, 24)
    inside = align(reference, replace(CHIP, ltv=(14.0, 15.0)), (20, 30))
    assert (inside.rows, inside.columns) == (slice(5, 25), slice(10, 40))
    assert not inside.same_frame
    wanted = fits.getdata(reference.path, "SCI")[7:9, 10:40]
    assert np.array_equal(inside.read(inside.planes.sci, np.float32, slice(2, 4)), wanted)


@pytest.mark.parametrize("ltv", [(25.0, 20.0), (24.0, 21.0), (23.0, 20.0), (24.0, 19.0)])
def test_reference_that_does_not_cover_the_frame(ltv: tuple[float, float], frame: Frame) -> None:
    with pytest.raises(InputError, match=r"bia.fits\[SCI,1\].*are needed"):
        align(frame.references.open("BIASFILE"), replace(CHIP, ltv=ltv), (52, 72))


def test_reference_of_another_chip_or_binning(frame: Frame) -> None:
    reference = frame.references.open("BIASFILE")
    with pytest.raises(InputError, match="CCDCHIP = 2"):
        align(reference, replace(CHIP, number=2), (52, 72))
    with pytest.raises(InputError, match="binning"):
        align(reference, replace(CHIP, ltm=(0.5, 0.5)), (52, 72))


def rewrite(exposure: Any, write_table: Callable[..., None], name: str, rows: list[dict[str, Any]]) -> None:
    path = exposure.jref / f"{name}.fits"
    with fits.open(path) as hdus:
        names = hdus[1].columns.names
        first = {n: hdus[1].data[n][0].item() if hdus[1].data[n].dtype.kind != "U" else "" for n in names}
        texts = {n: str(hdus[1].data[n][0]) for n in names if hdus[1].data[n].dtype.kind == "U"}
    path.unlink()
    write_table(path, [first | texts | row for row in rows])


def test_first_matching_ccdtab_row(exposure: Any, frame: Frame, write_table: Callable[..., None]) -> None:
    rows = [
        {"CCDAMP": "B", "DESCRIP": "other amp"},
        {"CCDGAIN": 1.0, "DESCRIP": "other gain"},
        {"CCDOFSTC": 4, "DESCRIP": "other offset"},
        {"CCDAMP": "ANY", "CCDCHIP": -999, "CCDGAIN": -1.0, "DESCRIP": "any"},
        {"DESCRIP": "exact, but later"},
    ]
    rewrite(exposure, write_table, "ccd", rows)
    found = select_ccdtab_row(frame.setup, 1, 72, frame.references.open("CCDTAB"))
    assert found.notes == ("any",)
    assert found.gain.tolist() == [2.0, 0.0, 0.0, 0.0]  # amps that are not read out have none
    assert found.amp_x == 72  # no more than there are columns
    rewrite(exposure, write_table, "ccd", rows[:3])
    with pytest.raises(InputError, match=r"no row for CCDAMP A, .*CCDCHIP 2"):
        select_ccdtab_row(frame.setup, 2, 72, frame.references.open("CCDTAB"))


def test_overscan_row_is_zero_based(frame: Frame) -> None:
    reference = frame.references.open("OSCNTAB")
    found = select_oscntab_row(frame.setup, 1, (52, 72), reference)
    assert found.found
    assert found.virtual_rows
    assert (found.trim_x1, found.trim_y1) == (24, 20)
    assert found.section_a == (17, 23)
    assert found.section_b == (-1, -1)
    assert not select_oscntab_row(frame.setup, 1, (52, 73), reference).found


@pytest.mark.parametrize(
    ("detector", "chip", "amps", "amp_x", "expected"),
    [
        ("WFC", 2, "ABCD", 2048, Quadrants(2072, 0, (2, 3, 2, 3))),
        ("WFC", 1, "ABCD", 2048, Quadrants(2072, 0, (0, 1, 0, 1))),
        ("WFC", 1, "A", 4144, Quadrants(4144, 0, (0, 1, 0, 1))),
        ("HRC", 1, "C", 0, Quadrants(0, 0, (None, 2, None, None))),
    ],
)
def test_amps_on_the_chip(
    detector: str, chip: int, amps: str, amp_x: int, expected: Quadrants, frame: Frame
) -> None:
    setup = replace(frame.setup, detector=detector, amps=amps)
    gain = np.array([2.0 if amp in amps else 0.0 for amp in "ABCD"], np.float32)
    ccd = select_ccdtab_row(frame.setup, 1, 4144, frame.references.open("CCDTAB"))
    ccd = replace(ccd, gain=gain, amp_x=amp_x)
    found = quadrants(setup, replace(CHIP, number=chip, ltv=(24.0, 0.0)), ccd, (2068, 4144))
    assert found == expected
    assert max(found.values(gain, 2068, "gain")) == 2.0


def test_gain_of_zero_is_an_error() -> None:
    with pytest.raises(InputError, match="ATODGN: is 0"):
        Quadrants(10, 0, (0, 1, 0, 1)).values(np.zeros(4, np.float32), 20, "ATODGN")


@pytest.mark.parametrize(
    ("changes", "mode"),
    [
        ({}, "ACS WFC1 F814W MJD#53800.5000"),
        ({"detector": "HRC", "filters": ("F555W", "POL0UV")}, "ACS HRC F555W POL_UV MJD#53800.5000"),
        ({"filters": ("CLEAR1S", "POL60V")}, "ACS WFC1 POL_V MJD#53800.5000"),
        ({"filters": ("N/A", "FR656N"), "ramp_wavelength": 6563.4}, "ACS WFC1 FR656N#6563 MJD#53800.5000"),
        ({"obstype": "CORONAGRAPHIC", "detector": "HRC"}, "ACS HRC CORON F814W MJD#53800.5000"),
    ],
)
def test_photmode(changes: dict[str, Any], mode: str, frame: Frame) -> None:
    assert photmode(replace(frame.setup, **changes)) == mode


@given(
    st.tuples(*[st.floats(-3, 3) for _ in range(4)]), st.floats(0, 10), st.floats(-5, 15), st.floats(100, 130)
)
def test_interpolation_is_exact_for_bilinear_functions(
    c: tuple[float, ...], middle: float, x: float, y: float
) -> None:
    grids = [np.array([-1.0, middle, 11.0]), np.array([100.0, 110.0, 120.0, 125.0])]
    values = np.array([[c[0] + c[1] * a + c[2] * b + c[3] * a * b for a in grids[0]] for b in grids[1]])
    wanted = c[0] + c[1] * x + c[2] * y + c[3] * x * y
    assert interpolate(values, grids, [x, y]) == pytest.approx(wanted, abs=1e-6)
