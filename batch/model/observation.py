"""What was observed, and what is made of it: exposures, associations, products."""

from __future__ import annotations

from dataclasses import dataclass


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


@dataclass(frozen=True)
class SetAside:
    """An exposure that is calibrated but not combined."""

    exposure: Exposure
    reason: str


@dataclass(frozen=True)
class Association:
    """Exposures that become one mosaic."""

    name: str
    exposures: tuple[Exposure, ...]
    """Those that are combined, in order of start time."""
    set_aside: tuple[SetAside, ...] = ()

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
