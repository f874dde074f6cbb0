"""Exposures as files: what is read is what was written, and damage is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from batch.errors import InputError
from batch.storage.fits import Image, read_header, read_image, read_imset, write_image
from batch.storage.planes import find, scan


def test_raw_is_native_float_with_constant_arrays_expanded(exposure: Any) -> None:
    image = read_image(exposure.raw)
    (imset,) = image.imsets
    with fits.open(exposure.raw) as hdus:
        assert np.array_equal(imset.sci, hdus["SCI"].data)
    assert [a.dtype for a in (imset.sci, imset.err, imset.dq)] == [np.float32, np.float32, np.int16]
    assert all(a.dtype.isnative and a.flags.c_contiguous for a in (imset.sci, imset.err, imset.dq))
    assert imset.err.shape == imset.dq.shape == imset.sci.shape
    assert not imset.err.any()
    for header in (image.primary, imset.sci_header, imset.err_header):
        assert not {"BZERO", "BITPIX", "NAXIS", "NPIX1", "PIXVALUE"} & set(header)
    assert list(read_header(exposure.raw)) == list(image.primary)
    assert np.array_equal(read_imset(exposure.raw, 1).sci, imset.sci)


@pytest.mark.parametrize("constant", [True, False])
def test_round_trip(constant: bool, exposure: Any, tmp_path: Path) -> None:
    image = read_image(exposure.raw)
    imset = image.imsets[0]
    imset.sci[3, 4] = 1e-30
    imset.sci_header["MEANDARK"] = 0.5
    image.primary.add_history("  two blanks first")
    if not constant:
        imset.err[0, 1], imset.dq[5, 5] = 2.5, -32768
    path = tmp_path / "x_flt.fits"
    write_image(image, path)
    again = read_image(path)
    for name in ("sci", "err", "dq"):
        np.testing.assert_array_equal(getattr(again.imsets[0], name), getattr(imset, name))
    assert again.imsets[0].sci_header == imset.sci_header
    assert again.primary == image.primary
    with fits.open(path) as hdus:
        hdus.verify("exception")
        assert [(hdu.name, hdu.ver) for hdu in hdus[1:]] == [("SCI", 1), ("ERR", 1), ("DQ", 1)]
        assert [hdu.header["BITPIX"] for hdu in hdus] == [16, -32, -32, 16]
        assert [hdu.header["NAXIS"] for hdu in hdus] == ([0, 2, 0, 0] if constant else [0, 2, 2, 2])
        assert hdus[0].header["ORIGIN"] == "acs-batch"
        assert "DATE" in hdus[0].header
        assert np.array_equal(hdus["SCI"].data, imset.sci)
    assert path.stat().st_size % 2880 == 0


def test_two_chips(exposure: Any, tmp_path: Path) -> None:
    image = read_image(exposure.raw)
    second = read_imset(exposure.raw, 1)
    second.extver = 2
    second.sci += 1
    image.primary["NEXTEND"] = 6
    path = tmp_path / "two.fits"
    write_image(Image(image.primary, [image.imsets[0], second]), path)
    again = read_image(path)
    assert [i.extver for i in again.imsets] == [1, 2]
    assert np.array_equal(again.imsets[1].sci, image.imsets[0].sci + 1)


def test_section_of_a_plane(exposure: Any) -> None:
    path = exposure.jref / "bia.fits"
    plane = find(scan(path)[1], "SCI", 1, path)
    with fits.open(path) as hdus:
        wanted = hdus["SCI"].data[5:20, 3:50]
        assert np.array_equal(plane.read(np.float32, slice(5, 20), slice(3, 50)), wanted)


@pytest.mark.parametrize("keep", [0, 1, 79, 2880, 5000, -1, -2880])
def test_truncated_file(keep: int, exposure: Any) -> None:
    content = exposure.raw.read_bytes()
    exposure.raw.write_bytes(content[:keep])
    with pytest.raises(InputError, match=exposure.raw.name):
        read_image(exposure.raw)


def test_truncated_pixels_name_the_extension(exposure: Any) -> None:
    path = exposure.jref / "pfl.fits"
    path.write_bytes(path.read_bytes()[: 2880 * 4])
    with pytest.raises(InputError, match=r"pfl.fits\[SCI,1\]: the file is truncated"):
        scan(path)


@pytest.mark.parametrize("lost", ["SCI", "ERR", "DQ"])
def test_missing_extension(lost: str, exposure: Any) -> None:
    with fits.open(exposure.raw, mode="update") as hdus:
        del hdus[lost]
    with pytest.raises(InputError, match=rf"\[{lost},1\].*missing"):
        read_image(exposure.raw)


def test_doubled_extension(exposure: Any) -> None:
    with fits.open(exposure.raw, mode="append") as hdus:
        hdus.append(hdus["ERR"].copy())
    with pytest.raises(InputError, match=r"\[ERR,1\].*earlier"):
        read_image(exposure.raw)


def test_shape_of_a_companion(exposure: Any) -> None:
    with fits.open(exposure.raw, mode="update") as hdus:
        hdus["DQ"].header["NPIX1"] = 71
    with pytest.raises(InputError, match=r"\[DQ,1\].*shape"):
        read_image(exposure.raw)


def test_nan(exposure: Any, tmp_path: Path) -> None:
    image = read_image(exposure.raw)
    image.imsets[0].sci[7, 9] = np.nan
    path = tmp_path / "nan_flt.fits"
    write_image(image, path)
    with pytest.raises(InputError, match=r"nan_flt.fits\[SCI,1\].*column 10, row 8"):
        read_image(path)


def test_impossible_size_allocates_nothing(exposure: Any) -> None:
    with fits.open(exposure.raw, mode="update") as hdus:
        for name in ("ERR", "DQ"):
            hdus[name].header["NPIX1"] = 2**31
            hdus[name].header["NPIX2"] = 2**31
    with pytest.raises(InputError, match="impossible"):
        read_image(exposure.raw)


def test_no_fits_at_all(tmp_path: Path) -> None:
    path = tmp_path / "x_raw.fits"
    with pytest.raises(InputError, match="does not exist"):
        read_image(path)
    path.write_text("<html>not found</html>" * 300)
    with pytest.raises(InputError, match="not a FITS header"):
        read_image(path)


def test_existing_file_is_not_replaced(exposure: Any) -> None:
    image = read_image(exposure.raw)
    before = exposure.raw.read_bytes()
    with pytest.raises(InputError, match="exists already"):
        write_image(image, exposure.raw)
    assert exposure.raw.read_bytes() == before
    write_image(image, exposure.raw, overwrite=True)
    assert not list(exposure.folder.glob("*.part"))
