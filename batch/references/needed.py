"""Which reference files the switches of a header read.

Source: calibration-steps specification, section 2.4; ACS Data Handbook, table 3.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

STEPS: dict[str, tuple[str, ...]] = {
    "DQICORR": ("BPIXTAB",),
    "BIASCORR": ("BIASFILE", "SATUFILE"),
    "BLEVCORR": ("OSCNTAB",),
    "SINKCORR": ("SNKCFILE",),
    "ATODCORR": ("ATODTAB",),
    "PCTECORR": ("PCTETAB", "DRKCFILE"),
    "DARKCORR": ("DARKFILE",),
    "FLSHCORR": ("FLSHFILE",),
    "FLATCORR": ("PFLTFILE", "DFLTFILE", "LFLTFILE"),
    "SHADCORR": ("SHADFILE",),
    "PHOTCORR": ("IMPHTTAB",),
}
"""What each calibration switch reads."""

GEOMETRY = ("IDCTAB", "NPOLFILE", "D2IMFILE")
"""What the WCS is made from."""

NOMINAL = ("CCDTAB", "OSCNTAB")
"""Tables of fixed hardware, without which nothing can be calibrated: where they are missing and missing
ones may be omitted, the handbook's figures stand in (`batch.calibration.nominal`)."""

KEYWORDS = tuple(dict.fromkeys(("CCDTAB", *(k for ks in STEPS.values() for k in ks), "CRREJTAB", *GEOMETRY)))
"""Every reference keyword that is looked at."""


def performed(header: Any) -> set[str]:
    """Switches that are PERFORM."""
    return {s for s in STEPS if str(header.get(s, "OMIT")).strip().upper() == "PERFORM"}


def needed_keywords(header: Any) -> list[str]:
    """Reference keywords that the exposure's switches, and its WCS, will read."""
    on = performed(header)
    needed = ["CCDTAB", "OSCNTAB", *(k for s in STEPS if s in on for k in STEPS[s]), *GEOMETRY]
    if not {"PCTECORR", "DARKCORR"} <= on and "DRKCFILE" in needed:
        needed.remove("DRKCFILE")
    return list(dict.fromkeys(needed))


def switches_off(header: Any, missing: Mapping[str, str]) -> dict[str, str]:
    """The switches that are on and cannot be, for want of a file with nothing to stand in."""
    on = performed(header)
    return {
        switch: "OMIT"
        for switch, keywords in STEPS.items()
        if switch in on and any(k in missing and k not in NOMINAL for k in keywords)
    }
