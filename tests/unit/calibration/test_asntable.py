"""Association tables: positions, products, and names that must not become paths."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from batch.calibration.asntable import mark_present, read_association
from batch.errors import InputError, UnsafeNameError


def write(path: Path, rows: list[tuple[str, str, bool]], **keywords: object) -> Path:
    header = fits.Header({"INSTRUME": "ACS", "DETECTOR": "WFC", "ASN_PROD": False} | keywords)
    table = Table(rows=rows, names=("MEMNAME", "MEMTYPE", "MEMPRSNT"), dtype=("S20", "S14", "?"))
    fits.HDUList([fits.PrimaryHDU(header=header), fits.BinTableHDU(table)]).writeto(path)
    return path


def test_dithered_exposures_are_positions_of_their_own(tmp_path: Path) -> None:
    rows = [("J9L960A7Q", "EXP-DTH", True), ("J9L960A9Q", "EXP-DTH", True), ("J9L960010", "PROD-DTH", False)]
    found = read_association(write(tmp_path / "a_asn.fits", rows))
    assert not found.combines
    assert [[m.root for m in p.exposures] for p in found.positions] == [["j9l960a7q"], ["j9l960a9q"]]
    assert all(p.product is None for p in found.positions)


def test_numbered_positions(tmp_path: Path) -> None:
    rows = [
        *(("jaaa01aaq", "EXP-CR2", True), ("jaaa01abq", "EXP-CR1", True), ("jaaa01acq", "exp_cr2", True)),
        *(("jaaa01adq", "EXP-CR1", True), ("jaaa01aeq", "EXP-CR1", False)),
        *(
            ("jaaa01011", "PROD-CR1", False),
            ("jaaa01012", "PROD-CR2", False),
            ("jaaa01010", "PROD-DTH", False),
        ),
    ]
    found = read_association(write(tmp_path / "a_asn.fits", rows))
    assert found.combines
    assert [[m.root[-3:] for m in p.exposures] for p in found.positions] == [["abq", "adq"], ["aaq", "acq"]]
    assert [p.product.root if p.product else None for p in found.positions] == ["jaaa01011", "jaaa01012"]


@pytest.mark.parametrize("name", ["../../etc", "/etc/passwd", "a/b", "a b", "..", "jaaa;rm", ""])
def test_names_that_leave_the_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(UnsafeNameError, match="MEMNAME row 1"):
        read_association(write(tmp_path / "a_asn.fits", [(name, "EXP-DTH", True)]))


@pytest.mark.parametrize("kind", ["EXP-TARG", "EXP", "PROD-XYZ", ""])
def test_unknown_types(kind: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="MEMTYPE row 1"):
        read_association(write(tmp_path / "a_asn.fits", [("jaaa01aaq", kind, True)]))


def test_nothing_present(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no exposure"):
        read_association(write(tmp_path / "a_asn.fits", [("jaaa01aaq", "EXP-DTH", False)]))


def test_missing_keyword(tmp_path: Path) -> None:
    path = write(tmp_path / "a_asn.fits", [("jaaa01aaq", "EXP-DTH", True)])
    with fits.open(path, mode="update") as hdus:
        del hdus[0].header["DETECTOR"]
    with pytest.raises(InputError, match="DETECTOR"):
        read_association(path)


def test_products_are_marked_and_a_read_only_table_stays_as_it_is(tmp_path: Path) -> None:
    rows = [("jaaa01aaq", "EXP-CRJ", True), ("jaaa01abq", "EXP-CRJ", False), ("jaaa01011", "PROD-CRJ", False)]
    path = write(tmp_path / "a_asn.fits", rows)
    path.chmod(0o444)
    before = path.read_bytes()
    target = tmp_path / "out" / "a_asn.fits"
    target.parent.mkdir()
    mark_present(read_association(path), target, ["jaaa01011", "jaaa01abq"])
    assert path.read_bytes() == before
    with fits.open(target) as hdus:
        assert hdus[0].header["ASN_PROD"] is True
        assert np.array_equal(hdus[1].data["MEMPRSNT"], [True, False, True])
    assert [p.name for p in target.parent.iterdir()] == ["a_asn.fits"]
