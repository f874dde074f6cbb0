"""What a simulated visit is made of: `VisitSettings`."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from typing import Literal

from batch.errors import UsageError

Size = Literal["full", "2k", "1k", "512"]

SM4 = datetime.date(2009, 5, 11)
"""Servicing mission 4: new CCD electronics (calibration specification, section 0)."""


@dataclass(frozen=True)
class VisitSettings:
    """Everything that decides the bytes of a simulated visit.

    The same settings give the same files, bit for bit.
    """

    seed: int = 1
    size: Size = "1k"
    """``full`` is two chips read by four amplifiers; the others are single-amplifier subarrays of
    2072 x 2068, 2072 x 1024 and 2072 x 512 pixels."""
    amp: Literal["A", "B", "C", "D"] = "C"
    """The amplifier that reads a subarray."""
    exposures: int = 4
    """Long exposures."""
    exptime: float = 339.0
    """s"""
    short_exptime: float | None = 30.0
    """One more exposure of this time, as in the real visit J9L960010, s; None: no such exposure."""
    association: Literal["dither", "crsplit"] = "dither"
    """``dither`` makes EXP-DTH members at their own positions, ``crsplit`` EXP-CRJ members at one."""
    date: str = "2006-03-13"
    filter: Literal["F435W", "F475W", "F606W", "F814W"] = "F606W"
    gain: Literal[1, 2] = 2
    """Commanded gain; 1 reaches the limit of the converter before the full well."""
    pointing_error: float = 0.5
    """Header positions are off by up to this, each exposure on its own, arcsec."""
    stars: int = 40_000
    """Stars on the area of a full frame."""
    cosmic_rays: float = 1.2
    """Events / s / cm2; 0 for none."""
    flash: float = 0.0
    """Duration of the post-flash, s; 0 for none."""
    cte: bool = False
    """Trail the charge as years of radiation damage do, and ask for PCTECORR."""
    program: str = "sim"
    """Three letters or digits of the rootnames."""
    visit: int = 1

    def __post_init__(self) -> None:
        """Refuse what cannot be simulated.

        Raises
        ------
        UsageError
            For a value out of range.
        """
        checks = {
            "exposures: at least 1": self.exposures >= 1,
            "exposures: at most 30": self.exposures <= 30,
            "exptime: more than 0": self.exptime > 0,
            "short_exptime: more than 0, or none": self.short_exptime is None or self.short_exptime > 0,
            "pointing_error: 0 to 60": 0 <= self.pointing_error <= 60,
            "stars: 0 or more": self.stars >= 0,
            "cosmic_rays: 0 or more": self.cosmic_rays >= 0,
            "flash: 0, or 0.1 to 409.5": self.flash == 0 or 0.1 <= self.flash <= 409.5,
            "seed: 0 or more": self.seed >= 0,
            "program: three lower-case letters or digits": bool(re.fullmatch("[a-z0-9]{3}", self.program)),
            "visit: 1 to 99": 1 <= self.visit <= 99,
            "date: yyyy-mm-dd from 2002-03-02 on": _is_date(self.date) and self.date >= "2002-03-02",
        }
        wrong = [text for text, holds in checks.items() if not holds]
        if wrong:
            raise UsageError("this visit cannot be simulated: " + "; ".join(wrong))

    @property
    def post_sm4(self) -> bool:
        """True for exposures read by the electronics of 2009."""
        return datetime.date.fromisoformat(self.date) >= SM4

    @property
    def times(self) -> tuple[float, ...]:
        """Exposure times in the order of observation, s; the short one comes first."""
        short = () if self.short_exptime is None else (self.short_exptime,)
        return short + (self.exptime,) * self.exposures

    @property
    def dithers(self) -> bool:
        """True if every exposure has a position of its own."""
        return self.association == "dither"


def _is_date(text: str) -> bool:
    try:
        datetime.date.fromisoformat(text)
    except ValueError:
        return False
    return len(text) == 10
