"""Whole exposures and associations against calacs.e 10.5.0: pixels, keywords, HISTORY."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from astropy.io import fits

from batch.calibration.association import calibrate_association
from batch.calibration.builtin import BuiltinEngine

QUICK = ["hrc_real_f330w", "hrc_real_f555w", "hrc_real_f606w", "hrc_crsplit2"]
SLOW = [
    "hrc_crsplit3",
    "wfc_2006_presm4",
    "wfc_2012_dsint",
    "wfc_2013_clamp",
    "wfc_chain2k_c",
    "wfc_sub1k_a_2017",
    "wfc_sub2k_c_2017",
    "wfc_sub512_d_2006",
    *(f"cte_post_{shape}_{amp}" for shape in ("tall", "wide") for amp in "abcd"),
    *(f"cte_pre_tall_{amp}" for amp in "abcd"),
]


def _run(case: Any, jref: Any, threads: int) -> None:
    if case.input.name.endswith("_asn.fits"):
        calibrate_association(case.input, jref.folder, case.folder, threads, keep_intermediate=True)
    else:
        BuiltinEngine(keep_intermediate=True).calibrate(case.input, jref.folder, case.folder, threads)


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_products_are_those_of_calacs(
    name: str, golden: Path, jref: Any, open_case: Any, compare: Callable[[Any, str], None]
) -> None:
    case = open_case(golden / "cases" / name, jref)
    _run(case, jref, threads=2)
    made = {path.name for path in case.folder.glob("*.fits")} - set(case.description["inputs"])
    assert made == set(case.description["products_made"])
    expected = json.loads((case.source / "expected_headers.json").read_text())
    after = expected.pop("asn_after", None)
    for product in expected:
        compare(case, product)
    if after is not None:
        with fits.open(case.input) as hdus:
            assert hdus[0].header["ASN_PROD"] is after["ASN_PROD"]
            assert hdus[1].data["MEMPRSNT"].tolist() == after["MEMPRSNT"]


def test_every_golden_case_is_here(golden: Path) -> None:
    cases = {path.name for path in (golden / "cases").iterdir()}
    forward_model = {"cte_forward_b", "cte_forward_c"}
    assert cases - forward_model == {*QUICK, *SLOW}


def test_packaged_case_is_that_of_calacs(
    packaged: Path, packaged_jref: Any, open_case: Any, compare: Callable[[Any, str], None]
) -> None:
    case = open_case(packaged, packaged_jref)
    (flt,) = BuiltinEngine().calibrate(case.input, packaged_jref.folder, case.folder, 1)
    assert flt.name == "j8bt05njq_flt.fits"
    compare(case, "j8bt05njq_flt")
    assert fits.getval(flt, "CAL_ENG").startswith("builtin ")
    assert not list(case.folder.glob("*_tmp.fits"))


def test_comparison_notices_one_bit(
    packaged: Path, packaged_jref: Any, open_case: Any, compare: Callable[[Any, str], None]
) -> None:
    case = open_case(packaged, packaged_jref)
    (flt,) = BuiltinEngine().calibrate(case.input, packaged_jref.folder, case.folder, 1)
    for extension, dtype in (("SCI", "i4"), ("ERR", "i4"), ("DQ", "i2")):
        with fits.open(flt, mode="update") as hdus:
            hdus[extension].data.view(f">{dtype}")[0, 5] ^= 1
        with pytest.raises(AssertionError, match=extension):
            compare(case, "j8bt05njq_flt")
        with fits.open(flt, mode="update") as hdus:
            hdus[extension].data.view(f">{dtype}")[0, 5] ^= 1
    with fits.open(flt, mode="update") as hdus:
        hdus[0].header["HISTORY"][3] = "something else"
    with pytest.raises(AssertionError, match="HISTORY"):
        compare(case, "j8bt05njq_flt")


def test_threads_change_no_bit(packaged: Path, packaged_jref: Any, open_case: Any) -> None:
    case = open_case(packaged, packaged_jref)
    results = []
    for threads in (1, 2, 3):
        (flt,) = BuiltinEngine(overwrite=True).calibrate(
            case.input, packaged_jref.folder, case.folder, threads
        )
        results.append(flt.read_bytes())
    assert results[0] == results[1] == results[2]
