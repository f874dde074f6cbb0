"""Images in FITS files that are read a piece at a time."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from batch.errors import InputError
from batch.model.observation import Product

_BLOCK = 2880


@dataclass(frozen=True)
class FitsImage:
    """A two-dimensional image in a FITS file: shape and type are known, pixels are read when indexed.

    It pickles as a path and a few numbers, so that it is a task's business, not the driver's, to open
    the file.
    """

    path: str
    hdu: int
    shape: tuple[int, int]
    """(rows, columns)"""
    dtype: np.dtype[np.generic]
    """The type of the pixels as they are handed out: native byte order."""
    mapped: bool = True
    """False for compressed and scaled images: they cannot be mapped into memory, but are decoded by parts."""

    ndim = 2

    @classmethod
    def of(cls, path: Path, product: Product) -> FitsImage:
        """The image that a published product describes; the file is not opened.

        Raises
        ------
        InputError
            If the product is no two-dimensional image.
        """
        if product.hdu is None or product.dtype is None or product.shape is None or len(product.shape) != 2:
            raise InputError.about(path, "is no two-dimensional image", "make it again with the sweep")
        rows, columns = product.shape
        return cls(str(path), product.hdu, (rows, columns), np.dtype(product.dtype))

    @classmethod
    def find(cls, path: Path | str, extname: str) -> FitsImage:
        """The image in the extension `extname` of a file or, where there is but one image, that one.

        Only headers are read.

        Raises
        ------
        InputError
            If the file cannot be opened, or holds no such image.
        """
        try:
            with fits.open(path) as hdus:
                images = [
                    (i, h.name, h.shape) for i, h in enumerate(hdus) if h.is_image and len(h.shape) == 2
                ]
                named = [image for image in images if image[1] == extname.upper()]
                if not images:
                    raise InputError.about(path, "holds no two-dimensional image", f"give a {extname} image")
                if not named and len(images) > 1:
                    raise InputError.about(
                        path, f"holds {len(images)} images, none of them {extname}", f"give a {extname} image"
                    )
                index, _, shape = (named or images)[0]
                bitpix = int(hdus[index].header["BITPIX"])
                scaled = _is_scaled(hdus[index])
        except OSError as error:
            raise _unreadable(path, error) from None
        kind = {8: "u1", 16: "i2", 32: "i4", 64: "i8", -32: "f4", -64: "f8"}[bitpix]
        dtype = np.dtype("f8" if scaled else kind)
        return cls(str(path), index, (shape[0], shape[1]), dtype, mapped=not scaled)

    def __getitem__(self, index: tuple[slice, slice]) -> NDArray[np.generic]:
        """Read a rectangle of the image.

        Raises
        ------
        InputError
            If the file is not there, is cut short or is not of the shape it should be.
        """
        try:
            if not self.mapped:
                with fits.open(self.path, memmap=False) as hdus:
                    return np.array(hdus[self.hdu].section[index], dtype=self.dtype, order="C")
            # A memory map touches only the pages of the rectangle. The header is skimmed here, because to
            # parse the 800 cards of a mosaic takes longer than to read a chunk of it.
            offset, shape = _locate(self.path, self.hdu, _state(self.path))
            if shape != self.shape:
                raise InputError.about(
                    f"{self.path}[{self.hdu}]", f"has shape {shape}, not {self.shape}", "make it again"
                )
            pixels = np.memmap(self.path, self.dtype.newbyteorder(">"), "r", offset, self.shape)
            return np.array(pixels[index], dtype=self.dtype, order="C")
        except (OSError, ValueError, TypeError) as error:
            raise _unreadable(f"{self.path}[{self.hdu}]", error) from None

    def bands(self, rows: int) -> Iterator[tuple[int, NDArray[np.generic]]]:
        """The image in full-width bands of at most `rows` rows, each with its first row number."""
        for first in range(0, self.shape[0], rows):
            yield first, self[first : first + rows, :]


def _is_scaled(hdu: fits.PrimaryHDU | fits.ImageHDU | fits.CompImageHDU) -> bool:
    return isinstance(hdu, fits.CompImageHDU) or any(k in hdu.header for k in ("BSCALE", "BZERO", "BLANK"))


def _unreadable(where: object, error: Exception) -> InputError:
    return InputError.about(where, f"cannot be read ({error})", "check that the file is whole")


def _state(path: str) -> tuple[int, int, int]:
    """What changes when a file is written."""
    found = os.stat(path)
    return found.st_ino, found.st_size, found.st_mtime_ns


@functools.lru_cache(maxsize=1024)
def _locate(path: str, wanted: int, state: tuple[int, int, int]) -> tuple[int, tuple[int, ...]]:
    """Where the pixels of an HDU begin, bytes, and their shape, (rows, columns) for an image.

    The keywords of an HDU's structure stand in fixed columns (FITS standard 4.0, sections 3.3.1 and 4.2.1).

    Raises
    ------
    ValueError
        If the file ends before that.
    """
    with Path(path).open("rb") as stream:
        for _ in range(wanted):
            _, size = _structure(stream)
            stream.seek(-(-size // _BLOCK) * _BLOCK, 1)
        axes, _ = _structure(stream)
        return stream.tell(), axes


def _structure(stream: BinaryIO) -> tuple[tuple[int, ...], int]:
    """Read one header; return the axes of its data unit, slowest first, and the size of that in bytes."""
    found = {b"PCOUNT": 0, b"GCOUNT": 1}
    ended = False
    while not ended:
        block = stream.read(_BLOCK)
        if len(block) < _BLOCK:
            raise ValueError("the file ends inside a header")
        for start in range(0, _BLOCK, 80):
            keyword = block[start : start + 8].rstrip()
            if keyword in (b"BITPIX", b"PCOUNT", b"GCOUNT") or keyword.startswith(b"NAXIS"):
                found[keyword] = int(block[start + 10 : start + 30])
            ended = ended or keyword == b"END"
    if not {b"BITPIX", b"NAXIS"} <= found.keys():
        raise ValueError("a header has no BITPIX and NAXIS")
    axes = tuple(found.get(b"NAXIS%d" % i, 0) for i in range(found[b"NAXIS"], 0, -1))
    pixels = found[b"GCOUNT"] * (found[b"PCOUNT"] + math.prod(axes)) if axes else 0
    return axes, pixels * abs(found[b"BITPIX"]) // 8
