"""Reference images: the imset of a chip, and the section of it that lies under a science array.

Source: calibration-steps specification, section 3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from batch.calibration.header import Chip
from batch.calibration.references import Reference
from batch.errors import InputError
from batch.storage.planes import Plane, as_number, extname, extver

Pair = tuple[int, int]


@dataclass(frozen=True)
class Planes:
    """SCI, ERR and DQ of one imset of a reference file; ERR and DQ are None in files of SCI alone."""

    sci: Plane
    err: Plane | None
    dq: Plane | None
    extver: int

    @property
    def bins(self) -> Pair:
        """Binning in x and y."""
        return _bins(_ltm(self.sci))

    @property
    def corner(self) -> Pair:
        """(x, y) of the first pixel on the unbinned detector, as calacs counts it."""
        return _corner(_ltv(self.sci), _ltm(self.sci))


@dataclass(frozen=True)
class Section:
    """The part of a reference imset that lies under a science array."""

    planes: Planes
    rows: slice
    columns: slice
    inner: Pair
    """(row, column) of the first imaging pixel of the science array, where both frames are the same."""
    same_frame: bool
    """True where corner, binning and row length of science and reference are the same."""

    def read(self, plane: Plane, dtype: npt.DTypeLike, rows: slice) -> npt.NDArray[Any]:
        """Rows of the section, counted from its first row."""
        first = self.rows.start
        return plane.read(dtype, slice(first + rows.start, first + rows.stop), self.columns)


def imset_of(reference: Reference, chip: Chip, *, full: bool = True) -> Planes:
    """The first imset of a reference image that has a chip.

    Parameters
    ----------
    reference : Reference
    chip : Chip
        Of the science image.
    full : bool
        False for files that hold SCI extensions only.

    Raises
    ------
    InputError
        If there is none, or it is not complete.
    """
    announced = int(as_number(reference.primary, "NEXTEND", reference.path, 3))
    count = announced // 3 if full else announced
    planes = {(extname(p.header), extver(p.header)): p for p in reference.planes}
    for version in range(1, min(count, len(planes)) + 1):
        sci = planes.get(("SCI", version))
        if sci is None or int(as_number(sci.header, "CCDCHIP", sci.where, 1)) != chip.number:
            continue
        if not full:
            return Planes(sci, None, None, version)
        others = [planes.get((name, version)) for name in ("ERR", "DQ")]
        if any(other is None or other.shape != sci.shape for other in others):
            what = "its ERR or DQ extension is missing or of another shape"
            raise InputError.about(sci.where, what, "fetch the file again")
        return Planes(sci, others[0], others[1], version)
    raise InputError.about(
        f"{reference.path} ({reference.keyword})",
        f"none of its {count} imsets has CCDCHIP = {chip.number}",
        "take the reference file for this detector",
    )


def align(reference: Reference, chip: Chip, shape: Pair, *, full: bool = True) -> Section:
    """Find the section of an unbinned reference image that covers a science array.

    Parameters
    ----------
    reference, chip, full
        As for `imset_of`.
    shape : tuple of int
        (ny, nx) of the science array.

    Raises
    ------
    InputError
        If no imset has the chip, the binning differs, or the reference does not cover the array.
    """
    planes = imset_of(reference, chip, full=full)
    if planes.bins != (bins := _bins(chip.ltm)):
        what = f"binning {planes.bins} is not that of the exposure, {bins}"
        raise InputError.about(planes.sci.where, what, "take another file")
    corner = _corner(chip.ltv, chip.ltm)
    x0, y0 = (s - r for s, r in zip(corner, planes.corner, strict=True))
    (ny, nx), (rny, rnx) = shape, planes.sci.shape
    if x0 < 0 or y0 < 0 or x0 + nx > rnx or y0 + ny > rny:
        raise InputError.about(
            f"{planes.sci.where} ({reference.keyword})",
            f"columns {x0 + 1}-{x0 + nx}, rows {y0 + 1}-{y0 + ny} are needed, {rnx} x {rny} are there",
            "take the reference file for this readout mode",
        )
    same = corner == planes.corner and nx == rnx
    inner = (abs(corner[1]), abs(corner[0]))
    return Section(planes, slice(y0, y0 + ny), slice(x0, x0 + nx), inner, same)


def _ltv(plane: Plane) -> tuple[float, float]:
    return tuple(as_number(plane.header, k, plane.where, 0.0) for k in ("LTV1", "LTV2"))  # type: ignore[return-value]


def _ltm(plane: Plane) -> tuple[float, float]:
    ltm = tuple(as_number(plane.header, k, plane.where, 1.0) for k in ("LTM1_1", "LTM2_2"))
    if min(ltm) <= 1e-3:
        raise InputError.about(plane.where, f"LTM1_1, LTM2_2 = {ltm} are impossible", "correct the keywords")
    return ltm  # type: ignore[return-value]


def _bins(ltm: tuple[float, float]) -> Pair:
    return nearest(1 / ltm[0]), nearest(1 / ltm[1])


def _corner(ltv: tuple[float, float], ltm: tuple[float, float]) -> Pair:
    x, y = (nearest((1 / m - 1) - v / m) for v, m in zip(ltv, ltm, strict=True))
    return x, y


def nearest(value: float) -> int:
    """Round half away from zero."""
    return int(math.copysign(math.floor(abs(value) + 0.5), value))
