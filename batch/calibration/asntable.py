"""Association tables: which exposures belong together, and what is made of them.

Source: calibration-steps specification, sections 2.1 and 2.2.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from astropy.io import fits

from batch.calibration.table import read_tables
from batch.errors import InputError, StorageError
from batch.model.names import plain_name
from batch.storage.planes import scan, value_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Member:
    """One row of an association table."""

    root: str
    """Lower case."""
    type: str
    """MEMTYPE as the table has it."""
    kind: str
    """MEMTYPE in lower case, with dashes."""
    present: bool

    @property
    def is_exposure(self) -> bool:
        """True for EXP- rows."""
        return self.kind.startswith("exp-")


@dataclass(frozen=True)
class Position:
    """Exposures of one pointing, and the product they are combined to, if they are."""

    exposures: tuple[Member, ...]
    product: Member | None


@dataclass(frozen=True)
class AssociationTable:
    """A whole table."""

    path: Path
    members: tuple[Member, ...]
    combines: bool
    """True for CR and repeat-obs associations, which acsrej combines."""
    positions: tuple[Position, ...]


def read_association(path: Path) -> AssociationTable:
    """Read an association table.

    Raises
    ------
    InputError
        If it is damaged, lacks a column, INSTRUME or DETECTOR, or has a MEMTYPE that cannot be understood.
    UnsafeNameError
        If a MEMNAME cannot be part of a file name.
    """
    primary, _ = scan(path)
    for keyword in ("INSTRUME", "DETECTOR"):
        if value_of(primary, keyword, path) is None:
            raise InputError.about(f"{path} {keyword}", "the keyword is missing", "fetch the file again")
    table = next(read_tables(path), None)
    if table is None:
        raise InputError.about(path, "there is no table in it", "fetch the file again")
    names, types = table.texts("MEMNAME"), table.texts("MEMTYPE")
    members = tuple(
        Member(
            root=plain_name(name.lower(), f"{path} MEMNAME row {row + 1}"),
            type=kind.strip(),
            kind=_kind(kind, f"{path} MEMTYPE row {row + 1}"),
            present=table.flag("MEMPRSNT", row),
        )
        for row, (name, kind) in enumerate(zip(names, types, strict=True))
    )
    combines = any("-cr" in member.kind or "-rp" in member.kind for member in members)
    return AssociationTable(path, members, combines, _positions(path, members))


def mark_present(table: AssociationTable, target: Path, products: Sequence[str]) -> None:
    """Write the table to `target` (which may be its own file) with its products marked as made.

    MEMPRSNT becomes true for every root in `products`, ASN_PROD in the primary header T.
    """
    done = set(products)
    with fits.open(table.path, memmap=False) as hdus:
        hdus[0].header["ASN_PROD"] = True
        data = next(hdu for hdu in hdus if isinstance(hdu, fits.BinTableHDU)).data
        for row, member in enumerate(table.members):
            if member.root in done and not member.is_exposure:
                data["MEMPRSNT"][row] = True
        aside = target.with_name(target.name + ".part")
        try:
            hdus.writeto(aside, overwrite=True)
            with aside.open("rb") as stream:
                os.fsync(stream.fileno())
            os.replace(aside, target)
        except OSError as error:
            reason = error.strerror or error
            raise StorageError(f"{target}: cannot be written ({reason}); free some space") from error


def _kind(text: str, where: str) -> str:
    kind = text.strip().lower()
    if "_" in kind:
        log.warning("%s: %r should be written with a dash", where, text)
    kind = kind.replace("_", "-")
    if not re.fullmatch(r"(exp|prod)-(dth|crj|rpt|(cr|rp)[0-9]+)", kind):
        remedy = "use EXP-CRJ, EXP-RPT, EXP-DTH or PROD-..."
        raise InputError.about(where, f"{text!r} is no member type", remedy)
    return kind


def _positions(path: Path, members: Sequence[Member]) -> tuple[Position, ...]:
    """Group the rows by pointing; every dithered exposure is its own."""
    exposures: dict[int, list[Member]] = {}
    products: dict[int, Member] = {}
    dithered: list[Member] = []
    for member in members:
        if member.is_exposure and not member.present:
            log.warning("%s: member %s is not present and left out", path, member.root)
        elif member.kind == "exp-dth":
            dithered.append(member)
        elif member.kind != "prod-dth":
            if member.is_exposure:
                exposures.setdefault(_number(member), []).append(member)
            else:
                products.setdefault(_number(member), member)
    combined = [Position(tuple(exposures[n]), products.get(n)) for n in sorted(exposures)]
    positions = (*combined, *(Position((member,), None) for member in dithered))
    if not positions:
        raise InputError.about(path, "no exposure in it is present", "fetch the exposures")
    return positions


def _number(member: Member) -> int:
    """Position number: crj and rpt are 1, else the digits."""
    digits = member.kind[len(member.kind.rstrip("0123456789")) :]
    return int(digits) if digits else 1
