"""Damage is found by the check sums that astropy writes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from batch.archive.verify import damage, ones_sum


def write(path: Path, *, checksum: bool = True) -> bytes:
    pixels = np.arange(50 * 60, dtype="uint16").reshape(50, 60)
    table = fits.BinTableHDU.from_columns([fits.Column("A", "J", array=[1, 2, 3])], name="T")
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(pixels, name="SCI"), fits.ImageHDU(name="ERR"), table]
    fits.HDUList(hdus).writeto(path, checksum=checksum, overwrite=True)
    return path.read_bytes()


@pytest.mark.parametrize("checksum", [True, "datasum", False])
def test_a_good_file(tmp_path: Path, checksum: bool) -> None:
    path = tmp_path / "x_raw.fits"
    content = write(path, checksum=checksum)
    assert damage(path, len(content), hashlib.md5(content).hexdigest()) == ""


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(place=0.018194710950652615, bit=0)  # a card of a sum that cannot be parsed
@example(place=0.15988675166613842, bit=0)  # the name of CHECKSUM
@example(place=3309 / 23040, bit=4)  # the only digit of PCOUNT
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_wrong_bit(tmp_path: Path, place: float, bit: int) -> None:
    path = tmp_path / "x_raw.fits"
    content = bytearray(write(path))
    content[int(place * len(content))] ^= 1 << bit
    path.write_bytes(content)
    assert damage(path, len(content)) != ""


def test_the_sum_is_that_of_the_standard(tmp_path: Path) -> None:
    """DATASUM as astropy computes it."""
    path = tmp_path / "x_raw.fits"
    write(path)
    with fits.open(path) as hdus:
        for hdu in hdus:
            info = hdu.fileinfo()
            expected = int(hdu.header["DATASUM"])
            assert ones_sum(path, info["datLoc"], info["datLoc"] + info["datSpan"]) == expected


def test_length_and_md5(tmp_path: Path) -> None:
    path = tmp_path / "x_raw.fits"
    content = write(path)
    assert damage(path, len(content) + 1).startswith(f"has {len(content)} bytes instead of")
    assert "has MD5" in damage(path, md5="0" * 32)
    path.write_bytes(content[: len(content) // 2])
    assert "is not whole" in damage(path)
