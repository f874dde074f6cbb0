"""OSCNTAB: where a readout mode has its overscan.

Source: calibration-steps specification, sections 4.2 and 9.
"""

from __future__ import annotations

from dataclasses import dataclass

from batch.calibration.header import Setup
from batch.calibration.references import Reference
from batch.errors import InputError

_COLUMNS = ("TRIMX1", "TRIMX2", "TRIMY1", "TRIMY2")
_LIMITS = ("VX1", "VX2", "VY1", "VY2", "BIASSECTA1", "BIASSECTA2", "BIASSECTB1", "BIASSECTB2")


@dataclass(frozen=True)
class Overscan:
    """One OSCNTAB row: columns and rows to trim, and the sections, zero-based with inclusive ends."""

    found: bool = False
    """False where the table has no row for the readout mode; everything else is 0 then."""
    trim_x1: int = 0
    trim_x2: int = 0
    trim_y1: int = 0
    trim_y2: int = 0
    virtual_x: tuple[int, int] = (0, 0)
    virtual_y: tuple[int, int] = (0, 0)
    section_a: tuple[int, int] = (0, 0)
    section_b: tuple[int, int] = (0, 0)

    @property
    def virtual_rows(self) -> bool:
        """True where 20 virtual rows were read out below or above the chip."""
        return 20 in (self.trim_y1, self.trim_y2)


def select_oscntab_row(setup: Setup, chip: int, shape: tuple[int, int], reference: Reference) -> Overscan:
    """Find the first OSCNTAB row for an untrimmed array of `shape` (ny, nx).

    Raises
    ------
    InputError
        If the table lacks a column or trims more than there is.
    """
    table = reference.table()
    ny, nx = shape
    for name in (*_COLUMNS, *_LIMITS):
        table.numbers(name)
    row = table.first(
        table.same_text("CCDAMP", setup.amps),
        table.same_number("CCDCHIP", chip),
        table.same_number("BINX", 1),
        table.same_number("BINY", 1),
        table.same_number("NX", nx),
        table.same_number("NY", ny),
    )
    if row is None:
        return Overscan()
    x1, x2, y1, y2 = (int(table.number(name, row)) for name in _COLUMNS)
    if min(x1, x2, y1, y2) < 0 or x1 + x2 >= nx or y1 + y2 >= ny:
        where = f"{reference.path} (OSCNTAB) row {row + 1}"
        raise InputError.about(where, f"TRIM leaves nothing of {nx} x {ny} pixels", "correct the table")
    vx1, vx2, vy1, vy2, a1, a2, b1, b2 = (int(table.number(name, row)) - 1 for name in _LIMITS)
    return Overscan(True, x1, x2, y1, y2, (vx1, vx2), (vy1, vy2), (a1, a2), (b1, b2))
