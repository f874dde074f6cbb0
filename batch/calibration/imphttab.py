"""IMPHTTAB: photometric keywords for an observing mode, interpolated in its parameters.

Source: calibration-steps specification, sections 6.5 and 9.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from batch.calibration.references import Reference
from batch.calibration.table import Table
from batch.errors import InputError
from batch.storage.planes import value_of

F64 = npt.NDArray[np.float64]


class OutsideGridError(Exception):
    """A parameter lies outside the table's grid and may not be extrapolated."""


def look_up(reference: Reference, keyword: str, photmode: str) -> float:
    """The value of PHOTFLAM, PHOTPLAM or PHOTBW.

    Parameters
    ----------
    reference : Reference
        The opened IMPHTTAB.
    keyword : str
        Also the EXTNAME of its table.
    photmode : str
        As in the header: ``ACS WFC1 F814W MJD#53801.5000``.

    Raises
    ------
    InputError
        If there is no row for the mode, or the row makes no sense.
    OutsideGridError
        If a parameter lies outside the grid.
    """
    table = reference.table(keyword)
    terms = [term.partition("#") for term in photmode.lower().split()]
    mode = ",".join(name + sign for name, sign, _ in terms)
    parameters = {name + sign: float(value) for name, sign, value in terms if sign}
    row = _matching_row(table, mode)
    if row is None:
        what = f"no row for the observing mode {mode}"
        raise InputError.about(
            f"{reference.path}[{keyword}]", what, "provide an IMPHTTAB that has this filter"
        )
    column = table.text("DATACOL", row).strip()
    count = _trailing_digits(column)
    if count == 0:
        return table.number(keyword, row)
    extrapolate = value_of(reference.primary, "EXTRAP", reference.path) is True
    values = table.cells(column.upper(), row)
    grids, places, sizes = [], [], []
    for n in range(1, count + 1):
        name = table.text(f"PAR{n}NAMES", row).strip().lower()
        value = parameters.get(name)
        size = int(table.number(f"NELEM{n}", row))
        grid = table.cells(f"PAR{n}VALUES", row)[: max(size, 0)]
        if value is None or len(grid) != size or size < 2 or not (np.diff(grid) > 0).all():
            what = f"row {row + 1}: parameter {n} ({name!r}) has no value or no ascending grid"
            raise InputError.about(f"{reference.path}[{keyword}]", what, "correct the table")
        if not grid[0] <= value <= grid[-1] and not (extrapolate and name == "mjd#"):
            raise OutsideGridError(name)
        grids.append(grid)
        places.append(value)
        sizes.append(size)
    needed = int(np.prod(sizes))
    if len(values) < needed:
        what = f"row {row + 1}: {column} has {len(values)} values, {needed} are needed"
        raise InputError.about(f"{reference.path}[{keyword}]", what, "correct the table")
    return interpolate(values[:needed].reshape(sizes[::-1]), grids, places)


def interpolate(values: F64, grids: Sequence[F64], places: Sequence[float]) -> float:
    """Multilinear interpolation, float64.

    Parameters
    ----------
    values : ndarray
        Shape (n_last, ..., n_first): the first parameter runs fastest.
    grids : sequence of ndarray
        Ascending points of each parameter, first parameter first.
    places : sequence of float
        Where; outside a grid its nearest interval is extended.
    """
    for grid, x in zip(grids, places, strict=True):
        i = int(np.clip(np.searchsorted(grid, x, side="right") - 1, 0, len(grid) - 2))
        low, high = values[..., i], values[..., i + 1]
        values = low + (x - grid[i]) * (high - low) / (grid[i + 1] - grid[i])
    return float(values)


def _matching_row(table: Table, mode: str) -> int | None:
    """The row with the same terms, in whatever order."""
    for row, text in enumerate(table.texts("OBSMODE")):
        candidate = text.strip().lower()
        if len(candidate) == len(mode) and all(term in mode for term in candidate.split(",")):
            return row
    return None


def _trailing_digits(name: str) -> int:
    digits = name[len(name.rstrip("0123456789")) :]
    return int(digits) if digits else 0
