"""Reference files: where they are, what they say of themselves, which part of one an exposure needs.

Source: calibration-steps specification, sections 2.4, 3 and 9.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy.typing as npt
from astropy.io.fits import Header

from batch.calibration.header import Chip
from batch.calibration.table import Table, read_tables
from batch.errors import InputError, MissingReferenceError, UnsafeNameError
from batch.storage.planes import Plane, as_number, extname, extver, scan, value_of

_PREFIX = "jref$"


@dataclass(frozen=True)
class Reference:
    """A reference file as an exposure's header names it."""

    keyword: str
    name: str
    """The header's value: ``jref$wfc_bia.fits``."""
    path: Path
    primary: Header
    planes: Sequence[Plane]

    @property
    def pedigree(self) -> str:
        """PEDIGREE of the primary header, empty where there is none."""
        return str(value_of(self.primary, "PEDIGREE", self.path) or "").rstrip()

    @property
    def is_dummy(self) -> bool:
        """True for a file that stands for 'do not do this step'."""
        return self.pedigree.startswith("DUMMY")

    def history(self, kind: str) -> list[str]:
        """The HISTORY lines that name the file; `kind` is ``image`` or ``table``."""
        descrip = str(value_of(self.primary, "DESCRIP", self.path) or "").rstrip()
        return [
            f"  reference {kind} {self.name}",
            *(f"    {text}" for text in (self.pedigree, descrip) if text),
        ]

    def table(self, extension: str | None = None) -> Table:
        """The first table, or the one with this EXTNAME."""
        for table in read_tables(self.path):
            if extension is None or table.name == extension:
                return table
        what = f"there is no table {extension}" if extension else "there is no table in it"
        raise InputError.about(f"{self.path} ({self.keyword})", what, "provide the right reference file")


class References:
    """Finds the reference files that a primary header names.

    Parameters
    ----------
    primary : Header
        Of the exposure.
    jref : Path
        The folder that ``jref$`` stands for.
    where : Path
        The exposure, for messages.
    """

    def __init__(self, primary: Header, jref: Path, where: Path) -> None:
        self._primary, self._jref, self._where = primary, jref, where

    def name(self, keyword: str) -> str:
        """The header's value, without trailing blanks; empty where there is none."""
        return str(value_of(self._primary, keyword, self._where) or "").rstrip()

    def given(self, keyword: str) -> bool:
        """True if the header names a file (not N/A)."""
        return self.name(keyword) not in ("", "N/A")

    def path(self, keyword: str) -> Path:
        """Where the file named by a keyword has to be.

        Raises
        ------
        UnsafeNameError
            If a ``jref$`` name would leave the folder.
        """
        name = self.name(keyword)
        if not name.startswith(_PREFIX):
            return Path(name)
        inside = PurePosixPath(name.removeprefix(_PREFIX))
        if inside.is_absolute() or ".." in inside.parts:
            raise UnsafeNameError(
                f"{self._where} {keyword}: {name!r} leaves the folder jref; correct the keyword"
            )
        return self._jref / inside

    def missing(self, keyword: str, *, may_be_absent: bool = False) -> str | None:
        """Why the file of a keyword cannot be used, None if it is there.

        Parameters
        ----------
        keyword : str
        may_be_absent : bool
            True where the value N/A is allowed; a blank or absent value is not.
        """
        name = self.name(keyword)
        if name == "N/A" and may_be_absent:
            return None
        if name in ("", "N/A"):
            return f"{keyword} is {name or 'blank'}"
        return None if self.path(keyword).is_file() else f"{keyword} {name} is not there"

    def open(self, keyword: str) -> Reference:
        """Look into a reference file.

        Raises
        ------
        MissingReferenceError
            If it is not there.
        InputError
            If it cannot be read.
        """
        reason = self.missing(keyword)
        if reason is not None:
            raise MissingReferenceError(f"{self._where}: {reason}; provide the file or set its step to OMIT")
        path = self.path(keyword)
        primary, planes = scan(path)
        return Reference(keyword, self.name(keyword), path, primary, planes)


@dataclass(frozen=True)
class Section:
    """The part of a reference image that lies under a science image."""

    sci: Plane
    err: Plane | None
    dq: Plane | None
    extver: int
    rows: slice
    columns: slice
    same_frame: bool
    """True where corner, binning and row length of science and reference are the same."""

    def read(self, plane: Plane, dtype: npt.DTypeLike, rows: slice) -> npt.NDArray[Any]:
        """Rows of the section, counted from its first row."""
        first = self.rows.start
        return plane.read(dtype, slice(first + rows.start, first + rows.stop), self.columns)


def align(reference: Reference, chip: Chip, shape: tuple[int, int], *, full: bool = True) -> Section:
    """Find the imset of a chip and the section that covers a science array.

    Parameters
    ----------
    reference : Reference
    chip : Chip
        Of the science image.
    shape : tuple of int
        (ny, nx) of the science array.
    full : bool
        False for files that hold SCI extensions only.

    Raises
    ------
    InputError
        If no imset has the chip, the binning differs, or the reference does not cover the array.
    """
    sci, version = _imset_of(reference, chip, full)
    plane_ltv = (_number(sci, "LTV1", 0.0), _number(sci, "LTV2", 0.0))
    plane_ltm = (_number(sci, "LTM1_1", 1.0), _number(sci, "LTM2_2", 1.0))
    bins, corner = _grid(chip.ltv, chip.ltm, reference.path)
    reference_bins, reference_corner = _grid(plane_ltv, plane_ltm, sci.where)
    if bins != reference_bins:
        raise InputError.about(
            sci.where, f"binning {reference_bins} is not that of the exposure, {bins}", "take another file"
        )
    x0, y0 = (s - r for s, r in zip(corner, reference_corner, strict=True))
    (ny, nx), (rny, rnx) = shape, sci.shape
    if x0 < 0 or y0 < 0 or x0 + nx > rnx or y0 + ny > rny:
        raise InputError.about(
            f"{sci.where} ({reference.keyword})",
            f"columns {x0 + 1}-{x0 + nx}, rows {y0 + 1}-{y0 + ny} are needed, {rnx} x {rny} are there",
            "take the reference file for this readout mode",
        )
    err, dq = (_companion(reference, name, version, sci) for name in ("ERR", "DQ")) if full else (None, None)
    same = corner == reference_corner and nx == rnx
    return Section(sci, err, dq, version, slice(y0, y0 + ny), slice(x0, x0 + nx), same)


def corners(ltv: tuple[float, float], ltm: tuple[float, float], where: object) -> tuple[int, int]:
    """(x, y) of an image's corner on the detector, unbinned pixels (section 3)."""
    return _grid(ltv, ltm, where)[1]


def _imset_of(reference: Reference, chip: Chip, full: bool) -> tuple[Plane, int]:
    announced = int(as_number(reference.primary, "NEXTEND", reference.path, 3))
    count = announced // 3 if full else announced
    for version in range(1, min(count, len(reference.planes)) + 1):
        for plane in reference.planes:
            if (extname(plane.header), extver(plane.header)) != ("SCI", version):
                continue
            if int(_number(plane, "CCDCHIP", 1)) == chip.number:
                return plane, version
    raise InputError.about(
        f"{reference.path} ({reference.keyword})",
        f"none of its {count} imsets has CCDCHIP = {chip.number}",
        "take the reference file for this detector",
    )


def _companion(reference: Reference, name: str, version: int, sci: Plane) -> Plane:
    for plane in reference.planes:
        if (extname(plane.header), extver(plane.header)) == (name, version):
            if plane.shape != sci.shape:
                raise InputError.about(
                    plane.where, f"its shape {plane.shape} is not {sci.shape}", "fetch it again"
                )
            return plane
    raise InputError.about(
        f"{reference.path}[{name},{version}]", "the extension is missing", "fetch it again"
    )


def _number(plane: Plane, keyword: str, default: float) -> float:
    return as_number(plane.header, keyword, plane.where, default)


def _grid(
    ltv: tuple[float, float], ltm: tuple[float, float], where: object
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Bins and corner of an image, per axis (x, y)."""
    if min(ltm) <= 0 or max(abs(v) for v in ltv) > 1e6:
        raise InputError.about(where, f"LTM {ltm} or LTV {ltv} is impossible", "correct the keywords")
    bins = [_nearest(1 / m) for m in ltm]
    corner = [_nearest((1 / m - 1) - v / m) for v, m in zip(ltv, ltm, strict=True)]
    return (bins[0], bins[1]), (corner[0], corner[1])


def _nearest(value: float) -> int:
    """Round half away from zero."""
    return int(math.copysign(math.floor(abs(value) + 0.5), value))
