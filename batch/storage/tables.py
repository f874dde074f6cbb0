"""The binary tables of a FITS file, as native arrays.

Read here for the reasons of `batch.storage.planes`, and because a calibration reads a dozen small tables, a
plan thousands: a general reader takes several times as long, most of it for what nobody asks.

Source: FITS standard 4.0, section 7.3.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
from astropy.io.fits import Header

from batch.errors import InputError
from batch.storage.planes import as_number, extname, value_of, walk

_MOST_COLUMNS = 999
_WIDEST = 2**31 - 1
_FORM = re.compile(r"(\d{0,9})([LXBIJKAEDCMPQ])([BIJKED]?)")
_WIDTHS = dict(zip("LXBIJKAEDCMPQ", (1, 1, 1, 2, 4, 8, 1, 4, 8, 8, 16, 8, 16), strict=True))
_NUMBERS = {"B": ">u1", "I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8"}
_PLACES = {"P": ">i4", "Q": ">i8"}
_AGAIN = "fetch the file again"


@dataclass(frozen=True)
class Columns:
    """One binary table."""

    name: str
    """EXTNAME, upper case."""
    arrays: dict[str, npt.NDArray[Any]]
    """By upper-case name: one value a row, or an array of them along a second axis; strings without what
    follows a NUL or fills them up; arrays of variable length as objects."""
    rows: int


def read_columns(path: Path) -> Iterator[Columns]:
    """The binary tables of a file, in order.

    Raises
    ------
    InputError
        If the file is damaged.
    """
    for header, offset, _ in walk(path):
        if value_of(header, "XTENSION", path) == "BINTABLE":
            yield _Reader(path, header, offset).read()


@dataclass(frozen=True)
class _Field:
    """A column, as TFORMn has it."""

    number: int
    kind: str
    repeat: int
    element: str
    """Of arrays of variable length."""

    @property
    def width(self) -> int:
        """Bytes a row."""
        return -(-self.repeat // 8) if self.kind == "X" else self.repeat * _WIDTHS[self.kind]

    @property
    def dtype(self) -> npt.DTypeLike:
        """As it is stored; of bits and complex numbers, which no reference file has, only the place."""
        if self.kind == "A":
            return f"S{self.repeat}"
        if self.kind in _PLACES:
            return _PLACES[self.kind], (self.repeat, 2)
        stored = "S1" if self.kind == "L" else _NUMBERS.get(self.kind)
        if stored is None:
            return f"V{self.width}"
        return stored if self.repeat == 1 else (stored, (self.repeat,))


class _Reader:
    def __init__(self, path: Path, header: Header, offset: int) -> None:
        self._path, self._header, self._offset = path, header, offset
        self._name = extname(header)
        self._where = f"{path}[{self._name or 'table'}]"
        # to ask for a keyword that is not there takes long
        self._given = set(header)

    def read(self) -> Columns:
        fields = self._fields()
        width, rows, heap = self._integer("NAXIS1"), self._integer("NAXIS2"), self._integer("PCOUNT", 0)
        taken = sum(f.width for f in fields)
        if taken != width or not 0 < width <= _WIDEST:
            self._refuse(f"its columns take {taken} bytes a row, NAXIS1 is {width}")
        between = self._integer("THEAP", width * rows) - width * rows
        with self._path.open("rb") as stream:
            stream.seek(self._offset)
            content = stream.read(width * rows)
            rest = stream.read(heap)[max(0, between) :]
        table = np.ndarray(rows, np.dtype([(str(f.number), f.dtype) for f in fields]), content)
        arrays = {self._column(f): self._values(f, table[str(f.number)], rest) for f in fields}
        return Columns(self._name, arrays, rows)

    def _fields(self) -> list[_Field]:
        count = self._integer("TFIELDS")
        if not 0 < count <= _MOST_COLUMNS:
            self._refuse(f"TFIELDS = {count} is impossible")
        return [self._field(number) for number in range(1, count + 1)]

    def _field(self, number: int) -> _Field:
        form = self._text(f"TFORM{number}")
        match = _FORM.match(form)
        if match is None or (match[2] in _PLACES and not (match[3] and match[1] in ("", "0", "1"))):
            self._refuse(f"TFORM{number} = {form!r} cannot be read")
        return _Field(number, match[2], int(match[1] or 1), match[3])

    def _column(self, field: _Field) -> str:
        return (self._text(f"TTYPE{field.number}") or f"col{field.number}").upper()

    def _values(self, field: _Field, stored: npt.NDArray[Any], heap: bytes) -> npt.NDArray[Any]:
        if field.kind == "A":
            texts = [text.partition(b"\0")[0].decode("latin-1").rstrip() for text in stored.tolist()]
            return np.array(texts, np.str_)
        if field.kind == "L":
            return np.asarray(stored == b"T")
        if field.kind in _PLACES:
            return self._variable(field, stored, heap)
        return self._scaled(field, stored) if field.kind in _NUMBERS else stored

    def _variable(self, field: _Field, places: npt.NDArray[Any], heap: bytes) -> npt.NDArray[Any]:
        """Arrays that lie behind the table, of which each row has number and place."""
        values = np.empty(len(places), object)
        dtype = np.dtype(_NUMBERS[field.element])
        for row, place in enumerate(places.tolist()):
            length, start = place[0] if place else (0, 0)
            if min(length, start) < 0 or start + length * dtype.itemsize > len(heap):
                self._refuse(f"row {row + 1} of column {self._column(field)} lies outside of it")
            values[row] = self._scaled(field, np.ndarray(length, dtype, heap, start))
        return values

    def _scaled(self, field: _Field, stored: npt.NDArray[Any]) -> npt.NDArray[Any]:
        values = stored.astype(stored.dtype.newbyteorder("="))
        scaling = (f"TSCAL{field.number}", f"TZERO{field.number}")
        if not self._given.intersection(scaling):
            return values
        scale, zero = (as_number(self._header, scaling[i], self._where, (1.0, 0.0)[i]) for i in (0, 1))
        if scale == 1 and zero.is_integer() and abs(zero) <= _WIDEST + 1 and values.dtype.kind in "iu":
            # how unsigned integers are stored
            return values.astype(np.int64) + int(zero)
        with np.errstate(over="ignore"):
            return np.asarray(values * scale + zero)

    def _integer(self, keyword: str, default: int | None = None) -> int:
        if keyword not in self._given and default is not None:
            return default
        return int(as_number(self._header, keyword, self._where))

    def _text(self, keyword: str) -> str:
        value = value_of(self._header, keyword, self._where) if keyword in self._given else None
        return "" if value is None else str(value).strip()

    def _refuse(self, what: str) -> NoReturn:
        raise InputError.about(self._where, what, _AGAIN)
