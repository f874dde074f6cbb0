"""Reference tables: columns as native arrays, and the matching of rows that all of them share.

Source: calibration-steps specification, sections 3 (table matching) and 9.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from batch.errors import InputError
from batch.storage.tables import read_columns

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Table:
    """One binary table."""

    path: Path
    name: str
    """EXTNAME, upper case."""
    columns: Mapping[str, npt.NDArray[Any]]
    """By upper-case name."""
    length: int

    def has(self, name: str) -> bool:
        """True if there is a column of this name."""
        return name in self.columns

    def numbers(self, name: str) -> npt.NDArray[Any]:
        """A numeric column, in its own type.

        Raises
        ------
        InputError
            If it is missing or not numeric.
        """
        column = self._column(name)
        if column.dtype.kind not in "iufb":
            raise self._complaint(name, "is not numeric")
        return column

    def integers(self, name: str) -> npt.NDArray[np.int64]:
        """A numeric column as integers, one value a row."""
        column = self.numbers(name)
        if column.ndim != 1 or not np.isfinite(column).all() or (np.abs(column) > 2**31).any():
            raise self._complaint(name, "does not hold one sensible number a row")
        return column.astype(np.int64)

    def texts(self, name: str) -> list[str]:
        """A string column without trailing blanks and NULs."""
        column = self._column(name)
        if column.dtype.kind not in "US":
            raise self._complaint(name, "holds no text")
        texts = [str(v).rstrip(" \0") for v in column.ravel()[: self.length]]
        if not all(text.isascii() and text.isprintable() for text in texts):
            raise self._complaint(name, "holds characters that are not printable ASCII")
        return texts

    def number(self, name: str, row: int) -> float:
        """One finite number."""
        value = float(np.ravel(self.numbers(name)[row])[0])
        if not np.isfinite(value):
            raise self._complaint(name, f"row {row + 1} is not a finite number")
        return value

    def cells(self, name: str, row: int) -> npt.NDArray[np.float64]:
        """The numbers of an array-valued cell, of fixed or variable length."""
        column = self._column(name)
        if column.dtype.kind not in "iufO":
            raise self._complaint(name, "is not numeric")
        values = np.ravel(np.asarray(column[row], dtype=np.float64))
        if not np.isfinite(values).all():
            raise self._complaint(name, f"row {row + 1} has values that are not finite")
        return values

    def text(self, name: str, row: int) -> str:
        """One string."""
        return self.texts(name)[row]

    def same_text(self, name: str, value: str, *also: str) -> Mask:
        """Rows whose cell equals `value`, ``ANY``, or one of `also`."""
        accepted = {value, "ANY", *also}
        return np.array([text in accepted for text in self.texts(name)], dtype=bool)

    def same_number(self, name: str, value: float) -> Mask:
        """Rows whose cell equals `value`, -1 or -999.

        An integer column is compared with the truncated value, any other in single precision.
        """
        column = self.numbers(name)
        wanted = np.trunc(value) if column.dtype.kind in "iu" else np.float32(value)
        cells = column if column.dtype.kind in "iu" else column.astype(np.float32)
        mask: Mask = (cells == wanted) | (cells == -1) | (cells == -999)
        if mask.ndim != 1:
            raise self._complaint(name, "has several values a row")
        return mask

    def flag(self, name: str, row: int) -> bool:
        """One logical value."""
        column = self._column(name)
        if column.dtype.kind != "b":
            raise self._complaint(name, "is not logical")
        return bool(np.ravel(column[row])[0])

    def first(self, *masks: Mask) -> int | None:
        """The first row that all masks accept."""
        rows = np.flatnonzero(np.logical_and.reduce(masks))
        return int(rows[0]) if len(rows) else None

    def _column(self, name: str) -> npt.NDArray[Any]:
        if name not in self.columns:
            raise self._complaint(name, "is missing")
        return self.columns[name]

    def _complaint(self, name: str, what: str) -> InputError:
        return InputError.about(
            f"{self.path}[{self.name or 'table'}]", f"column {name} {what}", "correct the table"
        )


def read_tables(path: Path) -> Iterator[Table]:
    """The binary tables of a file, in order.

    Raises
    ------
    InputError
        If the file is damaged.
    """
    for table in read_columns(path):
        yield Table(path, table.name, table.arrays, table.rows)
