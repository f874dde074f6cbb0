"""What was observed, and what is made of it: exposures, associations, products."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Exposure:
    """One raw exposure, as its primary header describes it."""

    rootname: str
    """Nine lower-case letters and digits: ``j9l960a7q``."""
    detector: str
    """``WFC`` or ``HRC``; empty where the header could not be read (the fetch task then says why)."""
    aperture: str
    amps: str
    filters: tuple[str, ...]
    """The filters in the beam, without the clear positions; empty when the header could not be read."""
    exptime: float
    """Exposure time, s."""
    start: float
    """EXPSTART, MJD."""
    shape: tuple[int, ...]
    """Rows and columns of one raw chip."""
    chips: int
    stamp: str
    """Changes when the source file changes: its size and modification time."""
    cte: bool = False
    """Whether its header asks for the CTE correction, which decides what calibration takes."""
    size: int = 0
    """Bytes of the raw file."""
    origin: str = ""
    """Where the raw file lies, as its source has it: a path, ``s3://bucket/key``, ``mast:HST/...``."""
    trouble: str = ""
    """Why its header could not be read."""
    wcs: tuple[float, ...] = ()
    """Where it points: CRVAL (deg), CRPIX and the CD matrix by rows of its first chip; empty if not known."""

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that products depend on, as JSON values: not where the file came from."""
        return {k: v for k, v in vars(self).items() if k not in ("origin", "trouble")}


@dataclass(frozen=True)
class SetAside:
    """An exposure that is calibrated but not combined."""

    exposure: Exposure
    reason: str


@dataclass(frozen=True)
class Absent:
    """A member of an association table that is not taken at all."""

    rootname: str
    reason: str


@dataclass(frozen=True)
class Association:
    """Exposures that become one mosaic."""

    name: str
    exposures: tuple[Exposure, ...]
    """Those that are combined, in order of start time."""
    set_aside: tuple[SetAside, ...] = ()
    absent: tuple[Absent, ...] = ()
    table: str = ""
    """Where its association table lies, as its source names it; empty where there is none."""
    member_types: Mapping[str, str] = field(default_factory=dict)
    """MEMTYPE of the members by rootname, where a table (or, rebuilt, their headers) tells."""

    @property
    def members(self) -> tuple[Exposure, ...]:
        """Every exposure, combined or set aside."""
        return self.exposures + tuple(s.exposure for s in self.set_aside)

    def member(self, rootname: str) -> Exposure:
        """The exposure called `rootname`."""
        return next(e for e in self.members if e.rootname == rootname)


@dataclass(frozen=True)
class Product:
    """A published file, described so that it need not be opened to plan with it."""

    kind: str
    """``raw``, ``flt``, ``flc``, ``mosaic``, ``weight``, ``context``, ``references``, ..."""
    name: str
    """File name inside the folder of its task."""
    size: int
    """Bytes."""
    sha256: str
    hdu: int | None = None
    """The HDU that holds the main image, None if the file is no image."""
    shape: tuple[int, ...] | None = None
    """(rows, columns) of that image."""
    dtype: str | None = None
    unit: str | None = None
