"""How ACS/WFC chips are read out: which pixels of a raw array are sky, prescan or virtual overscan."""

from __future__ import annotations

from dataclasses import dataclass

from batch.simulation.settings import VisitSettings

PRESCAN = 24
VIRTUAL = 20
NX, NY = 4096, 2048
"""Light-sensitive columns and rows of a chip."""


@dataclass(frozen=True)
class Amp:
    """An amplifier and the pixels of the raw array that pass through it."""

    name: str
    columns: slice
    """Raw columns, prescan included."""
    at_right: bool
    at_top: bool


@dataclass(frozen=True)
class Chip:
    """One chip, or the part of it that a subarray reads.

    Rows and columns are zero-based; FITS rows grow upwards. Amplifiers A, B lie on top of chip 1,
    C, D below chip 2; physical prescan lies on their side of a row, virtual rows on the far side.
    """

    number: int
    """CCDCHIP"""
    extver: int
    nx: int
    ny: int
    """Size of the raw array."""
    trim: tuple[int, int, int, int]
    """Overscan columns at the left and right, overscan rows at the bottom and top."""
    x0: int
    y0: int
    """Column and row of the full chip where the light-sensitive part begins."""
    amps: tuple[Amp, ...]

    @property
    def width(self) -> int:
        """Light-sensitive columns."""
        return self.nx - self.trim[0] - self.trim[1]

    @property
    def height(self) -> int:
        """Light-sensitive rows."""
        return self.ny - self.trim[2] - self.trim[3]

    @property
    def light(self) -> tuple[slice, slice]:
        """Rows and columns of the raw array that see light."""
        left, _, bottom, _ = self.trim
        return slice(bottom, bottom + self.height), slice(left, left + self.width)

    def ltv(self, *, trimmed: bool) -> tuple[float, float]:
        """LTV1 and LTV2 of the raw array, or of the array without overscan."""
        left, bottom = (0, 0) if trimmed else (self.trim[0], self.trim[2])
        return float(left - self.x0), float(bottom - self.y0)


@dataclass(frozen=True)
class Frame:
    """All that one exposure reads."""

    aperture: str
    ccdamp: str
    chips: tuple[Chip, ...]
    """In the order of EXTVER."""
    subarray: bool


def frame(settings: VisitSettings) -> Frame:
    """Give the readout of a visit."""
    if settings.size == "full":
        return _full_frame()
    rows = {"2k": NY + VIRTUAL, "1k": 1024, "512": 512}[settings.size]
    return _subarray(settings.amp, settings.size, rows)


def _full_frame() -> Frame:
    nx, ny = NX + 2 * PRESCAN, NY + VIRTUAL
    half = nx // 2

    def chip(number: int, extver: int, names: str, *, at_top: bool) -> Chip:
        rows = (VIRTUAL, 0) if at_top else (0, VIRTUAL)
        left = Amp(names[0], slice(0, half), at_right=False, at_top=at_top)
        right = Amp(names[1], slice(half, nx), at_right=True, at_top=at_top)
        return Chip(number, extver, nx, ny, (PRESCAN, PRESCAN, *rows), 0, 0, (left, right))

    return Frame("WFC", "ABCD", (chip(2, 1, "CD", at_top=False), chip(1, 2, "AB", at_top=True)), False)


def _subarray(name: str, size: str, ny: int) -> Frame:
    nx = NX // 2 + PRESCAN
    right, top = name in "BD", name in "AB"
    columns = (0, PRESCAN) if right else (PRESCAN, 0)
    virtual = VIRTUAL if ny > NY else 0
    rows = (virtual, 0) if top else (0, virtual)
    chip = Chip(
        number=1 if top else 2,
        extver=1,
        nx=nx,
        ny=ny,
        trim=(*columns, *rows),
        x0=NX // 2 if right else 0,
        y0=NY - (ny - virtual) if top else 0,
        amps=(Amp(name, slice(0, nx), right, top),),
    )
    return Frame(f"WFC{chip.number}{name}-{size.upper()}", name, (chip,), True)
