"""CCDTAB: gain, read noise and layout of the amplifiers; what follows from them alone.

Source: calibration-steps specification, sections 4.1, 4.6, 4.8 and 4.10.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from astropy.io.fits import Header

from batch.calibration.header import AMPS, Chip, Setup, add_history, set_float
from batch.calibration.references import Reference
from batch.calibration.table import Table
from batch.errors import InputError

_REQUIRED = ("CCDAMP", "CCDCHIP", "CCDGAIN", "BINAXIS1", "BINAXIS2", "AMPX", "AMPY", "ATODSAT")
_ALSO_REQUIRED = ("SATURATE", "OVRHFLS", "OVRHUFLS")
_PER_AMP = ("CCDOFST", "CCDBIAS", "ATODGN", "READNSE")


@dataclass(frozen=True, eq=False)
class CcdParameters:
    """The CCDTAB row of one chip. Amps that do not read the chip out have gain, noise and bias 0."""

    gain: npt.NDArray[np.float32]
    """ATODGNA to D, e-/DN, shape (4,)."""
    noise: npt.NDArray[np.float32]
    """READNSEA to D, e-, shape (4,)."""
    bias: npt.NDArray[np.float32]
    """CCDBIASA to D, DN, shape (4,)."""
    amp_x: int
    """First column (of the imaging area) that the right-hand amp reads; at most the row length."""
    amp_y: int
    saturation: int
    """ATODSAT, DN."""
    overhead_flashed: float
    """OVRHFLS, s."""
    overhead_unflashed: float
    """OVRHUFLS, s."""
    notes: tuple[str, ...]
    """What the row says of itself (DESCRIP, and PEDIGREE where it is not the table's)."""


def select_ccdtab_row(setup: Setup, chip: int, nx: int, reference: Reference) -> CcdParameters:
    """Find the first CCDTAB row for a chip.

    Parameters
    ----------
    setup : Setup
        Gives CCDAMP, CCDGAIN and CCDOFSTA to D.
    chip : int
        CCDCHIP.
    nx : int
        Columns of the image; AMPX is reduced to it.
    reference : Reference
        The opened CCDTAB.

    Raises
    ------
    InputError
        If the table is a dummy, lacks a column, or has no row for the exposure.
    """
    where = f"{reference.path} (CCDTAB)"
    if reference.is_dummy:
        raise InputError.about(where, "PEDIGREE is DUMMY, but its values are needed", "provide a real CCDTAB")
    table = reference.table()
    for name in (*_REQUIRED, *_ALSO_REQUIRED, *(stem + amp for stem in _PER_AMP for amp in AMPS)):
        if not table.has(name):
            raise InputError.about(where, f"column {name} is missing", "provide a complete CCDTAB")
    row = table.first(
        table.same_text("CCDAMP", setup.amps),
        table.same_number("CCDGAIN", setup.gain),
        table.same_number("CCDCHIP", chip),
        *(table.same_number(f"CCDOFST{a}", v) for a, v in zip(AMPS, setup.offsets, strict=True)),
    )
    if row is None:
        what = (
            f"no row for CCDAMP {setup.amps}, CCDGAIN {setup.gain:g}, CCDCHIP {chip}, offsets {setup.offsets}"
        )
        raise InputError.about(
            where, what, f"correct these keywords of {setup.where} or provide another CCDTAB"
        )
    return CcdParameters(
        gain=_per_amp(table, "ATODGN", row, setup.amps),
        noise=_per_amp(table, "READNSE", row, setup.amps),
        bias=_per_amp(table, "CCDBIAS", row, setup.amps),
        amp_x=min(int(table.number("AMPX", row)), nx),
        amp_y=int(table.number("AMPY", row)),
        saturation=int(table.number("ATODSAT", row)),
        overhead_flashed=table.number("OVRHFLS", row),
        overhead_unflashed=table.number("OVRHUFLS", row),
        notes=_notes(table, row, reference),
    )


def record_ccdtab(primary: Header, reference: Reference, parameters: CcdParameters) -> None:
    """Write the CCDTAB block of HISTORY and the keywords ATODGNA to D, READNSEA to D.

    Every stage (CCD, CTE, 2-D) does this once, with the parameters of imset 1.
    """
    notes = [f"    {note}" for note in parameters.notes]
    add_history(primary, "CCD parameters table:", *reference.history("table"), *notes)
    for index, amp in enumerate(AMPS):
        set_float(primary, f"ATODGN{amp}", parameters.gain[index])
    for index, amp in enumerate(AMPS):
        set_float(primary, f"READNSE{amp}", parameters.noise[index])


@dataclass(frozen=True)
class Quadrants:
    """Which amp reads which part of an untrimmed array.

    Left is columns < `x`, right the rest; bottom is rows < `y`, top the rest. `slots` holds the amp index
    (0 to 3, None for no amp) of top left, top right, bottom left, bottom right.
    """

    x: int
    y: int
    slots: tuple[int | None, int | None, int | None, int | None]

    def values(
        self, per_amp: npt.NDArray[np.float32], ny: int, what: str
    ) -> tuple[np.float32, np.float32, np.float32, np.float32]:
        """The value of every slot, in the order of `slots`.

        Raises
        ------
        InputError
            If a part that owns rows has no positive value (`what` names the quantity and the file).
        """
        top_left, top_right, bottom_left, bottom_right = (
            np.float32(0) if slot is None else per_amp[slot] for slot in self.slots
        )
        halves = [(top_left, top_right)] if self.y < ny else []
        halves += [(bottom_left, bottom_right)] if self.y > 0 else []
        for left, right in halves:
            if not (left if self.x > 0 else right) > 0:
                raise InputError.about(
                    what, "is 0 for an amplifier that reads the chip", "correct the CCDTAB"
                )
        return top_left, top_right, bottom_left, bottom_right


def quadrants(setup: Setup, chip: Chip, parameters: CcdParameters, shape: tuple[int, int]) -> Quadrants:
    """Lay the amps over an untrimmed array of `shape` (ny, nx)."""
    ny, nx = shape
    x = _split(parameters.amp_x, chip.ltv[0], nx)
    y = _split(parameters.amp_y, chip.ltv[1], ny)
    gain = parameters.gain
    a, b, c, d = range(4)
    if setup.detector == "WFC":
        return Quadrants(x, y, (c, d, c, d) if chip.number == 2 else (a, b, a, b))
    if parameters.amp_x == 0 and parameters.amp_y == 0:
        only = next((k for k in range(4) if gain[k] > 0), None)
        return Quadrants(x, y, (None, only, None, None))
    if gain[a] == 0 and gain[d] == 0:
        return Quadrants(x, y, (c, b, c, b))
    if gain[b] == 0 and gain[c] == 0:
        return Quadrants(x, y, (a, d, a, d))
    return Quadrants(x, y, (a, b, c, d))


def _split(amp: int, ltv: float, length: int) -> int:
    """First row or column of the second amp, in untrimmed pixels; the length if there is none."""
    if amp == 0:
        return 0
    first = amp + (int(ltv) if ltv > 0 else 0)
    return length if first >= length - ltv or first > length else max(first, 0)


def _per_amp(table: Table, stem: str, row: int, amps: str) -> npt.NDArray[np.float32]:
    values = [table.number(stem + amp, row) if amp in amps else 0.0 for amp in AMPS]
    return np.array(values, dtype=np.float32)


def _notes(table: Table, row: int, reference: Reference) -> tuple[str, ...]:
    pedigree = table.text("PEDIGREE", row) if table.has("PEDIGREE") else ""
    descrip = table.text("DESCRIP", row) if table.has("DESCRIP") else ""
    return tuple(note for note in (pedigree if pedigree != reference.pedigree else "", descrip) if note)
