"""A simulated visit: raw exposures, their association, reference files, a CRDS cache, and the truth."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.time import Time

from batch import __version__
from batch.errors import StorageError
from batch.simulation import (
    crds_cache,
    detector,
    exposure,
    frame,
    geometry,
    headers,
    products,
    references,
    scene,
)
from batch.simulation.randomness import stream
from batch.simulation.settings import VisitSettings
from batch.simulation.trailing import Traps

__all__ = ["Visit", "VisitSettings", "simulate"]

_OVERHEAD = 165.0
"""From the end of an exposure to the start of the next, s."""
_BOX = ((0.0, 0.0), (5.5, 2.5), (8.0, -3.5), (2.5, -6.0))
"""Dither positions, pixels: every phase of half a pixel once, and no hot pixel on the same star twice."""
_LETTERS = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Visit:
    """Where the files of a simulated visit lie."""

    folder: Path
    settings: VisitSettings
    rootnames: tuple[str, ...]
    """In the order of observation."""
    association: str
    """``jsim01010``"""
    context: str
    """The CRDS context of the cache."""

    @property
    def raw(self) -> Path:
        """The folder of ``*_raw.fits``, ``*_spt.fits`` and the ``_asn.fits``."""
        return self.folder / "raw"

    @property
    def crds(self) -> Path:
        """What CRDS_PATH names."""
        return self.folder / "crds"

    @property
    def references(self) -> Path:
        """The folder of reference files, which ``jref`` names."""
        return self.crds / "references" / "hst"

    @property
    def truth(self) -> Path:
        """The folder of what is known about the scene."""
        return self.folder / "truth"

    @property
    def asn(self) -> Path:
        """The association table."""
        return self.raw / f"{self.association}_asn.fits"

    @property
    def exposures(self) -> tuple[Path, ...]:
        """The raw files in the order of observation."""
        return tuple(self.raw / f"{rootname}_raw.fits" for rootname in self.rootnames)

    def cosmic_rays(self, rootname: str) -> Path:
        """The pixels of an exposure that cosmic rays struck."""
        return self.truth / f"{rootname}_crs.fits"


def simulate(folder: Path, settings: VisitSettings | None = None) -> Visit:
    """Simulate a visit, unless the folder holds the very same one already.

    Files of a visit that is there are not touched, so that a run on them can go on.

    Parameters
    ----------
    folder : Path
        Gets the folders raw, crds and truth; it is made if need be. Another visit's files in it are removed.
    settings : VisitSettings, optional
        The same ones give the same files, bit for bit.

    Raises
    ------
    StorageError
        If the files cannot be written.
    LibraryError
        Where astropy lacks the real header that the simulated ones are made from.
    """
    settings = settings or VisitSettings()
    program = f"j{settings.program}{_LETTERS[settings.visit // 36]}{_LETTERS[settings.visit % 36]}"
    plan = _observations(settings, program)
    visit = Visit(folder, settings, tuple(o.rootname for o in plan), f"{program}010", crds_cache.CONTEXT)
    mark = folder / "visit.json"
    identity = json.dumps({"version": __version__, **dataclasses.asdict(settings)}, sort_keys=True)
    try:
        if mark.exists() and mark.read_text(encoding="utf-8") == identity:
            return visit
        mark.unlink(missing_ok=True)
        for part in (visit.raw, visit.crds, visit.truth):
            shutil.rmtree(part, ignore_errors=True)
        _write(visit, plan)
        # last: a visit without it is not whole
        mark.write_text(identity, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{folder}: the simulated visit cannot be written: {error}") from error
    return visit


def _write(visit: Visit, plan: Sequence[headers.Observation]) -> None:
    settings = visit.settings
    for folder in (visit.raw, visit.references, visit.truth):
        folder.mkdir(parents=True, exist_ok=True)
    readout = frame.frame(settings)
    template = headers.load_template()
    silicon = tuple(detector.silicon(settings, chip) for chip in readout.chips)
    files = references.write(visit.references, settings, readout, silicon)
    names = {key: path.name for key, path in files.items()}
    crds_cache.write(visit.crds, settings, readout, names)
    traps = Traps.load(files["PCTETAB"]) if settings.cte else None
    camera = exposure.Camera(settings, readout, silicon, traps, template, visit.association, names)
    mappings = [geometry.true_geometry(template, settings, readout, o, files) for o in plan]
    stars = scene.populate(settings, mappings[0])
    seen = []
    for number, (raw, observation, mapping) in enumerate(zip(visit.exposures, plan, mappings, strict=True)):
        where, hits = exposure.expose(raw, camera, number, observation, mapping, stars)
        seen.append(where)
        products.write_cosmic_rays(visit.cosmic_rays(observation.rootname), readout, hits)
        products.write_support(visit.raw / f"{observation.rootname}_spt.fits", settings, observation)
    products.write_association(visit.asn, settings, visit.association, visit.rootnames)
    products.write_truth(visit.truth, stars, visit.rootnames, seen, plan)


def _observations(settings: VisitSettings, program: str) -> list[headers.Observation]:
    start = float(Time(f"{settings.date}T06:51:26", scale="utc").mjd)
    result = []
    for number, exptime in enumerate(settings.times):
        rng = stream(settings.seed, "pointing", number)
        radius, angle = settings.pointing_error * math.sqrt(rng.random()), rng.uniform(0, 2 * math.pi)
        result.append(
            headers.Observation(
                rootname=f"{program}{_LETTERS[10 + number // 26]}{_LETTERS[10 + number % 26]}q",
                start=start,
                exptime=exptime,
                offset=_dither(settings, number),
                error=(radius * math.cos(angle), radius * math.sin(angle)),
                # The spacecraft's own motion around the Earth: 7.6 km/s in 96 minutes.
                vafactor=round(1.0000187 + 2.2e-5 * math.sin(2 * math.pi * number * 500 / 5760), 12),
                step=number + 1,
            )
        )
        start += (exptime + _OVERHEAD) / 86400
    return result


def _dither(settings: VisitSettings, number: int) -> tuple[float, float]:
    """Offset of an exposure on the sky, arcsec to the east and north."""
    if not settings.dithers:
        return 0.0, 0.0
    x, y = _BOX[number % 4]
    cycle = number // 4
    x, y = x + 3.25 * cycle, y + 4.75 * cycle
    real = headers.load_template().chips[2]
    east = -(real["OCD1_1"] * x + real["OCD1_2"] * y) * 3600
    north = -(real["OCD2_1"] * x + real["OCD2_2"] * y) * 3600
    return float(np.round(east, 6)), float(np.round(north, 6))
