"""CRREJTAB: how cosmic rays are rejected for a number of images and an exposure time.

Source: calibration-steps specification, sections 7 and 9.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from batch.calibration.references import Reference
from batch.errors import InputError

_MOST_SIGMAS = 20


@dataclass(frozen=True)
class RejectionParameters:
    """One row of CRREJTAB."""

    sigma_text: str
    """CRSIGMAS as the table has it."""
    sigmas: tuple[float, ...]
    """The threshold of each iteration."""
    sky: str
    """SKYSUB: ``none`` or ``mode``."""
    radius: float
    """CRRADIUS, pixels."""
    threshold: float
    """CRTHRESH, in units of the iteration's sigma; not positive: everything within the radius."""
    guess: str
    """INITGUES: ``med...`` is the median, anything else the minimum."""
    scale_noise: float
    """SCALENSE, per cent of the signal."""
    bad_bits: int
    """BADINPDQ as int16."""
    write_mask: bool
    """CRMASK: flag rejected pixels in the input images."""

    @property
    def by_median(self) -> bool:
        """True if the first guess is the median of the images."""
        return self.guess.startswith("med")


def select_crrejtab_row(reference: Reference, images: int, mean_exposure: float) -> RejectionParameters:
    """Find the row for a number of images and their mean exposure time (s).

    Of the rows with CRSPLIT = min(images, largest CRSPLIT) and MEANEXP not below the mean exposure, the one
    with the nearest MEANEXP; the last of equals.

    Raises
    ------
    InputError
        If there is none, or its values make no sense.
    """
    table = reference.table()
    where = f"{reference.path} (CRREJTAB)"
    split, times = table.integers("CRSPLIT"), table.numbers("MEANEXP").astype(np.float64)
    wanted = min(images, int(split.max(initial=0)))
    rows = np.flatnonzero((split == wanted) & (times >= mean_exposure))
    if len(rows) == 0:
        what = f"no row for {images} images of {mean_exposure:g} s"
        raise InputError.about(where, what, "provide a CRREJTAB that has one")
    nearest = times[rows].min()
    row = int(rows[times[rows] == nearest][-1])
    text = table.text("CRSIGMAS", row)
    bits = int(table.number("BADINPDQ", row))
    result = RejectionParameters(
        sigma_text=text,
        sigmas=_sigmas(text, where),
        sky=table.text("SKYSUB", row).strip().lower(),
        radius=table.number("CRRADIUS", row),
        threshold=table.number("CRTHRESH", row),
        guess=table.text("INITGUES", row),
        scale_noise=table.number("SCALENSE", row),
        bad_bits=(bits + 0x8000) % 0x10000 - 0x8000,
        write_mask=table.flag("CRMASK", row),
    )
    if result.sky not in ("none", "mode"):
        raise InputError.about(where, f"SKYSUB {result.sky!r} is not none or mode", "correct the table")
    if not 0 <= result.radius <= 100:
        raise InputError.about(where, f"CRRADIUS {result.radius} is impossible", "correct the table")
    return result


def _sigmas(text: str, where: str) -> tuple[float, ...]:
    try:
        sigmas = tuple(float(part) for part in re.split(r"[,;/\s]+", text.strip()) if part)
    except ValueError:
        sigmas = ()
    if not 0 < len(sigmas) <= _MOST_SIGMAS or not np.isfinite(sigmas).all():
        raise InputError.about(where, f"CRSIGMAS {text!r} is no list of numbers", "correct the table")
    return sigmas
