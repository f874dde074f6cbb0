"""Combined products where no golden case goes: WFC with the CTE correction, and what must be refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from batch.calibration.association import calibrate_association
from batch.errors import InputError


def associate(case: Any, names: list[str], **changes: object) -> Path:
    """Make copies of a case's raw exposure and an association of them."""
    (raw,) = case.raws
    for name in names:
        copy = case.folder / f"{name}_raw.fits"
        shutil.copyfile(raw, copy)
        with fits.open(copy, mode="update") as hdus:
            hdus[0].header.update({"CRCORR": "PERFORM", "CRREJTAB": "jref$crr.fits"} | changes)
    raw.unlink()
    rows = [(name, "EXP-CRJ", True) for name in names] + [("jtest0011", "PROD-CRJ", False)]
    table = Table(rows=rows, names=("MEMNAME", "MEMTYPE", "MEMPRSNT"), dtype=("S14", "S14", "?"))
    path = case.folder / "jtest0010_asn.fits"
    header = fits.Header({"INSTRUME": "ACS", "DETECTOR": "WFC", "ASN_PROD": False})
    fits.HDUList([fits.PrimaryHDU(header=header), fits.BinTableHDU(table)]).writeto(path)
    return path


@pytest.mark.slow
def test_cte_corrected_exposures_are_combined_too(golden: Path, jref: Any, open_case: Any) -> None:
    case = open_case(golden / "cases" / "cte_pre_tall_c", jref)
    jref.unpack("crr.fits")
    products = calibrate_association(associate(case, ["jtest001a", "jtest001b"]), jref.folder, case.folder, 2)
    roots = (
        "jtest0011_crj",
        "jtest0011_crc",
        "jtest001a_flt",
        "jtest001a_flc",
        "jtest001b_flt",
        "jtest001b_flc",
    )
    assert [p.name for p in products] == [f"{root}.fits" for root in roots]
    assert not list(case.folder.glob("*_tmp.fits"))
    for kind, single, dark in (("crj", "flt", "DARKFILE"), ("crc", "flc", "DRKCFILE")):
        with fits.open(case.folder / f"jtest0011_{kind}.fits") as both:
            header, sci = both[0].header, both["SCI"].data
            one = fits.getdata(case.folder / f"jtest001a_{single}.fits", "SCI")
            # the same exposure twice: nothing is rejected, twice the electrons in twice the time
            np.testing.assert_allclose(sci, 2 * one, rtol=1e-5, atol=2e-3)
            assert header["REJ_RATE"] == 0
            assert (header["EXPTIME"], both["SCI"].header["NCOMBINE"]) == (1200.0, 2)
            suffix = "_crc_tmp" if kind == "crc" else ""
            assert header["ROOTNAME"] == f"jtest0011{suffix}".upper()
            assert [both[n].header["EXPNAME"] for n in ("SCI", "ERR", "DQ")] == [f"jtest0011{suffix}"] * 3
            assert f"  reference image {header[dark].rstrip()}" in list(header["HISTORY"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"SHADCORR": "PERFORM", "SHADFILE": "jref$hrc_pfl.fits"}, "SHADCORR"),
        ({"CRREJTAB": "jref$absent.fits"}, "CRREJTAB"),
        ({"EXPTIME": 2e6}, "no row for 2 images"),
    ],
)
def test_refused_combinations(
    changes: dict[str, object], message: str, golden: Path, jref: Any, open_case: Any
) -> None:
    case = open_case(golden / "cases" / "hrc_real_f555w", jref)
    jref.unpack("crr.fits")
    asn = associate(case, ["jtest001a", "jtest001b"], **changes)
    with pytest.raises(InputError, match=message):
        calibrate_association(asn, jref.folder, case.folder, 1)
    assert not list(case.folder.glob("*_cr?.fits"))
    assert not list(case.folder.glob("*_tmp.fits"))
