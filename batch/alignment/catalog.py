"""Star positions from a catalogue of the user's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batch.alignment.overlap import inside
from batch.errors import InputError

FAINTER_IS = {"MAG": 1.0, "FLUX": -1.0}
"""Columns that tell the bright stars, where a catalogue has one: the sign that sorts bright ones first."""
_REMEDY = "give a table that astropy reads (ECSV, FITS, VOTable) with columns RA and DEC in degrees"


def read_catalog(
    path: Path, exposures: Sequence[Sequence[Any]], margin: float, at_most: int
) -> list[tuple[float, float]]:
    """Read the positions that lie on the exposures.

    Parameters
    ----------
    path : Path
        A table with columns RA and DEC (deg), and MAG or FLUX where it has one; the case is of no concern.
    exposures : sequence of sequences of WCS
        The chips of each exposure.
    margin : float
        Pixels outside the chips that still count.
    at_most : int
        Of more positions the brightest are taken; where no brightness is given, every n-th.

    Returns
    -------
    list of (RA, Dec)
        deg

    Raises
    ------
    InputError
        If the table cannot be read, lacks a column, or has no star on the exposures.
    """
    from astropy.table import Table

    try:
        table = Table.read(path)
    except Exception as error:
        raise InputError.about(path, f"not readable as a table ({error})", _REMEDY) from error
    names = {name.upper(): name for name in table.colnames}
    if not {"RA", "DEC"} <= set(names):
        raise InputError.about(
            path, f"has the columns {', '.join(table.colnames)}, but no RA or DEC", _REMEDY
        )
    sky = np.column_stack([_degrees(table[names[n]], f"{path} column {names[n]}") for n in ("RA", "DEC")])
    here = np.isfinite(sky).all(axis=1) & (np.abs(sky[:, 1]) <= 90)
    on_chips = np.zeros(len(sky), bool)
    for chip in (chip for chips in exposures for chip in chips):
        on_chips[here] |= inside(chip, sky[here], margin)
    chosen = np.flatnonzero(on_chips)
    if not chosen.size:
        raise InputError.about(
            path,
            f"none of its {len(sky)} stars lies on the exposures",
            "give a catalogue of this field, or unset align.catalog to align the exposures to one of them",
        )
    brightness = next((n for n in FAINTER_IS if n in names), None)
    if brightness is not None:
        values = np.asarray(table[names[brightness]], dtype=np.float64)[chosen]
        chosen = chosen[np.argsort(FAINTER_IS[brightness] * values, kind="stable")][:at_most]
    elif chosen.size > at_most:
        chosen = chosen[:: -(-chosen.size // at_most)]
    return [(float(ra), float(dec)) for ra, dec in sky[chosen]]


def _degrees(column: Any, where: str) -> NDArray[np.float64]:
    try:
        if getattr(column, "unit", None) is not None:
            column = column.to("deg") if hasattr(column, "to") else column.quantity.to("deg")
        return np.ma.filled(np.ma.asarray(getattr(column, "value", column), dtype=np.float64), np.nan)
    except (TypeError, ValueError) as error:
        raise InputError.about(where, f"is no angle ({error})", _REMEDY) from error
