"""Association tables as discovery takes them, and the copies that the work directory gets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits

from batch.errors import InputError
from batch.model.names import rootname
from batch.storage.tables import Columns, read_columns


@dataclass(frozen=True)
class Row:
    """One exposure in a table."""

    rootname: str
    kind: str
    """MEMTYPE: ``EXP-DTH``, ``EXP-CR1``, ``EXP-RPT``, ..."""
    present: bool = True
    """MEMPRSNT."""


def read_table(path: Path) -> tuple[Row, ...]:
    """The exposures in an association table, products left out.

    Raises
    ------
    InputError
        If the file is no association table, or there is no exposure in it.
    UnsafeNameError
        If a member's name is no rootname.
    """
    try:
        table = next(read_columns(path), None)
        if table is None:
            raise ValueError("there is no table in it")
        names, kinds = (_texts(table, c) for c in ("MEMNAME", "MEMTYPE"))
        present = [v in (True, "T") for v in table.arrays.get("MEMPRSNT", np.ones(table.rows, bool)).tolist()]
    except (InputError, OSError, LookupError, TypeError, ValueError) as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise _broken(path, text) from None
    rows = tuple(
        Row(rootname(name, f"{path}[1] MEMNAME"), _kind(kind), here)
        for name, kind, here in zip(names, kinds, present, strict=True)
        if _kind(kind).startswith("EXP")
    )
    if not rows:
        raise _broken(path, "there is no exposure in it")
    return rows


def _texts(table: Columns, name: str) -> list[str]:
    texts = table.arrays[name]
    if texts.dtype.kind != "U" or not all(text.isascii() for text in texts.tolist()):
        raise ValueError(f"column {name} holds no text")
    return [text.strip() for text in texts.tolist()]


def working_copy(source: Path, target: Path) -> None:
    """Copy a table without its PROD-DTH row: what is drizzled here is none of the archive's products.

    The table itself is never changed. Columns, header and all other rows stay as they are.
    """
    with source.open("rb") as stream, fits.open(stream, memmap=False) as hdus:
        table = hdus[1]
        keep = np.array([_kind(k) != "PROD-DTH" for k in table.data["MEMTYPE"]], dtype=bool)
        copy = fits.BinTableHDU(table.data[keep], header=table.header, name=table.name)
        fits.HDUList([hdus[0].copy(), copy]).writeto(target, output_verify="silentfix")


def write_table(rows: Iterable[Row], target: Path) -> None:
    """Write a table that was made anew from the headers of its exposures."""
    rows = list(rows)
    columns = [
        fits.Column("MEMNAME", "14A", array=[r.rootname.upper() for r in rows]),
        fits.Column("MEMTYPE", "14A", array=[r.kind for r in rows]),
        fits.Column("MEMPRSNT", "L", array=[r.present for r in rows]),
    ]
    primary = fits.PrimaryHDU()
    primary.header["INSTRUME"] = "ACS"
    primary.header["HISTORY"] = "Made from ASN_ID and ASN_MTYP of the exposures; the archive's was unusable."
    fits.HDUList([primary, fits.BinTableHDU.from_columns(columns, name="ASN")]).writeto(target)


def _kind(text: object) -> str:
    return str(text).strip().upper().replace("_", "-")


def _broken(path: Path, what: str) -> InputError:
    return InputError.about(
        f"{path}[1]",
        f"no association table ({what})",
        "fetch it again, or let it be made anew from headers with --set associate.rebuild=true",
    )
