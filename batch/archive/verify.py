"""Whether a file is what its source has: length, digest, and the check sums that FITS files carry."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from batch.errors import InputError
from batch.storage.planes import value_of, walk

_CHUNK = 1 << 22
_FULL = 0xFFFFFFFF
_ONE_OFF = (1, 31)
"""Bits set in a sum that one wrong bit keeps from 0: by chance, that is one sum of 67 million."""


def damage(path: Path, size: int | None = None, md5: str = "") -> str:
    """What is wrong with a file; empty if nothing is.

    Parameters
    ----------
    path : Path
        A FITS file.
    size : int, optional
        Bytes that it should have.
    md5 : str
        Its MD5 in hexadecimal digits, where the source gives it.
    """
    length = path.stat().st_size
    if size is not None and length != size:
        return f"has {length} bytes instead of {size}"
    if md5:
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, "md5").hexdigest()
        if found != md5.lower():
            return f"has MD5 {found} instead of {md5.lower()}"
    try:
        return _wrong_sum(path)
    except InputError as error:
        return f"is not whole ({error.message})"


def _wrong_sum(path: Path) -> str:
    """The first HDU whose CHECKSUM or DATASUM does not hold.

    Source: FITS standard 4.0, section 4.4.2.7 and appendix J: the sum of all 32-bit words of an HDU in ones'
    complement arithmetic is all ones; DATASUM is that of the data alone.
    """
    start = 0
    for index, (header, offset, end) in enumerate(walk(path)):
        data_sum, check_sum = (
            str(value_of(header, keyword, path) or "").strip() for keyword in ("DATASUM", "CHECKSUM")
        )
        if data_sum.isdigit() or check_sum:
            data = ones_sum(path, offset, end)
            # all ones is another way to write 0
            total = (ones_sum(path, start, offset) + data) % _FULL
            if data_sum.isdigit() and data != int(data_sum):
                return f"has a wrong DATASUM in HDU {index}"
            if check_sum and check_sum != "0" * 16 and total != 0:
                return f"has a wrong CHECKSUM in HDU {index}"
            if not check_sum and total.bit_count() in _ONE_OFF:
                return f"has a damaged keyword CHECKSUM in HDU {index}"
        start = end
    return ""


def ones_sum(path: Path, start: int, end: int) -> int:
    """The sum of the 32-bit words in bytes `start` to `end` of a file, in ones' complement arithmetic."""
    total = 0
    with path.open("rb") as stream:
        stream.seek(start)
        while start < end:
            content = stream.read(min(_CHUNK, end - start))
            if not content:
                break
            start += len(content)
            content += bytes(-len(content) % 4)
            total += int(np.frombuffer(content, ">u4").sum(dtype=np.uint64))
    while total > _FULL:
        total = (total & _FULL) + (total >> 32)
    return total
