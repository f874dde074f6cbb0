"""Calibrated exposures, made ready to be drizzled: sky, masks, units, weights and mappings, chip by chip."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from astropy.io import fits
from astropy.io.fits import Header
from astropy.wcs import WCS, FITSFixedWarning
from numpy.typing import NDArray

from batch.drizzling.bands import Chip
from batch.drizzling.geometry import STEP, Mapping, between
from batch.drizzling.grid import Grid
from batch.errors import InputError
from batch.storage.planes import Plane, as_number, extname, extver, find, scan

Weight = Literal["EXP", "ERR", "IVM"]
Singles = NDArray[np.float32]
_NEAR = 100
"""Output pixels."""


@dataclass(frozen=True)
class Input:
    """One exposure with its final masks in the DQ arrays (bits 4096 and 16384 of `combine`)."""

    path: Path
    """flt or flc."""
    sky: tuple[float, ...]
    """Subtracted from each chip, electrons."""
    flat: Path | None = None
    """PFLTFILE, for IVM weights; None takes it as 1."""


@dataclass(frozen=True)
class Source:
    """What the header of a mosaic says about one chip."""

    data: str
    """``j9l960a7q_flt.fits[sci,1]``"""
    exptime: float
    """s"""
    scale: float
    """Side of an input pixel, arcsec."""
    weight_scale: float
    """What the weights of the pixels were multiplied by."""


def read(
    inputs: Sequence[Input],
    grid: Grid,
    *,
    weight: Weight = "EXP",
    bits: int = 0,
    step: int | None = STEP,
    threads: int = 1,
) -> tuple[list[Chip], list[Source]]:
    """Read exposures for one grid.

    Values are (SCI - sky) / exptime (output scale / input scale)^2, electrons/s per output pixel. Weights, as
    AstroDrizzle has them (found by comparing its weight images with its inputs):

    ===== ==========================================================================
    EXP   exptime
    ERR   (exptime / ERR)^2 r^4
    IVM   (exptime flat)^2 r^4 / (sky flat + MEANDARK + (mean READNSE)^2)
    ===== ==========================================================================

    with r = input scale / output scale, and 0 where DQ has a bit that is not in `bits`.

    Parameters
    ----------
    inputs : sequence of Input
    grid : Grid
    weight : str
    bits : int
        Sum of the DQ bits that count as good.
    step : int or None
        Input pixels between nodes of the mapping; None maps every corner by itself.
    threads : int
        Chips that are read at a time.

    Returns
    -------
    chips, sources
        By exposure, then EXTVER.

    Raises
    ------
    InputError
        For a file that is no sound exposure, skies that are not one a chip, or a unit that is not electrons.
    """
    jobs = [job for given in inputs for job in _jobs(given, grid, weight, bits, step)]
    with ThreadPoolExecutor(max_workers=threads) as pool:
        chips = list(pool.map(lambda job: job[0](), jobs))
    return chips, [source for _, source in jobs]


def check_on_grid(path: Path, grid: Grid) -> None:
    """Refuse an exposure that lies beside the grid; pixels are not read.

    Raises
    ------
    InputError
        With its name.
    """
    _, planes = scan(path)
    for plane in planes:
        if extname(plane.header) == "SCI":
            # a coarse look: what falls on the edge by a few pixels is seen when they are mapped
            mapping = _mapping(path, extver(plane.header), plane.shape, grid, max(plane.shape) // 8 + 1)()
            x0, y0, x1, y1 = mapping.bounds
            rows, columns = grid.shape
            if x0 < columns + _NEAR and x1 > -_NEAR and y0 < rows + _NEAR and y1 > -_NEAR:
                return
    raise InputError.about(path, "does not fall on the output grid", "look at its WCS, or leave it out")


def _jobs(
    given: Input, grid: Grid, weight: Weight, bits: int, step: int | None
) -> list[tuple[Callable[[], Chip], Source]]:
    primary, planes = scan(given.path)
    exptime = as_number(primary, "EXPTIME", given.path)
    if not exptime > 0:
        raise InputError.about(f"{given.path} EXPTIME", f"{exptime} s", "leave this exposure out")
    versions = sorted(extver(p.header) for p in planes if extname(p.header) == "SCI")
    if len(versions) != len(given.sky):
        what = f"{len(given.sky)} sky values for {len(versions)} chips"
        raise InputError.about(given.path, what, "give one for each SCI extension")
    jobs: list[tuple[Callable[[], Chip], Source]] = []
    for version, sky in zip(versions, given.sky, strict=True):
        science = find(planes, "SCI", version, given.path)
        unit = str(science.header.get("BUNIT", "ELECTRONS")).strip().upper()
        if unit != "ELECTRONS":
            raise InputError.about(
                f"{science.where} BUNIT", f"{unit} instead of ELECTRONS", "calibrate the exposure again"
            )
        scale = _scale(science)
        ratio = (scale / grid.scale) ** 2
        factor = {"EXP": 1.0, "ERR": ratio**2, "IVM": (exptime * ratio) ** 2}[weight]
        source = Source(f"{given.path.name}[sci,{version}]", exptime, scale, factor)
        weigher = _Weigher(weight, given, planes, version, primary, source, sky)
        mapping = _mapping(given.path, version, science.shape, grid, step)
        jobs.append((_Job(source, science, sky, 1 / ratio, weigher, bits, mapping), source))
    return jobs


def _scale(science: Plane) -> float:
    """The pixel scale that the distortion model names, or else that of the linear WCS."""
    header = science.header
    if "IDCSCALE" in header:
        return as_number(header, "IDCSCALE", science.where)
    a, b, c, d = (as_number(header, f"CD{i}_{j}", science.where) for i in (1, 2) for j in (1, 2))
    return 3600 * math.sqrt(abs(a * d - b * c))


def _mapping(
    path: Path, version: int, shape: tuple[int, int], grid: Grid, step: int | None
) -> Callable[[], Mapping]:
    with warnings.catch_warnings(), fits.open(path, memmap=True) as hdus:
        warnings.simplefilter("ignore", FITSFixedWarning)
        function = between(WCS(hdus["SCI", version].header, hdus), grid.wcs.deepcopy())
    return lambda: Mapping.sample(function, shape, step or STEP, exact=step is None)


@dataclass(frozen=True)
class _Job:
    """A chip to be read."""

    source: Source
    science: Plane
    sky: float
    area: float
    weigher: _Weigher
    bits: int
    mapping: Callable[[], Mapping]

    def __call__(self) -> Chip:
        values: Singles = self.science.read(np.float32)
        # single precision and this order, as AstroDrizzle has it: totals agree to 1e-9 then
        values -= np.float32(self.sky)
        values *= np.float32(1 / self.source.exptime)
        values *= np.float32(self.area)
        return Chip(self.source.data, values, self.weigher(self.bits), self.mapping())


@dataclass(frozen=True)
class _Weigher:
    """Makes the weights of one chip."""

    kind: Weight
    given: Input
    planes: list[Plane]
    version: int
    primary: Header
    source: Source
    sky: float

    def __call__(self, bits: int) -> Singles:
        flags = find(self.planes, "DQ", self.version, self.given.path).read(np.int16)
        good = flags & np.int16(~bits) == 0
        if self.kind == "EXP":
            return np.where(good, np.float32(self.source.exptime), np.float32(0))
        if self.kind == "ERR":
            error = find(self.planes, "ERR", self.version, self.given.path).read(np.float32)
            good &= error > 0
            error[~good] = 1
            ratio = (np.float32(self.source.exptime) / error).astype(np.float32, copy=False)
            return self._scaled(ratio * ratio, good)
        flat = self._flat(good.shape)
        header = find(self.planes, "SCI", self.version, self.given.path).header
        noise = [as_number(self.primary, f"READNSE{amp}", self.given.path, 0.0) for amp in "ABCD"]
        # amplifiers that read nothing have none
        noise = [n for n in noise if n > 0] or [0.0]
        dark = as_number(header, "MEANDARK", self.given.path, 0.0)
        # term by term in single precision, as AstroDrizzle has it, for the totals' sake
        variance = np.float32(self.sky) * flat + np.float32(dark)
        variance += np.float32((sum(noise) / len(noise)) ** 2)
        good &= variance > 0
        variance[~good] = 1
        return self._scaled(flat * flat / variance, good)

    def _scaled(self, weights: Singles, good: NDArray[np.bool_]) -> Singles:
        weights *= np.float32(self.source.weight_scale)
        weights[~good] = 0
        return weights

    def _flat(self, shape: tuple[int, ...]) -> Singles:
        """The part of the flat field that this chip's pixels lie on."""
        if self.given.flat is None:
            return np.ones(shape, np.float32)
        header = find(self.planes, "SCI", self.version, self.given.path).header
        _, planes = scan(self.given.flat)
        chip = header.get("CCDCHIP")
        found = [p for p in planes if extname(p.header) == "SCI" and p.header.get("CCDCHIP", chip) == chip]
        if not found:
            what = f"there is no flat field for CCDCHIP {chip}"
            raise InputError.about(self.given.flat, what, "name the PFLTFILE of this exposure")
        x0, y0 = (round(-as_number(header, f"LTV{i}", self.given.path, 0.0)) for i in (1, 2))
        if found[0].shape == shape:
            x0 = y0 = 0
        flat: Singles = found[0].read(np.float32, slice(y0, y0 + shape[0]), slice(x0, x0 + shape[1]))
        if flat.shape != shape:
            what = f"its shape {found[0].shape} does not hold the chip at column {x0}, row {y0}"
            raise InputError.about(found[0].where, what, "name the PFLTFILE of this exposure")
        return flat
