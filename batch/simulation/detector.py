"""A chip: what it does to the light that falls on it, and how it is read."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from batch.simulation.electronics import ATOD_LIMIT, STRIPE, amplifier
from batch.simulation.frame import Chip
from batch.simulation.randomness import stream
from batch.simulation.settings import VisitSettings

Image = NDArray[np.float32]

WELL = 84_700.0
"""Full well, electrons (ACS Instrument Handbook, section 4.3.1); it varies by a tenth over a chip."""
OVERFULL = 1.02
"""A pixel fills up to this much beyond the level that counts as saturated."""
HOT, WARM, BAD = 16, 64, 4
"""Data quality flags (calibration specification, section 0)."""
HOT_FROM, WARM_FROM = 0.08, 0.04
"""electrons / s from which a pixel counts as hot or warm."""


@dataclass(frozen=True)
class Silicon:
    """The properties of a chip that its reference files describe. Images are (height, width) float32."""

    bias: Image
    """Structure on top of the bias level, DN, over the raw array."""
    dark: Image
    """electrons / s"""
    flat: Image
    """Relative response."""
    well: Image
    """electrons; above it a pixel counts as saturated."""
    flash: Image
    """electrons / s of post-flash"""
    sinks: Image
    """electrons that a pixel swallows; 0 for nearly all."""
    dead: tuple[tuple[int, int, int], ...]
    """Dead columns: column, first row, number of rows; zero-based, without overscan."""


def silicon(settings: VisitSettings, chip: Chip) -> Silicon:
    """Grow the part of a chip that is read."""
    shape = (chip.height, chip.width)
    # Positions on the full chip, -1 to 1, so that smooth structure does not depend on the subarray.
    u = (np.arange(chip.x0, chip.x0 + chip.width, dtype=np.float32) / 2048 - 1)[None, :]
    v = (np.arange(chip.y0, chip.y0 + chip.height, dtype=np.float32) / 1024 - 1)[:, None]
    v_mosaic = v / 2 + (0.5 if chip.number == 1 else -0.5)
    rng = stream(settings.seed, "silicon", chip.number, settings.size, settings.amp)
    flat = 1.0 + 0.05 * u * v_mosaic - 0.06 * (u - 0.1) ** 2 - 0.05 * (v_mosaic + 0.2) ** 2
    flat = np.asarray(flat + 0.006 * rng.standard_normal(shape, np.float32), np.float32)
    dead = _dead_columns(rng, chip)
    for column, first, count in dead:
        flat[first : first + count, column] = 0.02
    return Silicon(
        bias=_bias(rng, chip),
        dark=_dark(rng, shape),
        flat=np.asarray(flat, np.float32),
        well=np.asarray(WELL * (1.0 - 0.03 * (u**2 + v_mosaic**2)), np.float32),
        flash=np.asarray(2.0 * (1.0 - 0.2 * u**2 - 0.15 * (v_mosaic - 0.2) ** 2), np.float32),
        sinks=_sinks(rng, shape) if settings.post_sm4 else np.zeros(shape, np.float32),
        dead=dead,
    )


def _bias(rng: np.random.Generator, chip: Chip) -> Image:
    """A column pattern, a gentle gradient along columns, and fixed noise."""
    columns = np.cumsum(rng.normal(0, 0.05, chip.nx))
    columns = columns - np.linspace(columns[0], columns[-1], chip.nx) + rng.normal(0, 0.15, chip.nx)
    columns[rng.integers(chip.trim[0], chip.nx - chip.trim[1], max(chip.nx // 500, 1))] += 3.0
    rows = 0.4 * np.sin(np.linspace(0, 3.0, chip.ny))
    pattern = (columns[None, :] + rows[:, None]).astype(np.float32)
    return pattern + np.float32(0.25) * rng.standard_normal(pattern.shape, np.float32)


def _dark(rng: np.random.Generator, shape: tuple[int, int]) -> Image:
    """A faint level, and pixels with a power law of excess dark current as after four years in orbit."""
    dark = (0.0032 + 0.0006 * rng.standard_normal(shape, np.float32)).clip(0.0005).astype(np.float32)
    count = rng.binomial(dark.size, 0.03)
    where = rng.integers(0, dark.size, count)
    excess = np.minimum(0.02 * (1 - rng.random(count)) ** (-1 / 1.2), 60.0)
    dark.ravel()[where] += excess.astype(np.float32)
    return dark


def _sinks(rng: np.random.Generator, shape: tuple[int, int]) -> Image:
    """Half a percent of the pixels swallow some charge (ACS ISR 2017-01)."""
    sinks = np.zeros(shape, np.float32)
    where = rng.integers(0, sinks.size, sinks.size // 200)
    sinks.ravel()[where] = rng.uniform(10, 90, where.size)
    return sinks


def _dead_columns(rng: np.random.Generator, chip: Chip) -> tuple[tuple[int, int, int], ...]:
    count = max(chip.width // 400, 1)
    columns = rng.choice(chip.width, count, replace=False)
    first = rng.integers(0, chip.height, count)
    return tuple((int(c), int(f), int(chip.height - f)) for c, f in zip(columns, first, strict=True))


def dark_flags(dark: Image) -> NDArray[np.int16]:
    """Flag hot and warm pixels."""
    return np.where(dark >= HOT_FROM, HOT, np.where(dark >= WARM_FROM, WARM, 0)).astype(np.int16)


@numba.njit(nogil=True, cache=False)
def _bleed(electrons, well):  # type: ignore[no-untyped-def]
    ny, nx = electrons.shape
    excess = np.zeros(ny)
    for x in range(nx):
        any_full = False
        for y in range(ny):
            excess[y] = 0.0
            over = electrons[y, x] - well[y, x]
            if over > 0:
                any_full = True
                excess[y] = 0.5 * over
                electrons[y, x] = well[y, x]
        if not any_full:
            continue
        carried = 0.0
        for y in range(ny):
            carried += excess[y]
            taken = min(carried, well[y, x] - electrons[y, x])
            electrons[y, x] += taken
            carried -= taken
        carried = 0.0
        for y in range(ny - 1, -1, -1):
            carried += excess[y]
            taken = min(carried, well[y, x] - electrons[y, x])
            electrons[y, x] += taken
            carried -= taken


def bleed(electrons: Image, well: Image) -> None:
    """Let charge above the full well run along its column, half of it each way, in place.

    Parameters
    ----------
    electrons, well : (ny, nx) float32
        What runs over the ends of a column is lost, as at the chip's edges.
    """
    _bleed(electrons, well * np.float32(OVERFULL))


def read_out(
    electrons: Image, silicon: Silicon, chip: Chip, settings: VisitSettings, exposure: int
) -> NDArray[np.uint16]:
    """Turn the charge of a chip into the numbers of a raw array.

    Parameters
    ----------
    electrons : (height, width) float32
        Charge in the light-sensitive pixels.
    exposure : int
        Which one of the visit, for the noise.

    Returns
    -------
    (ny, nx) uint16
        DN, with prescan and virtual overscan.
    """
    rng = stream(settings.seed, "readout", exposure, chip.number)
    charge = np.zeros((chip.ny, chip.nx), np.float32)
    charge[chip.light] = electrons
    raw = np.empty((chip.ny, chip.nx), np.uint16)
    # All amplifiers share the row noise: the same electronics clocks them together.
    stripes = stream(settings.seed, "stripes", exposure).normal(0, STRIPE, chip.ny).astype(np.float32)
    for amp in chip.amps:
        circuit = amplifier(amp.name, settings.gain)
        part = charge[:, amp.columns]
        noise = rng.standard_normal(part.shape, np.float32) * np.float32(circuit.read_noise)
        if settings.post_sm4:
            noise += stripes[:: -1 if amp.at_top else 1, None]
        # The level floats from exposure to exposure, and drifts by a fraction of a DN during readout.
        level = circuit.bias + rng.normal(0, 1.5) + rng.normal(0, 0.1) * np.linspace(-1, 1, chip.ny)
        dn = (part + noise) / np.float32(circuit.gain) + silicon.bias[:, amp.columns]
        dn += level.astype(np.float32)[:, None]
        raw[:, amp.columns] = np.clip(np.rint(dn), 0, ATOD_LIMIT).astype(np.uint16)
    return raw
