"""Faulty and unusual inputs: every row of golden/errors.json ends as calacs.e 10.5.0 does.

Where calacs.e crashes, or ends with status 0 but without a final product, the engine raises an error; the
intermediate products are the same.
"""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from batch.calibration.association import calibrate_association
from batch.calibration.builtin import BuiltinEngine
from batch.errors import BatchError, InputError

Edit = Callable[[fits.HDUList], None]
GOLDEN = Path(__file__).resolve().parents[4] / "shared" / "golden"


def _entries(base: Callable[[str], bool]) -> list[str]:
    table = GOLDEN / "errors.json"
    entries = json.loads(table.read_text()) if table.is_file() else {}
    return [name for name, entry in entries.items() if base(entry["base_case"])] or ["absent"]


@functools.cache
def _table(golden: Path) -> dict[str, Any]:
    return dict(json.loads((golden / "errors.json").read_text()))


def _dummy(hdus: fits.HDUList) -> None:
    hdus[0].header["PEDIGREE"] = "DUMMY 01/01/2000"


def _other_chip(hdus: fits.HDUList) -> None:
    for hdu in hdus[1:]:
        hdu.header["CCDCHIP"] = 2


def _other_size(hdus: fits.HDUList) -> None:
    hdus[1].data["NX"] = 100


def _offset(hdus: fits.HDUList) -> None:
    hdus["SCI"].header["LTV1"] = 500.0


def _keyword(keyword: str, value: object, hdu: int = 0) -> Edit:
    def edit(hdus: fits.HDUList) -> None:
        if value is None:
            del hdus[hdu].header[keyword]
        else:
            hdus[hdu].header[keyword] = value

    return edit


def _cut(hdus: fits.HDUList) -> None:
    hdus[1] = fits.BinTableHDU(hdus[1].data[:8000], header=hdus[1].header)


EDITS: dict[str, Edit] = {
    'PEDIGREE of the primary header set to "DUMMY 01/01/2000"': _dummy,
    "CCDCHIP set to 2 in every extension": _other_chip,
    "column NX set to 100 in every row": _other_size,
    "LTV1 of SCI set to 500": _offset,
    'CTE_NAME = "PixelCTE 2017"': _keyword("CTE_NAME", "PixelCTE 2017"),
    'CTE_NAME = "Something"': _keyword("CTE_NAME", "Something"),
    "CTE_NAME deleted": _keyword("CTE_NAME", None),
    "PCTENSMD = 1": _keyword("PCTENSMD", 1),
    "extension 1 cut to 8000 rows": _cut,
    "PCTENFOR deleted from extension 1": _keyword("PCTENFOR", None, 1),
}


def _prepare(case: Any, entry: dict[str, Any], jref: Any) -> Path:
    """Make the changes of an entry; the folder of reference files for this run."""
    folder = case.folder / "jref"
    folder.mkdir()
    if (entry.get("environment") or {}).get("jref", "") is None:
        return folder  # jref means nothing: no file is found
    for raw in case.raws:
        with fits.open(raw, mode="update") as hdus:
            for keyword, value in entry["header_changes"].items():
                hdus[0].header[keyword] = "" if value == "(blank)" else value
            for extension, keyword in entry.get("deleted_keywords", []):
                del hdus[extension].header[keyword]
        jref.provide(raw)
    for path in jref.folder.iterdir():
        (folder / path.name).symlink_to(path)
    for keyword, change in entry.get("reference_edit", {}).items():
        name = fits.getval(case.raws[0], keyword).removeprefix("jref$")
        (folder / name).unlink()
        shutil.copyfile(jref.folder / name, folder / name)
        with fits.open(folder / name, mode="update") as hdus:
            EDITS[change](hdus)
    return folder


def _existing(name: str, case: Any) -> list[Path]:
    """The outputs that lie there beforehand."""
    suffix = {"output_exists": "flt", "output_exists_clobber": "flt", "tmp_exists": "blv_tmp"}.get(name)
    paths = [case.folder / case.input.name.replace("_raw", f"_{suffix}")] if suffix else []
    for path in paths:
        path.write_text("something")
    return paths


def _check(name: str, golden: Path, jref: Any, open_case: Any) -> None:
    entry = _table(golden)[name]
    case = open_case(golden / "cases" / entry["base_case"], jref)
    folder = _prepare(case, entry, jref)
    existing = _existing(name, case)
    root = case.input.name.removesuffix("raw.fits")
    engine = BuiltinEngine(keep_intermediate=True, overwrite=name == "output_exists_clobber")
    final = any(not product.endswith("_tmp.fits") for product in entry["products"])
    if entry["exit_status"] == 0 and (final or existing):
        engine.calibrate(case.input, folder, case.folder, 1)
    else:
        with pytest.raises(BatchError) as caught:
            engine.calibrate(case.input, folder, case.folder, 1)
        assert "Traceback" not in caught.value.message
        assert ";" in caught.value.message
    made = {path.name for path in case.folder.glob("*.fits")} - {case.input.name}
    assert made - {path.name for path in existing} == {root + product for product in entry["products"]}
    for product, switches in entry["switches_after"].items():
        header = fits.getheader(case.folder / f"{root}{product}.fits")
        found = {switch: header.get(switch, "").rstrip() for switch in switches}
        assert found == {switch: value.rstrip() for switch, value in switches.items()}, product


@pytest.mark.parametrize("name", _entries(lambda base: base == "hrc_real_f555w"))
def test_hrc_exposure(name: str, golden: Path, jref: Any, open_case: Any) -> None:
    if name == "jref_noslash":
        pytest.skip("the folder is a path here: a slash at its end means nothing")
    if name == "cte_hrc":
        jref.unpack("wfc_cte.fits")
    _check(name, golden, jref, open_case)


@pytest.mark.slow
@pytest.mark.parametrize("name", _entries(lambda base: base.startswith("cte_")))
def test_wfc_exposure_with_cte(name: str, golden: Path, jref: Any, open_case: Any) -> None:
    _check(name, golden, jref, open_case)


@pytest.mark.parametrize("name", _entries(lambda base: base == "hrc_crsplit2"))
def test_association(name: str, golden: Path, jref: Any, open_case: Any) -> None:
    entry = _table(golden)[name]
    case = open_case(golden / "cases" / "hrc_crsplit2", jref)
    folder = _prepare(case, entry, jref)
    for removed in entry["removed_inputs"]:
        (case.folder / f"{removed}_raw.fits").unlink()
    with fits.open(case.input, mode="update") as hdus:
        columns = list(zip(*entry["association_rows"], strict=True))
        rows = Table(columns, names=("MEMNAME", "MEMTYPE", "MEMPRSNT"), dtype=("S14", "S14", "?"))
        hdus[1] = fits.BinTableHDU(rows)
    inputs = {path.name for path in case.folder.glob("*.fits")}
    if entry["exit_status"] == 0:
        calibrate_association(case.input, folder, case.folder, 1, keep_intermediate=True)
    else:
        with pytest.raises(InputError):
            calibrate_association(case.input, folder, case.folder, 1, keep_intermediate=True)
    assert {path.name for path in case.folder.glob("*.fits")} - inputs == set(entry["products"])
    with fits.open(case.input) as hdus:
        assert np.array_equal(hdus[1].data["MEMPRSNT"], entry["memprsnt_after"])
    for product, switches in entry["switches_after"].items():
        header = fits.getheader(case.folder / f"{product}.fits")
        assert {switch: header[switch].rstrip() for switch in switches} == switches, product
