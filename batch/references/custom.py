"""Reference files of the user's own.

``DARKFILE=path``, ``PFLTFILE[F606W]=path``, ``DARKFILE[j9l960a7q]=path``: by keyword, filter, exposure.

The more particular wins: an exposure before a filter before a keyword alone; among equals the last.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from batch.errors import InputError, UsageError
from batch.model.names import plain_name
from batch.references.needed import KEYWORDS

_FORM = re.compile(r"(?P<keyword>[A-Z0-9]+)(?:\[(?P<selector>[A-Za-z0-9]+)\])?=(?P<path>.+)", re.DOTALL)
_ROOTNAME = re.compile(r"[a-z][a-z0-9]{8}")
_FILETYPES: Mapping[str, tuple[str, ...]] = {
    "BPIXTAB": ("BAD PIXELS",),
    "BIASFILE": ("BIAS",),
    "SATUFILE": ("FULL-WELL SATURATION LEVEL MAP",),
    "OSCNTAB": ("OVERSCAN",),
    "SNKCFILE": ("SINK PIXELS",),
    "ATODTAB": ("ANALOG-TO-DIGITAL",),
    "PCTETAB": ("PIXCTE",),
    "DRKCFILE": ("CTEDARK",),
    "DARKFILE": ("DARK",),
    "FLSHFILE": ("POST FLASH",),
    "PFLTFILE": ("PIXEL-TO-PIXEL FLAT",),
    "DFLTFILE": ("DELTA FLAT",),
    "LFLTFILE": ("LARGE SCALE FLAT",),
    "SHADFILE": ("SHUTTER SHADING",),
    "IMPHTTAB": ("IMAGE PHOTOMETRY TABLE",),
    "CCDTAB": ("CCD PARAMETERS",),
    "CRREJTAB": ("COSMIC RAY REJECTION",),
    "IDCTAB": ("DISTORTION COEFFICIENTS",),
    "NPOLFILE": ("DXY GRID",),
    "D2IMFILE": ("WFC D2I FILE",),
}
"""What FILETYPE says in files of each kind (rules by which CRDS certifies deliveries)."""


@dataclass(frozen=True)
class Custom:
    """One reference file of the user's."""

    keyword: str
    selector: str
    """A rootname in lower case, a filter in upper case, or empty for every exposure."""
    path: Path

    @property
    def name(self) -> str:
        """What headers will say behind ``jref$``."""
        return self.path.name

    @property
    def rank(self) -> int:
        """How particular it is."""
        return 2 if _ROOTNAME.fullmatch(self.selector) else 1 if self.selector else 0

    def applies(self, root: str, filters: Iterable[str]) -> bool:
        """Whether it is meant for an exposure."""
        return not self.selector or self.selector == root or self.selector in set(filters)

    @cached_property
    def sha256(self) -> str:
        """Of its content.

        Raises
        ------
        UsageError
            If it cannot be read.
        """
        try:
            with self.path.open("rb") as stream:
                return hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise UsageError(f"{_option(self)}: {error.strerror}; name a file that is there") from None


def parse(text: str) -> Custom:
    """Read ``KEYWORD=path``, ``KEYWORD[filter]=path`` or ``KEYWORD[rootname]=path``.

    Raises
    ------
    UsageError
        For another form, an unknown keyword, or a file name that no header can hold.
    """
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise UsageError(
            f"--reference {text}: not of the form DARKFILE=path, PFLTFILE[F606W]=path or "
            "DARKFILE[j9l960a7q]=path"
        )
    keyword, selector = match["keyword"], match["selector"] or ""
    if keyword not in KEYWORDS:
        raise UsageError(
            f"--reference {text}: {keyword} is not a reference keyword; use one of {', '.join(KEYWORDS)}"
        )
    selector = selector.lower() if _ROOTNAME.fullmatch(selector.lower()) else selector.upper()
    custom = Custom(keyword, selector, Path(match["path"]).expanduser().absolute())
    plain_name(custom.name, f"--reference {text}")
    return custom


def check(customs: Sequence[Custom], exposures: Mapping[str, tuple[str, ...]]) -> None:
    """Look at the user's files before a run.

    Parameters
    ----------
    customs : sequence of Custom
    exposures : mapping
        Filters by rootname of all exposures of the run.

    Raises
    ------
    UsageError
        If one is not there, is not FITS, is of another kind by its own header, or is meant for no exposure.
    InputError
        If a card that says of which kind it is cannot be understood.
    """
    for custom in customs:
        if not any(custom.applies(root, filters) for root, filters in exposures.items()):
            raise UsageError(
                f"{_option(custom)}: no exposure of this run has that name or filter; "
                "correct what stands in the brackets"
            )
        _check_file(custom)


def _check_file(custom: Custom) -> None:
    from astropy.io import fits

    from batch.storage.planes import value_of

    if not custom.path.is_file():
        raise UsageError(f"{_option(custom)}: there is no such file; name one that is there")
    try:
        header = fits.getheader(custom.path, 0)
    except (OSError, ValueError, TypeError, fits.VerifyError):
        raise UsageError(f"{_option(custom)}: not a FITS file; name a reference file") from None
    kind = " ".join(str(value_of(header, "FILETYPE", _option(custom)) or "").upper().split())
    if kind and kind not in _FILETYPES[custom.keyword]:
        expected = " or ".join(_FILETYPES[custom.keyword])
        raise UsageError(f"{_option(custom)}: FILETYPE is {kind}, not {expected}; name a file of that kind")
    instrument = str(value_of(header, "INSTRUME", _option(custom)) or "").strip().upper()
    if instrument and instrument != "ACS":
        raise UsageError(f"{_option(custom)}: INSTRUME is {instrument}, not ACS; name a file for ACS")


def choose(customs: Sequence[Custom], root: str, filters: Iterable[str]) -> dict[str, Custom]:
    """The user's file for each keyword of one exposure, where there is one.

    Raises
    ------
    InputError
        If two of them have the same name, which headers could not tell apart.
    """
    filters = tuple(filters)
    chosen = {c.keyword: c for c in sorted(customs, key=lambda c: c.rank) if c.applies(root, filters)}
    names: dict[str, Custom] = {}
    for custom in chosen.values():
        other = names.setdefault(custom.name, custom)
        if other.path != custom.path:
            raise InputError.about(
                _option(custom), f"{other.path} for {root} has the same file name", "rename one of them"
            )
    return chosen


def _option(custom: Custom) -> str:
    where = f"[{custom.selector}]" if custom.selector else ""
    return f"--reference {custom.keyword}{where}={custom.path}"
