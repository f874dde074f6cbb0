"""Reading parts of FITS images."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from batch.drizzling.lazy import FitsImage
from batch.errors import InputError
from batch.stages.interface import image_product

IMAGE = np.arange(60, dtype=np.float32).reshape(6, 10)


def test_a_rectangle_is_native_and_right(tmp_path: Path) -> None:
    fits.writeto(tmp_path / "a.fits", IMAGE)
    image = FitsImage.of(tmp_path / "a.fits", image_product(tmp_path, "a.fits", "weight", hdu=0))
    part = pickle.loads(pickle.dumps(image))[2:5, 1:9]  # noqa: S301 - our own bytes
    assert part.dtype == np.float32
    assert part.dtype.isnative
    np.testing.assert_array_equal(part, IMAGE[2:5, 1:9])
    np.testing.assert_array_equal(np.concatenate([b for _, b in image.bands(4)]), IMAGE)


def test_the_wht_extension_is_found_among_others(tmp_path: Path) -> None:
    parts = [fits.PrimaryHDU(), fits.ImageHDU(IMAGE * 0, name="SCI"), fits.ImageHDU(IMAGE, name="WHT")]
    fits.HDUList(parts).writeto(tmp_path / "drz.fits")
    image = FitsImage.find(tmp_path / "drz.fits", "WHT")
    assert (image.hdu, image.shape) == (2, (6, 10))
    np.testing.assert_array_equal(image[0:6, 0:10], IMAGE)


@pytest.mark.parametrize("kind", ["compressed", "scaled"])
def test_images_that_cannot_be_mapped_are_decoded(tmp_path: Path, kind: str) -> None:
    if kind == "compressed":
        hdu = fits.CompImageHDU(IMAGE, name="WHT", compression_type="GZIP_2", quantize_level=0)
    else:
        hdu = fits.ImageHDU(IMAGE.astype(np.int16), name="WHT")
        hdu.scale("int16", bscale=0.5, bzero=3)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(tmp_path / "w.fits")
    image = FitsImage.find(tmp_path / "w.fits", "WHT")
    np.testing.assert_allclose(image[1:3, 4:8], IMAGE[1:3, 4:8])


def test_no_image_is_an_error(tmp_path: Path) -> None:
    fits.HDUList([fits.PrimaryHDU()]).writeto(tmp_path / "empty.fits")
    with pytest.raises(InputError, match=r"empty\.fits: holds no two-dimensional image"):
        FitsImage.find(tmp_path / "empty.fits", "WHT")


def test_a_file_of_another_shape_is_an_error(tmp_path: Path) -> None:
    fits.writeto(tmp_path / "a.fits", IMAGE)
    image = FitsImage(str(tmp_path / "a.fits"), 0, (7, 10), np.dtype("f4"))
    with pytest.raises(InputError, match=r"a\.fits\[0\]: has shape \(6, 10\), not \(7, 10\)"):
        image[0:2, 0:2]


def test_a_file_cut_short_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    fits.writeto(path, np.ones((100, 100), np.float32))
    path.write_bytes(path.read_bytes()[:20_000])
    image = FitsImage(str(path), 0, (100, 100), np.dtype("f4"))
    with pytest.raises(InputError, match=r"a\.fits\[0\]: cannot be read"):
        image[90:100, 0:100]


def test_pixels_behind_tables_and_long_headers_are_found(tmp_path: Path) -> None:
    header = fits.Header([(f"KEY{i}", i) for i in range(200)])
    table = fits.BinTableHDU.from_columns(
        [fits.Column("S", "PJ()", array=np.array([[1, 2], [3]], dtype=object))]
    )
    parts = [fits.PrimaryHDU(np.ones(7), header), table, fits.ImageHDU(IMAGE, header, name="WHT")]
    fits.HDUList(parts).writeto(tmp_path / "a.fits")
    image = FitsImage.find(tmp_path / "a.fits", "WHT")
    assert image.hdu == 2
    np.testing.assert_array_equal(image[2:5, 1:9], IMAGE[2:5, 1:9])


@pytest.mark.parametrize("content", [b"", b"no FITS file" * 500, b"END".ljust(2880)])
def test_what_is_no_fits_file_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.fits").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.fits\[1\]: cannot be read"):
        FitsImage(str(tmp_path / "a.fits"), 1, (6, 10), np.dtype("f4"))[0:2, 0:2]
