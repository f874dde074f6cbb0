"""The four amplifiers: gain, read noise, bias level. In-flight figures of ACS/WFC, 2003 to 2006."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

GAINS: Mapping[int, Mapping[str, float]] = {
    1: {"A": 0.9999, "B": 0.9721, "C": 1.0107, "D": 1.0180},
    2: {"A": 2.0020, "B": 1.9450, "C": 2.0280, "D": 1.9940},
}
"""electrons / DN by commanded gain and amplifier (CCDTAB ATODGNA..D)."""
READ_NOISE: Mapping[int, Mapping[str, float]] = {
    1: {"A": 4.97, "B": 4.85, "C": 5.24, "D": 4.85},
    2: {"A": 5.44, "B": 5.14, "C": 5.62, "D": 5.25},
}
"""electrons rms (CCDTAB READNSEA..D)."""
BIAS: Mapping[str, float] = {"A": 2428.0, "B": 2518.0, "C": 2441.0, "D": 2469.0}
"""DN, at offset setting 3 (CCDTAB CCDBIASA..D)."""
ATOD_LIMIT = 65535
"""Largest number of the converter; from the one below it on a pixel counts as saturated."""
STRIPE = 0.9
"""Post-SM4 noise that all pixels of a row share, electrons rms (ACS ISR 2011-05)."""
DARK_OVERHEAD = 3.0
"""Post-SM4 time between the shutter's closing and readout (CCDTAB OVRHUFLS), s."""
DARK_OVERHEAD_FLASH = 6.0
"""The same with a post-flash (OVRHFLS), s."""


@dataclass(frozen=True)
class Amplifier:
    """One amplifier at a commanded gain."""

    gain: float
    """electrons / DN"""
    read_noise: float
    """electrons"""
    bias: float
    """DN"""


def amplifier(name: str, commanded: int) -> Amplifier:
    """Give the amplifier called `name`."""
    return Amplifier(GAINS[commanded][name], READ_NOISE[commanded][name], BIAS[name])
