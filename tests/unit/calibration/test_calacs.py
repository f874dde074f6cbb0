"""The engine `calacs`, with a small program of the same name and manners on PATH."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from astropy.io import fits

from batch.calibration.calacs import CalacsEngine
from batch.errors import ChildKilledError, LibraryError, UsageError

# Behaves as documented: --version; options after the input; jref must end in a slash; existing outputs are an
# error unless imclobber is yes; TARGNAME says how it ends.
PROGRAM = """#!{python}
import os, sys
if sys.argv[1:] == ["--version"]:
    print("10.5.0 (16-Mar-2026)")
    sys.exit(0)
raw, arguments = sys.argv[1], sys.argv[2:]
content = open(raw, "rb").read()
cards = [content[i : i + 80].decode() for i in range(0, 5 * 2880, 80) if content[i + 8 : i + 10] == b"= "]
header = {c[:8].strip(): c[10:].partition("/")[0].strip(" '") for c in reversed(cards)}
print("CALBEG", raw, *arguments)
assert arguments[0] == "--nthreads" and int(arguments[1]) > 0, arguments
assert os.environ["jref"].endswith("/") and os.path.isdir(os.environ["jref"])
if not os.path.exists(os.environ["jref"] + header["CCDTAB"].removeprefix("jref$")):
    print("ERROR:    One reference file was missing.")
    sys.exit(2)
mood = header["TARGNAME"]
if mood == "KILLED":
    os.kill(os.getpid(), 9)
if mood == "SILENT":
    print("nothing was done")
    sys.exit(0)
for suffix in ["flt", "flc"] if header["PCTECORR"] == "PERFORM" and mood != "NO FLC" else ["flt"]:
    output = raw.replace("_raw", "_" + suffix)
    if os.path.exists(output) and os.environ.get("imclobber") != "yes":
        sys.exit(2)
    version = b"CAL_VER = '10.5.0 (16-Mar-2026)'"
    open(output, "wb").write(content.replace(b"CAL_VER = ''".ljust(len(version)), version))
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    path = folder / "calacs.e"
    path.write_text(PROGRAM.replace("{python}", sys.executable))
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("imclobber", "yes")  # the engine must not let it through
    monkeypatch.delenv("jref", raising=False)
    return path


def calibrate(exposure: Any) -> list[Path]:
    return CalacsEngine().calibrate(exposure.raw, exposure.jref, exposure.area, 2)


def test_products_carry_the_engine(program: Path, exposure: Any) -> None:
    (flt,) = calibrate(exposure)
    assert flt == exposure.area / "jtest01aq_flt.fits"
    assert fits.getval(flt, "CAL_ENG") == "calacs 10.5.0 (16-Mar-2026)"
    assert "--nthreads 2" in (exposure.area / "calacs.log").read_text()


def test_flc_is_expected_with_pctecorr(program: Path, exposure: Any) -> None:
    exposure.write(PCTECORR="PERFORM")
    assert [p.name for p in calibrate(exposure)] == ["jtest01aq_flt.fits", "jtest01aq_flc.fits"]


def test_status_0_without_the_products_is_an_error(program: Path, exposure: Any) -> None:
    exposure.write(TARGNAME="SILENT")
    with pytest.raises(LibraryError, match=r"did not write jtest01aq_flt.fits: .*nothing was done"):
        calibrate(exposure)


def test_each_product_counts(program: Path, exposure: Any) -> None:
    exposure.write(PCTECORR="PERFORM", TARGNAME="NO FLC")
    with pytest.raises(LibraryError, match=r"did not write jtest01aq_flc\.fits"):
        calibrate(exposure)


def test_failure_says_what_calacs_said(program: Path, exposure: Any) -> None:
    (exposure.jref / "ccd.fits").unlink()
    with pytest.raises(LibraryError, match=r"exit status 2: ERROR: .*reference file was missing"):
        calibrate(exposure)


def test_existing_output_is_an_error(program: Path, exposure: Any) -> None:
    (exposure.area / "jtest01aq_flt.fits").write_text("mine")
    with pytest.raises(LibraryError, match="exit status 2"):
        calibrate(exposure)


def test_killed_program_can_be_retried(program: Path, exposure: Any) -> None:
    exposure.write(TARGNAME="KILLED")
    with pytest.raises(ChildKilledError, match="killed"):
        calibrate(exposure)


def test_version(program: Path) -> None:
    assert CalacsEngine().version() == "10.5.0 (16-Mar-2026)"


def test_absent_program(monkeypatch: pytest.MonkeyPatch, exposure: Any) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UsageError, match=r"calacs\.e is not on PATH"):
        CalacsEngine().version()
    with pytest.raises(UsageError, match=r"calacs\.e is not on PATH"):
        calibrate(exposure)
