"""ACS exposures as FITS files: imsets of SCI, ERR and DQ in native arrays, read and written whole.

Source: calibration-steps specification, sections 0.1 and 1.
"""

from __future__ import annotations

import datetime
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from astropy.io.fits import Card, Header

from batch.errors import InputError, StorageError
from batch.storage.planes import BLOCK, DTYPES, Plane, as_number, extname, extver, find, scan

_STRUCTURE = ("SIMPLE", "XTENSION", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "EXTEND", "PCOUNT", "GCOUNT")
_ENCODING = ("BSCALE", "BZERO", "NPIX1", "NPIX2", "PIXVALUE", "DATE", "ORIGIN", "CHECKSUM", "DATASUM")


@dataclass
class Imset:
    """One chip: the arrays of one EXTVER, all of shape (ny, nx), row 0 at the bottom.

    The headers carry no structural keywords (NAXIS, BITPIX, BZERO, NPIX1, ...): the arrays say it, and
    `write_image` puts them back.
    """

    extver: int
    sci: npt.NDArray[np.float32]
    err: npt.NDArray[np.float32]
    dq: npt.NDArray[np.int16]
    sci_header: Header
    err_header: Header
    dq_header: Header


@dataclass
class Image:
    """One exposure, raw or calibrated: the primary header and one imset a chip."""

    primary: Header
    imsets: list[Imset]


def read_image(path: Path) -> Image:
    """Read an exposure: every imset that NEXTEND announces.

    Parameters
    ----------
    path : Path
        ``*_raw.fits``, ``*_flt.fits`` or an intermediate product.

    Returns
    -------
    Image
        SCI and ERR float32, DQ int16, native byte order, constant arrays expanded, BZERO applied.

    Raises
    ------
    InputError
        Naming file and HDU, if the file is missing, truncated or no FITS file, an extension is missing,
        doubled or of the wrong shape, a pixel is not a finite number, or there are more chips than NEXTEND
        announces.
    """
    primary, planes = scan(path)
    count = imset_count(primary, path)
    present = max((extver(p.header) for p in planes if extname(p.header) == "SCI"), default=0)
    if present > count:
        raise InputError.about(
            f"{path} NEXTEND",
            f"{count} imsets are announced, but there is a [SCI,{present}]",
            "correct NEXTEND (3 for each chip)",
        )
    return Image(_content(primary), [_read_imset(path, planes, n) for n in range(1, count + 1)])


def imset_count(primary: Header, where: object) -> int:
    """How many imsets NEXTEND announces, at least one; `where` is the file, for messages."""
    return max(1, int(as_number(primary, "NEXTEND", where, 3)) // 3)


def read_header(path: Path) -> Header:
    """The primary header alone, as `read_image` gives it."""
    return _content(scan(path)[0])


def read_imset(path: Path, version: int) -> Imset:
    """One imset of an exposure, as `read_image` gives it."""
    return _read_imset(path, scan(path)[1], version)


def write_image(image: Image, path: Path, *, overwrite: bool = False) -> None:
    """Write an exposure: the primary header, then SCI, ERR and DQ of every imset.

    SCI is written in full (BITPIX -32); an ERR or DQ array whose pixels are all equal becomes a constant
    array (NAXIS 0 with NPIX1, NPIX2, PIXVALUE), else BITPIX -32 and 16. The file is on disk (fsync) then.

    Parameters
    ----------
    image : Image
    path : Path
        FILENAME is the caller's business.
    overwrite : bool
        Replace a file that is there, in one step.

    Raises
    ------
    InputError
        If the file exists and `overwrite` is false.
    StorageError
        If the file system refuses; the unfinished file is removed.
    """
    target = path.with_name(f"{path.name}.part") if overwrite else path
    try:
        with target.open("wb" if overwrite else "xb") as stream:
            try:
                _write_all(stream, image)
                stream.flush()
                os.fsync(stream.fileno())
            except BaseException:
                target.unlink(missing_ok=True)
                raise
        if overwrite:
            os.replace(target, path)
    except FileExistsError as error:
        remedy = "remove it or choose another folder"
        raise InputError.about(path, "the output file exists already", remedy) from error
    except OSError as error:
        reason = error.strerror or error
        raise StorageError(f"{path}: cannot be written ({reason}); free some space") from error


def _write_all(stream: BinaryIO, image: Image) -> None:
    _write_header(stream, _primary_cards(), image.primary, [])
    for imset in image.imsets:
        _write_array(stream, "SCI", imset.extver, imset.sci_header, imset.sci)
        _write_array(stream, "ERR", imset.extver, imset.err_header, imset.err)
        _write_array(stream, "DQ", imset.extver, imset.dq_header, imset.dq)


def _read_imset(path: Path, planes: list[Plane], version: int) -> Imset:
    sci, err, dq = (find(planes, name, version, path) for name in ("SCI", "ERR", "DQ"))
    if 0 in sci.shape:
        raise InputError.about(sci.where, "the image has no pixels", "fetch the file again")
    for other in (err, dq):
        if other.shape != sci.shape:
            what = f"its shape {other.shape} is not that of SCI, {sci.shape}"
            raise InputError.about(other.where, what, "fetch the file again")
    return Imset(
        extver=version,
        sci=sci.read(np.float32),
        err=err.read(np.float32),
        dq=dq.read(np.int16),
        sci_header=_content(sci.header),
        err_header=_content(err.header),
        dq_header=_content(dq.header),
    )


def _content(header: Header) -> Header:
    """A copy without what describes the file rather than the exposure."""
    result = header.copy()
    for card in result.cards:
        # astropy warns of every oddity when a card is written; what is odd stays as it came
        card.verify("silentfix+ignore")
    for keyword in _STRUCTURE + _ENCODING:
        result.remove(keyword, ignore_missing=True)
    return result


def _primary_cards() -> list[Card]:
    return [
        Card("SIMPLE", True, "conforms to the FITS standard"),
        Card("BITPIX", 16, "number of bits per data pixel"),
        Card("NAXIS", 0, "number of data axes"),
        Card("EXTEND", True, "the file has extensions"),
        *_stamp(),
    ]


def _stamp() -> list[Card]:
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return [Card("ORIGIN", "acs-batch", "FITS file originator"), Card("DATE", today, "date of this file")]


def _write_array(stream: BinaryIO, name: str, version: int, header: Header, values: npt.NDArray[Any]) -> None:
    ny, nx = values.shape
    constant = name != "SCI" and bool((values == values.flat[0]).all())
    bits = 16 if values.dtype.kind == "i" else -32
    size = [] if constant else [Card("NAXIS1", nx, "columns"), Card("NAXIS2", ny, "rows")]
    structure = [
        Card("XTENSION", "IMAGE", "image extension"),
        Card("BITPIX", bits, "number of bits per data pixel"),
        Card("NAXIS", 0 if constant else 2, "number of data axes"),
        *size,
        Card("PCOUNT", 0, "required"),
        Card("GCOUNT", 1, "required"),
        *_stamp(),
    ]
    pixels = [
        Card("NPIX1", nx, "length of constant array axis 1"),
        Card("NPIX2", ny, "length of constant array axis 2"),
        Card("PIXVALUE", values.flat[0].item(), "value of every pixel"),
    ]
    body = header.copy()
    body["EXTNAME"], body["EXTVER"] = name, version
    _write_header(stream, structure, body, pixels if constant else [])
    if constant:
        return
    rows = max(1, (1 << 20) // nx)  # byte-swapped by blocks: the copy stays small
    for y in range(0, ny, rows):
        stream.write(values[y : y + rows].astype(DTYPES[bits]).data)
    stream.write(b"\0" * (-values.nbytes % BLOCK))


def _write_header(stream: BinaryIO, structure: list[Card], body: Header, tail: list[Card]) -> None:
    header = Header(structure)
    header.extend(_content(body), strip=False, end=True)
    header.extend(tail, strip=False, end=True)
    stream.write(header.tostring().encode("ascii"))
