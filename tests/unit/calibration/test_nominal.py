"""Stand-ins for CCDTAB and OSCNTAB, held against tables that calacs.e accepted."""

from __future__ import annotations

import dataclasses
import gzip
import io
from pathlib import Path

import pytest
from astropy.io import fits
from astropy.table import Table
from spoil import spoil_card

from batch.calibration import nominal
from batch.errors import InputError
from batch.model.observation import Exposure

HRC = Exposure("j8bt05njq", "HRC", "HRC", "C", ("F555W",), 60.0, 52377.8, (1044, 1062), 1, "1-1")
WFC = Exposure("j9l960a7q", "WFC", "WFC", "ABCD", ("F606W",), 339.0, 53900.0, (2068, 4144), 2, "1-1")


def raw(tmp_path: Path, exposure: Exposure, gain: float = 2.0) -> Path:
    primary = fits.PrimaryHDU()
    primary.header["CCDGAIN"] = gain
    hdus = fits.HDUList([primary])
    for n in range(exposure.chips):
        science = fits.ImageHDU(name="SCI", ver=n + 1)
        if exposure.detector == "WFC":
            science.header["CCDCHIP"] = 2 - n if exposure.chips == 2 else (1 if exposure.amps in "AB" else 2)
        hdus.append(science)
    path = tmp_path / f"{exposure.rootname}_raw.fits"
    hdus.writeto(path)
    return path


def accepted(golden: Path, name: str, **match: object) -> dict[str, object]:
    """A row of a table that calacs.e accepted."""
    table = Table.read(io.BytesIO(gzip.decompress((golden / f"jref/{name}.fits.gz").read_bytes())), 1)
    (row,) = [r for r in table if all(r[k] == v for k, v in match.items())]
    return {k: row[k] for k in table.colnames}


@pytest.mark.parametrize(
    ("exposure", "match"),
    [
        (HRC, {"CCDAMP": "C"}),
        (WFC, {"CCDAMP": "ABCD", "CCDCHIP": 2, "NX": 4144}),
        (
            dataclasses.replace(WFC, amps="C", shape=(2068, 2072), chips=1),
            {"CCDAMP": "C", "NX": 2072, "NY": 2068},
        ),
        (
            dataclasses.replace(WFC, amps="A", shape=(1024, 2072), chips=1),
            {"CCDAMP": "A", "NX": 2072, "NY": 1024},
        ),
    ],
)
def test_the_overscan_is_where_calacs_takes_it(
    tmp_path: Path, golden: Path, exposure: Exposure, match: dict[str, object]
) -> None:
    expected = accepted(golden, "hrc_osc" if exposure.detector == "HRC" else "wfc_osc", **match)
    path = nominal.write("OSCNTAB", raw(tmp_path, exposure), exposure, tmp_path)
    row = Table.read(path, 1)[0]
    assert set(row.colnames) == set(expected)
    for name, value in expected.items():
        if name != "CCDCHIP" or value != -999:
            assert row[name] == value, name


@pytest.mark.parametrize(
    ("exposure", "ampx"),
    [
        (HRC, 0),
        (WFC, 2048),
        (dataclasses.replace(WFC, amps="C", chips=1, shape=(2068, 2072)), 2072),
        (dataclasses.replace(WFC, amps="B", chips=1, shape=(2068, 2072)), 0),
    ],
)
def test_the_ccd_table_has_what_calacs_reads(
    tmp_path: Path, golden: Path, exposure: Exposure, ampx: int
) -> None:
    expected = accepted(golden, "hrc_ccd", CCDAMP="C")
    table = Table.read(nominal.write("CCDTAB", raw(tmp_path, exposure), exposure, tmp_path), 1)
    assert len(table) == exposure.chips
    assert set(expected) - {"PEDIGREE", "DESCRIP"} == set(table.colnames)
    assert table[0]["AMPX"] == ampx
    assert all(1.8 < table[0][f"ATODGN{a}"] < 2.3 for a in "ABCD")


@pytest.mark.parametrize(
    ("keyword", "exposure", "gain", "message"),
    [
        ("CCDTAB", HRC, 8.0, "CCDGAIN: no nominal figures are known for HRC with gain 8"),
        ("OSCNTAB", dataclasses.replace(WFC, shape=(512, 512), chips=1), 2.0, "frames of 512 x 512"),
    ],
)
def test_unknown_modes_are_refused(
    tmp_path: Path, keyword: str, exposure: Exposure, gain: float, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        nominal.write(keyword, raw(tmp_path, exposure, gain), exposure, tmp_path)


def test_a_damaged_gain_is_told_of(tmp_path: Path) -> None:
    path = raw(tmp_path, HRC)
    spoil_card(path, "CCDGAIN")
    with pytest.raises(InputError, match=r"j8bt05njq_raw\.fits: keyword CCDGAIN cannot be read"):
        nominal.write("CCDTAB", path, HRC, tmp_path)
