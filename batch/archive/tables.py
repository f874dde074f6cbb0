"""Association tables as discovery takes them, and the copies that the work directory gets."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits

from batch.errors import InputError, UnsafeNameError
from batch.model.names import rootname
from batch.storage.planes import walk

_FORM = re.compile(r"(\d{0,9})([LXBIJKAEDCMPQ])")
_WIDTHS = dict(zip("LBIJKAEDCMPQ", (1, 1, 2, 4, 8, 1, 4, 8, 8, 16, 8, 16), strict=True))


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
        columns = _columns(path)
        names, kinds = ([_text(v) for v in columns[c]] for c in ("MEMNAME", "MEMTYPE"))
        present = [v == b"T" for v in columns.get("MEMPRSNT", ())] or [True] * len(names)
    except UnsafeNameError:
        raise
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


def _columns(path: Path) -> dict[str, list[bytes]]:
    """The bytes of each value of the first table, by column.

    Read here because a general reader takes ten times as long, and there may be thousands of tables.

    Source: FITS standard 4.0, section 7.3.
    """
    for header, offset in walk(path):
        if header.get("XTENSION") != "BINTABLE":
            continue
        width, rows = int(header["NAXIS1"]), int(header["NAXIS2"])
        with path.open("rb") as stream:
            stream.seek(offset)
            content = stream.read(width * rows)
        found, start = {}, 0
        for n in range(1, int(header["TFIELDS"]) + 1):
            form = _FORM.match(str(header[f"TFORM{n}"]).strip())
            if form is None:
                raise ValueError(f"TFORM{n} cannot be read")
            repeat = int(form[1] or 1)
            end = start + (-(-repeat // 8) if form[2] == "X" else repeat * _WIDTHS[form[2]])
            name = str(header.get(f"TTYPE{n}", "")).strip().upper()
            found[name] = [content[row * width + start : row * width + end] for row in range(rows)]
            start = end
        return found
    raise ValueError("there is no table in it")


def _text(value: bytes) -> str:
    return value.partition(b"\0")[0].decode("ascii").strip()


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
