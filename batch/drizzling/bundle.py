"""One multi-extension FITS file out of the separate images of a drizzle, copied byte by byte.

AstroDrizzle with ``build=False`` leaves the image, its weight and its context in three files with the pixels
in the primary HDU and keywords of exposure, drizzle and WCS in one header. Here they become the extensions
SCI, WHT and CTX behind a primary header, as ``build=True`` has them. Data units are copied, never decoded:
pixels stay bit for bit what they were, and memory does not grow with the mosaic.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from astropy.io import fits

from batch.errors import InputError

Card = tuple[str, Any, str]

# What belongs to an image rather than to the exposures behind it: WCS (FITS WCS papers I and II), its
# reference frame and HST's bookkeeping of it, and the unit.
_OF_IMAGE = re.compile(
    r"WCSAXES|WCSNAME|WCSTYPE|(CRPIX|CRVAL|CTYPE|CUNIT|CDELT|CRDER|CSYER)\d|(CD|PC|PV|LTM)\d_\d+|LTV\d|"
    r"LONPOLE|LATPOLE|RADESYS|EQUINOX|ORIENTAT|VAFACTOR|CCDCHIP|RA_APER|DEC_APER|PA_APER|BUNIT"
)
_STRUCTURE = re.compile(
    r"SIMPLE|XTENSION|BITPIX|NAXIS\d*|EXTEND|PCOUNT|GCOUNT|GROUPS|EXTNAME|EXTVER|EXTLEVEL|INHERIT|NEXTEND|"
    r"BSCALE|BZERO|BLANK|CHECKSUM|DATASUM|END"
)


def bundle(
    images: Mapping[str, Path], target: Path, cards: Iterable[Card] = (), history: Sequence[str] = ()
) -> None:
    """Write the images as extensions of one file.

    Parameters
    ----------
    images : mapping of str to Path
        File of each extension, by EXTNAME, the image first; its other HDUs (HDRTAB) follow at the end. The
        pixels are those of a file's first HDU that has any.
    target : Path
        The file to write.
    cards : iterable of (keyword, value, comment)
        Added to the primary header.
    history : sequence of str
        HISTORY lines for the primary header.

    Raises
    ------
    InputError
        If a file cannot be read or holds no image.
    """
    tables: list[tuple[Path, int, int]] = []
    with target.open("wb") as out:
        for number, (name, path) in enumerate(images.items()):
            try:
                with fits.open(path) as hdus:
                    image = next((h for h in hdus if h.is_image and h.header["NAXIS"] >= 2), None)
                    if image is None:
                        raise InputError.about(path, "holds no image", "run the sweep again")
                    header, place = image.header.copy(), image.fileinfo()
                    others = [h.fileinfo() for h in hdus if h is not image and h.header["NAXIS"] > 0]
            except OSError as error:
                raise InputError.about(path, f"cannot be read ({error})", "run the sweep again") from None
            if number == 0:
                tables = [(path, i["hdrLoc"], i["datLoc"] + i["datSpan"]) for i in others]
                count = len(images) + len(tables)
                out.write(_primary(header, target.name, count, cards, history).tostring().encode("ascii"))
            out.write(_extension(header, name).tostring().encode("ascii"))
            _copy(path, place["datLoc"], place["datLoc"] + place["datSpan"], out)
        for path, start, stop in tables:
            _copy(path, start, stop, out)


def _primary(
    header: fits.Header, name: str, extensions: int, cards: Iterable[Card], history: Sequence[str]
) -> fits.Header:
    """Everything about the exposures and how they were drizzled; no pixels."""
    result = fits.PrimaryHDU().header
    for card in header.cards:
        if not _OF_IMAGE.fullmatch(card.keyword) and not _STRUCTURE.fullmatch(card.keyword):
            result.append(card, bottom=True)
    result["FILENAME"] = name
    result["NEXTEND"] = extensions
    for keyword, value, comment in cards:
        result[keyword] = (value, comment)
    for line in history:
        result.add_history(line)
    return result


def _extension(header: fits.Header, name: str) -> fits.Header:
    """The structure of the data unit, the WCS and the unit."""
    axes = int(header["NAXIS"])
    result = fits.Header([("XTENSION", "IMAGE", "Image extension"), ("BITPIX", header["BITPIX"])])
    result["NAXIS"] = axes
    for axis in range(1, axes + 1):
        result[f"NAXIS{axis}"] = header[f"NAXIS{axis}"]
    result["PCOUNT"], result["GCOUNT"] = 0, 1
    result["EXTNAME"], result["EXTVER"] = name, 1
    for card in header.cards:
        if _OF_IMAGE.fullmatch(card.keyword) or card.keyword in ("BSCALE", "BZERO", "BLANK"):
            result.append(card, bottom=True)
    return result


def _copy(path: Path, start: int, stop: int, out: BinaryIO) -> None:
    """Append the bytes of a file from `start` up to `stop`."""
    with path.open("rb") as source:
        source.seek(start)
        left = stop - start
        while left:
            block = source.read(min(left, 1 << 22))
            if not block:
                raise InputError.about(path, f"is cut short by {left} bytes", "run the sweep again")
            out.write(block)
            left -= len(block)
