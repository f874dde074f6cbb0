"""The image HDUs of a FITS file, found without reading them, and read by sections.

The files are walked here rather than by a general reader, because three things must hold at once: a damaged
file is refused with the HDU that is damaged, a constant array (NAXIS = 0 with NPIX1, NPIX2, PIXVALUE, as raw
files and reference files have them) reads like any other, and a plane can be read by blocks of rows, so that
a reference file of 170 MB never lies in memory as a whole.

Source: calibration-steps specification, section 1.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from astropy.io.fits import Header
from astropy.utils.exceptions import AstropyUserWarning

from batch.errors import InputError

BLOCK = 2880
DTYPES = {8: ">u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
_MOST_PIXELS = 1 << 28
"""No ACS plane comes near; a larger one is a damaged header, not a reason to run out of memory."""
_LARGEST = 3e38
"""Keywords become single-precision numbers."""
_PRINTABLE = re.compile(rb"[ -~]*")
_KEYWORD = re.compile(rb"[A-Z0-9_-]* *")
_AGAIN = "fetch the file again"


@dataclass(frozen=True)
class Plane:
    """One image HDU on disk, not read yet."""

    path: Path
    header: Header
    offset: int
    shape: tuple[int, int]
    """(rows, columns), also where the array is constant."""
    constant: float | None
    """PIXVALUE of a constant array, None where the pixels are stored."""
    scale: float
    zero: float
    """BSCALE and BZERO."""

    @cached_property
    def where(self) -> str:
        """``file.fits[SCI,1]``, for messages."""
        return f"{self.path}[{extname(self.header)},{extver(self.header)}]"

    def read(
        self, dtype: npt.DTypeLike, rows: slice | None = None, columns: slice | None = None
    ) -> npt.NDArray[Any]:
        """Read a section as a native array.

        Parameters
        ----------
        dtype : dtype
            Of the result: float32 for SCI and ERR, int16 for DQ. BSCALE and BZERO are applied in float32.
        rows, columns : slice, optional
            Start and stop only, inside the array.

        Returns
        -------
        ndarray
            Contiguous, shape (rows, columns) of the section.

        Raises
        ------
        InputError
            If a float pixel is not finite.
        """
        ny, nx = self.shape
        y0, y1, _ = (rows or slice(None)).indices(ny)
        x0, x1, _ = (columns or slice(None)).indices(nx)
        if self.constant is not None:
            if np.dtype(dtype).kind == "i" and not -0x8000 <= self.constant < 0x8000:
                what = f"PIXVALUE = {self.constant} is beyond 16 bits"
                raise InputError.about(self.where, what, "correct the keyword")
            return np.full((y1 - y0, x1 - x0), self.constant).astype(dtype)
        stored = np.dtype(DTYPES[int(self.header["BITPIX"])])
        with self.path.open("rb") as stream:
            stream.seek(self.offset + y0 * nx * stored.itemsize)
            values = np.fromfile(stream, stored, (y1 - y0) * nx).reshape(y1 - y0, nx)[:, x0:x1]
        if (self.scale, self.zero) != (1.0, 0.0):
            values = values.astype(np.float32)
            values *= np.float32(self.scale)
            values += np.float32(self.zero)
        result = np.ascontiguousarray(values, dtype=dtype)
        if result.dtype.kind == "f" and not np.isfinite(result).all():
            self._refuse_non_finite(result, y0, x0)
        return result

    def _refuse_non_finite(self, values: npt.NDArray[Any], y0: int, x0: int) -> None:
        bad = np.argwhere(~np.isfinite(values))
        y, x = bad[0] + (y0 + 1, x0 + 1)
        raise InputError.about(
            self.where,
            f"pixels are not finite numbers, the first at column {x}, row {y}",
            "fetch the file again or repair these pixels",
        )


def as_number(header: Header, keyword: str, where: object, default: float | None = None) -> float:
    """A numeric keyword.

    Raises
    ------
    InputError
        If it is absent and has no default, is no number, or is beyond single precision.
    """
    value = value_of(header, keyword, where)
    if value is None:
        if default is None:
            raise InputError.about(where, f"keyword {keyword} is missing", "add it or fetch the file again")
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < _LARGEST:
        raise InputError.about(
            where, f"keyword {keyword} = {value!r} is not a usable number", "correct the keyword"
        )
    return float(value)


def value_of(header: Header, keyword: str, where: object) -> bool | int | float | str | None:
    """The value of a keyword, None where it is absent or has no value.

    Raises
    ------
    InputError
        If the card cannot be understood.
    """
    try:
        value = header.get(keyword)
    except Exception as error:  # astropy parses cards late, and raises many kinds of errors for damaged ones
        what = f"keyword {keyword} cannot be read ({error})"
        raise InputError.about(where, what, "correct the card") from error
    return value if isinstance(value, (bool, int, float, str)) else None


def scan(path: Path) -> tuple[Header, list[Plane]]:
    """Walk a FITS file.

    Returns
    -------
    primary : Header
    planes : list of Plane
        The image extensions in file order; tables and other extensions are passed over.

    Raises
    ------
    InputError
        If the file is missing, is not FITS, is truncated, or holds an (EXTNAME, EXTVER) twice.
    """
    planes: list[Plane] = []
    primary = None
    seen: set[tuple[str, int]] = set()
    for index, (header, offset, _) in enumerate(walk(path)):
        if primary is None:
            primary = header
        elif value_of(header, "XTENSION", path) == "IMAGE":
            key = (extname(header), extver(header))
            if key in seen:
                what = f"HDU {index} has the name of an earlier one"
                raise InputError.about(f"{path}[{key[0]},{key[1]}]", what, "remove one of them")
            seen.add(key)
            planes.append(_plane(path, header, offset))
    assert primary is not None
    return primary, planes


def find(planes: list[Plane], name: str, version: int, path: Path) -> Plane:
    """The plane called (`name`, `version`), or an InputError that names it."""
    for plane in planes:
        if (extname(plane.header), extver(plane.header)) == (name, version):
            return plane
    raise InputError.about(f"{path}[{name},{version}]", "the extension is missing", _AGAIN)


def walk(path: Path) -> Iterator[tuple[Header, int, int]]:
    """Every header of a file with where its data and the next HDU begin, each HDU inside the file for sure.

    Raises
    ------
    InputError
        If the file is missing, is not FITS, or is truncated.
    """
    try:
        size = path.stat().st_size
        stream = path.open("rb")
    except OSError as error:
        reason = "the file does not exist" if isinstance(error, FileNotFoundError) else str(error)
        raise InputError.about(path, reason, "check the name") from error
    with stream:
        end, index = 0, 0
        while end < size:
            stream.seek(end)
            header = _read_header(stream, f"{path} HDU {index}")
            offset = stream.tell()
            end = offset + _data_size(header, f"{path} HDU {index}")
            if end > size:
                raise InputError.about(
                    f"{path}[{extname(header) or 'PRIMARY'},{extver(header)}]",
                    f"the file is truncated: HDU {index} ends at byte {end}, the file at byte {size}",
                    _AGAIN,
                )
            end, index = offset + -(-(end - offset) // BLOCK) * BLOCK, index + 1
            yield header, offset, end
        if index == 0:
            raise InputError.about(path, "the file is empty", _AGAIN)


def _read_header(stream: BinaryIO, where: str) -> Header:
    text = b""
    while True:
        block = stream.read(BLOCK)
        if len(block) < BLOCK:
            what = "the header has no END: truncated, or no FITS file"
            raise InputError.about(where, what, _AGAIN)
        if not text and not block.startswith((b"SIMPLE  =", b"XTENSION=")):
            raise InputError.about(where, "this is not a FITS header", _AGAIN)
        text += block
        if any(block[i : i + 80].rstrip() == b"END" for i in range(0, BLOCK, 80)):
            break
    if not _PRINTABLE.fullmatch(text):
        raise InputError.about(where, "the header holds bytes that are not printable ASCII", _AGAIN)
    for start in range(0, len(text), 80):
        keyword = text[start : start + 8]
        if not _KEYWORD.fullmatch(keyword):
            raise InputError.about(where, f"{keyword.decode()!r} is not a FITS keyword", _AGAIN)
    with warnings.catch_warnings():
        # an odd card is no fault until its value is asked for
        warnings.simplefilter("ignore", AstropyUserWarning)
        return Header.fromstring(text)


def _data_size(header: Header, where: str) -> int:
    bits = abs(_integer(header, "BITPIX", where))
    axes = _integer(header, "NAXIS", where)
    if bits not in (8, 16, 32, 64) or not 0 <= axes <= 999:
        raise InputError.about(where, "BITPIX or NAXIS is invalid", _AGAIN)
    if axes == 0:
        return 0
    pixels = 1
    for axis in range(1, axes + 1):
        pixels *= _integer(header, f"NAXIS{axis}", where)
    extra, groups = _integer(header, "PCOUNT", where, 0), _integer(header, "GCOUNT", where, 1)
    if min(pixels, extra, groups) < 0:
        raise InputError.about(where, "NAXISn, PCOUNT or GCOUNT is negative", _AGAIN)
    return bits // 8 * groups * (extra + pixels)


def _integer(header: Header, keyword: str, where: str, default: int | None = None) -> int:
    return int(as_number(header, keyword, where, default))


def _plane(path: Path, header: Header, offset: int) -> Plane:
    where = f"{path}[{extname(header)},{extver(header)}]"
    constant = None
    if header["NAXIS"] == 2:
        shape = (int(header["NAXIS2"]), int(header["NAXIS1"]))
    elif header["NAXIS"] == 0 and "NPIX1" in header:
        shape = (_integer(header, "NPIX2", where), _integer(header, "NPIX1", where))
        constant = as_number(header, "PIXVALUE", where, 0.0)
    else:
        shape = (0, 0)
    if min(shape) < 0 or shape[0] * shape[1] > _MOST_PIXELS:
        what = f"an image of {shape[1]} x {shape[0]} pixels is impossible"
        raise InputError.about(where, what, _AGAIN)
    scale, zero = as_number(header, "BSCALE", where, 1.0), as_number(header, "BZERO", where, 0.0)
    return Plane(path, header, offset, shape, constant, scale, zero)


def extname(header: Header) -> str:
    """EXTNAME in upper case, empty where there is none."""
    value = value_of(header, "EXTNAME", "EXTNAME")
    return str(value).strip().upper() if value is not None else ""


def extver(header: Header) -> int:
    """EXTVER, 1 where there is none."""
    return int(as_number(header, "EXTVER", "EXTVER", 1))
