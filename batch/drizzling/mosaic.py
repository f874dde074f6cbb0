"""What must hold of a mosaic, and the numbers that describe it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from batch.errors import InputError, LibraryError

STRIP = 256
"""Rows in memory at a time."""


def suffix(exposures: Sequence[Path]) -> str:
    """What the archive calls a mosaic: ``drc`` of exposures corrected for imperfect CTE, else ``drz``."""
    corrected = (fits.getheader(path, 0).get("PCTECORR", "OMIT").strip() == "COMPLETE" for path in exposures)
    return "drc" if all(corrected) else "drz"


def rename(made: Mapping[str, Path], prefix: str) -> dict[str, Path]:
    """Give the three images of a mosaic their published names, ``<prefix>_sci.fits`` and so on.

    Headers name the images as well, and get the new names. AstroDrizzle cannot be given the published
    name in the first place: it takes the point of ``pf0.3`` for the start of a suffix.
    """
    renamed = {}
    for extension, path in made.items():
        stem = path.name.removesuffix(f"_{extension}.fits")
        with fits.open(path, mode="update", memmap=True) as hdus:
            header = hdus[0].header
            for keyword, value in list(header.items()):
                if (
                    isinstance(value, str)
                    and value.startswith(stem)
                    and keyword not in ("", "COMMENT", "HISTORY")
                ):
                    header[keyword] = value.replace(stem, prefix, 1)
            header["ROOTNAME"] = prefix.rpartition("_")[0]
            if "RULEFILE" in header:
                # a path of this installation, with a comment where there was room for one behind it: the same
                # mosaic made elsewhere has the same bits
                header["RULEFILE"] = Path(header["RULEFILE"]).name, "Name of header kw rules file"
        renamed[extension] = path.rename(path.with_name(f"{prefix}_{extension}.fits"))
    return renamed


def check(made: Mapping[str, Path]) -> dict[str, Any]:
    """Make sure that a mosaic shows something, and describe it.

    Returns
    -------
    dict
        ``shape`` (rows, columns), ``crval`` (deg), ``crpix`` (FITS pixels), ``cd`` (deg per pixel, by
        rows), ``exptime`` (s), ``covered`` (fraction of pixels with weight).

    Raises
    ------
    InputError
        If no pixel has weight.
    LibraryError
        If pixels with weight are not finite, weights are negative, or the images differ in shape.
    """
    with fits.open(made["sci"]) as science, fits.open(made["wht"]) as weights:
        sci, wht = science[0], weights[0]
        if sci.header["NAXIS"] != 2 or sci.shape != wht.shape:
            raise LibraryError(f"{made['sci'].name}: shape {sci.shape}, but the weight map has {wht.shape}")
        covered = 0
        for start in range(0, sci.shape[0], STRIP):
            weight = wht.section[start : start + STRIP]
            value = sci.section[start : start + STRIP]
            used = weight > 0
            covered += int(np.count_nonzero(used))
            if not np.isfinite(value[used]).all() or (weight < 0).any() or np.isnan(weight).any():
                raise LibraryError(
                    f"{made['sci'].name}: rows {start} to {start + len(weight) - 1} hold pixels that are not "
                    "finite though they have weight, or weights below zero; look at the SCI and DQ arrays "
                    "of the calibrated exposures"
                )
        if not covered:
            raise InputError.about(
                made["wht"].name,
                "no pixel has weight: all input pixels are flagged",
                "look at the DQ arrays, and at combine.bits, the flags that count as good",
            )
        header = sci.header
        return {
            "shape": list(sci.shape),
            "crval": [header["CRVAL1"], header["CRVAL2"]],
            "crpix": [header["CRPIX1"], header["CRPIX2"]],
            "cd": [[header[f"CD{i}_{j}"] for j in (1, 2)] for i in (1, 2)],
            "exptime": header["EXPTIME"],
            "covered": covered / (sci.shape[0] * sci.shape[1]),
        }
