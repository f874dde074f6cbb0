"""One exposure: from stars to the raw file, with its share of the truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray

from batch.simulation import cosmicrays, detector, headers, psf
from batch.simulation.electronics import DARK_OVERHEAD, DARK_OVERHEAD_FLASH
from batch.simulation.filters import FILTERS
from batch.simulation.frame import Chip, Frame
from batch.simulation.geometry import Geometry
from batch.simulation.randomness import stream
from batch.simulation.scene import Stars
from batch.simulation.settings import VisitSettings
from batch.simulation.trailing import Traps

Image = NDArray[np.float32]

MARGIN = 60.0
"""Stars this far outside a chip still shine into it, pixels."""
READOUT = 50.0
"""Half the readout: cosmic rays go on hitting, s."""
_SUBARRAYS_TIMED = 57662.0
"""From this MJD on calibration adds the overhead to DARKTIME of subarrays too (specification, 4.8)."""


@dataclass(frozen=True)
class Camera:
    """What all exposures of a visit share."""

    settings: VisitSettings
    frame: Frame
    silicon: tuple[detector.Silicon, ...]
    """In the order of `Frame.chips`."""
    traps: Traps | None
    """What trails the charge on its way to the amplifiers; None for perfect transfer."""
    template: headers.Template
    association: str
    references: Mapping[str, str]
    """Names of reference files by keyword."""


@dataclass(frozen=True)
class Seen:
    """Where an exposure sees the stars; arrays (n stars,)."""

    chip: NDArray[np.int16]
    """CCDCHIP; 0 where a star falls on none."""
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    """FITS pixels (the first is 1) of the calibrated array, overscan left out; NaN where on no chip."""


def expose(
    path: Path,
    camera: Camera,
    number: int,
    observation: headers.Observation,
    geometry: Geometry,
    stars: Stars,
) -> tuple[Seen, list[Table]]:
    """Take an exposure and write its raw file.

    Parameters
    ----------
    path : Path
        The raw file.
    number : int
        Which one of the visit, from 0.
    geometry : Geometry
        Of this exposure, true.

    Returns
    -------
    seen : Seen
        Where the stars fell.
    hits : list of Table
        Pixels struck by cosmic rays, one table for each chip of the frame.
    """
    size = stars.ra.size
    seen = Seen(np.zeros(size, np.int16), np.full(size, np.nan), np.full(size, np.nan))
    settings, template = camera.settings, camera.template
    primary = headers.primary(
        template, settings, camera.frame, observation, camera.association, camera.references
    )
    hdus: list[fits.PrimaryHDU | fits.ImageHDU] = [fits.PrimaryHDU(header=primary)]
    hits = []
    for index, (chip, silicon) in enumerate(zip(camera.frame.chips, camera.silicon, strict=True)):
        light = _light(index, chip, observation, settings, geometry, stars, seen)
        charge, struck = _collect(light, number, chip, silicon, observation, settings)
        if camera.traps is not None:
            charge = camera.traps.trail(charge, chip, observation.start)
        raw = detector.read_out(charge, silicon, chip, settings, number)
        hits.append(struck)
        science = headers.science(template, chip, observation, raw)
        hdus.append(fits.ImageHDU(raw, header=science, name="SCI", ver=chip.extver))
        for name in ("ERR", "DQ"):
            header = headers.constant(science, name, chip, template, observation)
            hdus.append(fits.ImageHDU(header=header, name=name, ver=chip.extver))
    fits.HDUList(hdus).writeto(path, overwrite=True)
    return seen, hits


def _light(
    index: int,
    chip: Chip,
    observation: headers.Observation,
    settings: VisitSettings,
    geometry: Geometry,
    stars: Stars,
    seen: Seen,
) -> Image:
    """Electrons of sky and stars on a uniform detector, (height, width) float32; fills in `seen`."""
    sky = FILTERS[settings.filter].sky * observation.exptime
    image = np.full((chip.height, chip.width), sky, np.float32)
    which, x, y = geometry.pixels(index, stars.ra, stars.dec, MARGIN)
    # Flat fields make a uniform sky uniform, whatever a pixel's area: a star in a large pixel then comes out
    # too faint by the area, and drizzling makes up for it.
    area = geometry.pixel_area(index)
    column = np.clip(np.rint(x), 0, chip.width - 1).astype(np.intp)
    row = np.clip(np.rint(y), 0, chip.height - 1).astype(np.intp)
    psf.add_stars(image, x, y, stars.flux[which] * observation.exptime / area[row, column])
    on = (x > -0.5) & (x < chip.width - 0.5) & (y > -0.5) & (y < chip.height - 0.5)
    seen.chip[which[on]] = chip.number
    seen.x[which[on]] = x[on] + 1
    seen.y[which[on]] = y[on] + 1
    return image


def _collect(
    light: Image,
    number: int,
    chip: Chip,
    silicon: detector.Silicon,
    observation: headers.Observation,
    settings: VisitSettings,
) -> tuple[Image, Table]:
    """Electrons that the chip holds when the readout begins, and the pixels struck by cosmic rays."""
    expected = light * silicon.flat
    expected += silicon.dark * np.float32(dark_time(observation, settings))
    if settings.flash:
        expected += silicon.flash * np.float32(settings.flash)
    photons = stream(settings.seed, "photons", number, chip.number)
    charge = photons.poisson(expected).astype(np.float32)
    rays = stream(settings.seed, "cosmic rays", number, chip.number)
    struck, pixels = cosmicrays.strike(
        rays, charge.shape, settings.cosmic_rays, observation.exptime + READOUT
    )
    charge += struck
    charge = np.maximum(charge - silicon.sinks, 0)
    detector.bleed(charge, silicon.well)
    return charge, pixels


def dark_time(observation: headers.Observation, settings: VisitSettings) -> float:
    """Seconds of dark current: the header's DARKTIME and the overhead that calibration adds to it."""
    full_frame = settings.size == "full"
    if not (settings.post_sm4 if full_frame else observation.start >= _SUBARRAYS_TIMED):
        return observation.exptime
    return observation.exptime + (DARK_OVERHEAD_FLASH if settings.flash else DARK_OVERHEAD)
