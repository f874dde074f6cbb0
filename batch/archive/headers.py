"""What the first blocks of a raw file say of the exposure: enough to plan with, without its pixels."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning

from batch.errors import InputError
from batch.model.names import rootname
from batch.model.observation import Exposure
from batch.storage import raw

HEAD = 20 * 2880
"""Bytes that hold the primary header and that of the first chip, in nearly every raw file."""
_MOST = 50 * HEAD
_BLOCK = 2880
_ASKED = {
    *raw.REQUIRED,
    *("APERTURE", "FILTER1", "FILTER2", "NEXTEND", "PCTECORR"),
    *("PROPOSID", "TARGNAME", "RA_TARG", "DEC_TARG", "ASN_ID", "ASN_MTYP"),
    *("EXTNAME", "NAXIS1", "NAXIS2"),
    *raw.WCS,
}

Read = Callable[[int], bytes]
"""Gives the first n bytes of a file, or all of it if it is shorter."""


@dataclass(frozen=True)
class Facts:
    """What searches and groupings ask of an exposure, as its headers have it."""

    exposure: Exposure
    proposal: int | None = None
    target: str = ""
    """TARGNAME, upper case."""
    position: tuple[float, float] | None = None
    """RA_TARG and DEC_TARG, deg."""
    table: str = ""
    """ASN_ID in lower case; empty for an exposure in no association."""
    kind: str = ""
    """ASN_MTYP: what it is in there."""


def describe(path: Path) -> Facts:
    """Look at a raw file in a folder.

    Raises
    ------
    InputError
        If it is no raw ACS CCD exposure.
    """
    try:
        with path.open("rb") as stream:

            def read(count: int) -> bytes:
                stream.seek(0)
                return stream.read(count)

            facts, _ = look(
                read, path, path.name, size=path.stat().st_size, stamp=raw.stamp(path), origin=str(path)
            )
    except OSError as error:
        raise InputError.about(path, f"cannot be read ({error.strerror})", "fetch it again") from None
    return facts


def look(
    read: Read, where: object, name: str, *, size: int, stamp: str = "", origin: str = ""
) -> tuple[Facts, bytes]:
    """Read headers, and nothing more, of a raw file.

    Parameters
    ----------
    read : callable
        Gives the first n bytes.
    where : object
        The file, for messages.
    name : str
        Its name, which begins with the rootname.
    size : int
        Bytes of the whole file.
    stamp : str
        Changes when the file does; empty: `header_stamp`.
    origin : str
        Where it lies.

    Returns
    -------
    facts : Facts
    head : bytes
        The blocks of the primary header and of that of [SCI,1]: CRDS looks at both.

    Raises
    ------
    InputError
        If this is no raw ACS CCD exposure.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)
            head, science_head = _heads(read, where)
            primary, science = _values(head), _values(science_head)
            raw.check_primary(primary, where)
            facts = _facts(primary, science, where, name, size, stamp or header_stamp(size, head), origin)
    except (KeyError, ValueError, TypeError, fits.VerifyError) as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise InputError.about(where, f"cannot be read as FITS ({text})", "fetch it again") from None
    return facts, head + science_head


def header_stamp(size: int, head: bytes) -> str:
    """What tells a file from another version of it, wherever either lies: its size and primary header.

    Whenever the archive makes a file anew, its header tells: DATE, OPUS_VER, names of reference files.
    """
    return f"{size}-{hashlib.sha256(head).hexdigest()[:16]}"


def primary_head(path: Path) -> bytes:
    """The blocks of a file's primary header."""
    with path.open("rb") as stream:
        content = stream.read(HEAD)
        while (end := _end(content, 0)) is None:
            more = stream.read(HEAD)
            if not more:
                raise InputError.about(path, "its header has no END", "fetch it again")
            content += more
    return content[:end]


def _heads(read: Read, where: object) -> tuple[bytes, bytes]:
    """The blocks of the primary header and of the one that follows, which is that of [SCI,1]."""
    count = HEAD
    while True:
        content = read(count)
        if not content.startswith(b"SIMPLE  ="):
            raise InputError.about(where, "this is no FITS file", "fetch it again")
        first = _end(content, 0)
        # the primary HDU of a raw file has no data: the next header follows at once
        second = None if first is None else _end(content, first)
        if first is not None and second is not None:
            return content[:first], content[first:second]
        if len(content) < count or count >= _MOST:
            what = "its header has no END" if first is None else "there is no extension [SCI,1]"
            raise InputError.about(where, what, "fetch the raw file again from the archive")
        count *= 4


def _values(head: bytes) -> dict[str, Any]:
    """The keywords that are asked for, of two hundred: there may be thousands of headers."""
    found: dict[str, Any] = {}
    for start in range(0, len(head), 80):
        keyword = head[start : start + 8].rstrip().decode("ascii", "replace")
        if keyword in _ASKED and keyword not in found:
            found[keyword] = fits.Card.fromstring(head[start : start + 80]).value
    return found


def _end(content: bytes, start: int) -> int | None:
    """Where the header that begins at `start` ends, a whole number of blocks."""
    for block in range(start, len(content) - _BLOCK + 1, _BLOCK):
        if any(content[i : i + 80].rstrip() == b"END" for i in range(block, block + _BLOCK, 80)):
            return block + _BLOCK
    return None


def _facts(primary: Any, science: Any, where: object, name: str, size: int, stamp: str, origin: str) -> Facts:
    if str(science.get("EXTNAME", "")).strip() != "SCI":
        raise InputError.about(
            f"{where}[SCI,1]", "there is no such extension", "fetch the raw file again from the archive"
        )
    exposure = Exposure(
        rootname=rootname(name.partition("_")[0], where),
        detector=primary["DETECTOR"],
        aperture=str(primary.get("APERTURE", "")).strip(),
        amps=str(primary["CCDAMP"]).strip(),
        filters=raw.filters(primary),
        exptime=float(primary["EXPTIME"]),
        start=float(primary["EXPSTART"]),
        shape=(int(science["NAXIS2"]), int(science["NAXIS1"])),
        chips=raw.chips(primary),
        stamp=stamp,
        cte=str(primary.get("PCTECORR", "OMIT")).strip().upper() == "PERFORM",
        size=size,
        origin=origin,
        wcs=raw.linear_wcs(science),
    )
    proposal = primary.get("PROPOSID")
    ra, dec = primary.get("RA_TARG"), primary.get("DEC_TARG")
    table = str(primary.get("ASN_ID", "")).strip().lower()
    return Facts(
        exposure,
        proposal=proposal if isinstance(proposal, int) else None,
        target=str(primary.get("TARGNAME", "")).strip().upper(),
        position=(float(ra), float(dec)) if isinstance(ra, float) and isinstance(dec, float) else None,
        table="" if table == "none" else table,
        kind=str(primary.get("ASN_MTYP", "")).strip().upper(),
    )
