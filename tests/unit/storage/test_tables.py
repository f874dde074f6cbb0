"""Columns of binary tables are what astropy reads, or a message says which table is damaged."""

from __future__ import annotations

import gzip
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from batch.errors import InputError
from batch.storage.tables import read_columns

LETTERS = {"L": "?", "B": "u1", "I": "i2", "J": "i4", "K": "i8", "E": "f4", "D": "f8"}
TEXT = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=7)


@st.composite
def columns(draw: st.DrawFn) -> list[fits.Column]:
    """Some columns of any kind, of one length."""
    rows = draw(st.integers(0, 4))
    made = []
    for number in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from([*LETTERS, "A", "P", "Q", "U"]))
        name, many = f"Name_{number}", draw(st.integers(1, 3))
        shape = rows if many == 1 else (rows, many)
        values: Any
        if kind == "A":
            values = draw(st.lists(TEXT, min_size=rows, max_size=rows))
            form = "7A"
        elif kind in "PQ":
            form = f"{kind}E()"
            lengths = draw(st.lists(st.integers(0, 5), min_size=rows, max_size=rows))
            values = np.empty(rows, object)
            values[:] = [np.arange(length, dtype="f4") + number for length in lengths]
        elif kind == "U":
            form = "I"
            values = draw(arrays.arrays("u2", rows))
            made.append(fits.Column(name, form, array=values, bzero=2**15))
            continue
        else:
            form = f"{many}{kind}"
            values = draw(arrays.arrays(LETTERS[kind], shape))
        made.append(fits.Column(name, form, array=values))
    return made


def same(path: Path) -> int:
    """Assert that what is read is what astropy reads; how many columns there were."""
    count = 0
    with warnings.catch_warnings(), fits.open(path, memmap=False) as hdus:
        warnings.simplefilter("ignore")
        known = [hdu for hdu in hdus if isinstance(hdu, fits.BinTableHDU)]
        for table, hdu in zip(read_columns(path), known, strict=True):
            assert (table.name, table.rows) == (hdu.name.upper(), len(hdu.data))
            assert list(table.arrays) == [name.upper() for name in hdu.columns.names]
            for name, values in table.arrays.items():
                expected = np.asarray(hdu.data[name])
                if values.dtype == object:
                    pairs = list(zip(values, expected, strict=True))
                else:
                    assert values.dtype.kind == expected.dtype.kind.replace("u", values.dtype.kind)
                    assert values.dtype.isnative
                    # without the blanks that fill them up
                    text = expected.dtype.kind == "U"
                    pairs = [(values, np.char.rstrip(expected) if text else expected)]
                for mine, theirs in pairs:
                    np.testing.assert_array_equal(mine, theirs, err_msg=f"{path} {name}")
                count += 1
    return count


@given(made=columns())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_table(tmp_path: Path, made: list[fits.Column]) -> None:
    path = tmp_path / "t.fits"
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(np.zeros(5)), fits.BinTableHDU.from_columns(made, name="mine")]
    fits.HDUList(hdus).writeto(path, overwrite=True)
    assert same(path) == len(made)


def test_tables_of_real_and_golden_files(shared: Path, tmp_path: Path) -> None:
    count = sum(same(path) for path in sorted((shared / "data").rglob("*.fits")))
    packed_tables = ("ccd", "osc", "bpx", "crr", "imp", "cte")
    for packed in sorted((shared / "golden" / "jref").glob("*.fits.gz")):
        if not any(kind in packed.name for kind in packed_tables):
            continue
        path = tmp_path / packed.stem
        path.write_bytes(gzip.decompress(packed.read_bytes()))
        count += same(path)
        path.unlink()
    assert count > 300


def test_scaled_columns(tmp_path: Path) -> None:
    path = tmp_path / "t.fits"
    hdu = fits.BinTableHDU.from_columns(
        [fits.Column("A", "J", array=[1, 2]), fits.Column("B", "E", array=[1, 2])]
    )
    hdu.header["TSCAL1"], hdu.header["TZERO1"], hdu.header["TSCAL2"] = 0.5, 3.0, 2.0
    hdu.writeto(path)
    (table,) = read_columns(path)
    assert table.arrays["A"].tolist() == [3.5, 4.0]
    assert table.arrays["B"].tolist() == [2.0, 4.0]


def test_a_table_that_has_nothing_behind_it_need_not_say_so(tmp_path: Path) -> None:
    path = tmp_path / "t.fits"
    fits.BinTableHDU.from_columns([fits.Column("A", "J", array=[1, 2])]).writeto(path)
    content = path.read_bytes()
    start = content.index(b"PCOUNT  = ")
    path.write_bytes(content[:start] + b" " * 80 + content[start + 80 :])
    assert [table.arrays["A"].tolist() for table in read_columns(path)] == [[1, 2]]


@pytest.mark.parametrize(
    ("keyword", "value", "message"),
    [
        ("TFORM1", "7W", "TFORM1 = '7W' cannot be read"),
        ("TFORM1", "2PE()", "TFORM1 = '2PE()' cannot be read"),
        ("TFORM2", "J", "its columns take 12 bytes a row, NAXIS1 is 16"),
        ("TFORM2", "999999999D", "bytes a row, NAXIS1 is 16"),
        ("TFIELDS", 1000, "TFIELDS = 1000 is impossible"),
        ("TFIELDS", 3, "TFORM3 = '' cannot be read"),
        ("THEAP", 10**6, "row 2 of column WAVES lies outside of it"),
    ],
)
def test_damage_is_told(tmp_path: Path, keyword: str, value: Any, message: str) -> None:
    path = tmp_path / "t.fits"
    waves = np.array([np.zeros(0), np.ones(3)], object)
    made = [fits.Column("Waves", "PE()", array=waves), fits.Column("b", "D", array=[1, 2])]
    hdu = fits.BinTableHDU.from_columns(made, name="mine")
    hdu.header["SPARE"] = 1
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    content = path.read_bytes()
    replaced = "SPARE" if keyword == "THEAP" else keyword
    start = content.index(f"{replaced:8}= ".encode())
    path.write_bytes(content[:start] + str(fits.Card(keyword, value)).encode() + content[start + 80 :])
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        list(read_columns(path))
    assert str(caught.value).startswith(f"{path}[MINE]: ")
