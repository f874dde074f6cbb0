"""Reference files: where they are and what they say of themselves.

Source: calibration-steps specification, sections 2.4, 3 and 9.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from astropy.io.fits import Header

from batch.calibration.table import Table, read_tables
from batch.errors import InputError, MissingReferenceError, UnsafeNameError
from batch.storage.planes import Plane, scan, value_of

_PREFIX = "jref$"


@dataclass(frozen=True)
class Reference:
    """A reference file as an exposure's header names it."""

    keyword: str
    name: str
    """The header's value: ``jref$wfc_bia.fits``."""
    path: Path
    primary: Header
    planes: Sequence[Plane]

    @property
    def pedigree(self) -> str:
        """PEDIGREE of the primary header, empty where there is none."""
        return str(value_of(self.primary, "PEDIGREE", self.path) or "").rstrip()

    @property
    def is_dummy(self) -> bool:
        """True for a file that stands for 'do not do this step'."""
        return self.pedigree.startswith("DUMMY")

    def history(self, kind: str) -> list[str]:
        """The HISTORY lines that name the file; `kind` is ``image`` or ``table``."""
        descrip = str(value_of(self.primary, "DESCRIP", self.path) or "").rstrip()
        return [
            f"  reference {kind} {self.name}",
            *(f"    {text}" for text in (self.pedigree, descrip) if text),
        ]

    @cached_property
    def _tables(self) -> list[Table]:
        return list(read_tables(self.path))

    def table(self, extension: str | None = None) -> Table:
        """The first table, or the one with this EXTNAME."""
        for table in self._tables:
            if extension is None or table.name == extension:
                return table
        what = f"there is no table {extension}" if extension else "there is no table in it"
        raise InputError.about(f"{self.path} ({self.keyword})", what, "provide the right reference file")


class References:
    """Finds the reference files that a primary header names.

    Parameters
    ----------
    primary : Header
        Of the exposure.
    jref : Path
        The folder that ``jref$`` stands for.
    where : Path
        The exposure, for messages.
    """

    def __init__(self, primary: Header, jref: Path, where: Path) -> None:
        self._primary, self._jref, self._where = primary, jref, where

    def name(self, keyword: str) -> str:
        """The header's value, without trailing blanks; empty where there is none."""
        return str(value_of(self._primary, keyword, self._where) or "").rstrip()

    def given(self, keyword: str) -> bool:
        """True if the header names a file (not N/A)."""
        return self.name(keyword) not in ("", "N/A")

    def path(self, keyword: str) -> Path:
        """Where the file named by a keyword has to be.

        Raises
        ------
        UnsafeNameError
            If a ``jref$`` name would leave the folder.
        """
        name = self.name(keyword)
        if not name.startswith(_PREFIX):
            return Path(name)
        inside = PurePosixPath(name.removeprefix(_PREFIX))
        if inside.is_absolute() or ".." in inside.parts:
            raise UnsafeNameError(
                f"{self._where} {keyword}: {name!r} leaves the folder jref; correct the keyword"
            )
        return self._jref / inside

    def missing(self, keyword: str, *, may_be_absent: bool = False) -> str | None:
        """Why the file of a keyword cannot be used, None if it is there.

        Parameters
        ----------
        keyword : str
        may_be_absent : bool
            True where the value N/A is allowed; a blank or absent value is not.
        """
        name = self.name(keyword)
        if name == "N/A" and may_be_absent:
            return None
        if name in ("", "N/A"):
            return f"{keyword} is {name or 'blank'}"
        return None if self.path(keyword).is_file() else f"{keyword} {name} is not there"

    def open(self, keyword: str) -> Reference:
        """Look into a reference file.

        Raises
        ------
        MissingReferenceError
            If it is not there.
        InputError
            If it cannot be read.
        """
        reason = self.missing(keyword)
        if reason is not None:
            raise MissingReferenceError(f"{self._where}: {reason}; provide the file or set its step to OMIT")
        path = self.path(keyword)
        primary, planes = scan(path)
        return Reference(keyword, self.name(keyword), path, primary, planes)
