"""Distortion model and WCS of one exposure, by stwcs."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from batch.config import Settings
from batch.config.mosaics import WcsSettings
from batch.errors import LibraryError
from batch.isolation.environment import reference_environment, reference_folder
from batch.isolation.library import library_call
from batch.model.observation import Association, Exposure
from batch.model.plan import Needs, Stage
from batch.stages.interface import Inputs, Outcome, image_product

CORRECTIONS = {"NPOLFILE": "WCSDVARR", "D2IMFILE": "D2IMARR"}
"""Reference keyword of a look-up table, and the extension that the table becomes."""


def needs(association: Association, exposure: Exposure | None, settings: Settings) -> Needs:
    """The file is held in memory once, behind the libraries."""
    assert exposure is not None
    file = 10 * exposure.shape[0] * exposure.shape[1] * exposure.chips if exposure.shape else 0
    return Needs(
        memory=150_000_000 + file,
        seconds=4 if not settings.wcs.use_db else 20,
        timeout=600,
        network=settings.wcs.use_db,
    )


STAGE = Stage("wcs", "exposure", ("calibrate", "references"), version=1, needs=needs, set_aside_too=True)


def run(inputs: Inputs, area: Path, settings: WcsSettings) -> Outcome:
    """Put the distortion model of the reference files into a copy of the flt.

    Without an IDCTAB the linear WCS of the header stays, and the file is passed on as it is; without
    NPOLFILE or D2IMFILE the model lacks that table. Both are said in the notes.

    Raises
    ------
    MissingReferenceError
        For references that are named but not there.
    LibraryError
        When stwcs fails or leaves no distortion model behind.
    """
    from astropy.io import fits

    # where charge transfer was corrected, the corrected exposure goes on
    (source,) = inputs.files("calibrate", "flc") or inputs.files("calibrate", "flt")
    root = inputs.exposure.rootname
    references = json.loads(inputs.file("references", "references").read_text(encoding="utf-8"))
    chosen = references["exposures"][root]
    path = Path(shutil.copyfile(source, area / source.name))
    names, notes = _choose(chosen["keywords"], chosen["missing"], root)
    with fits.open(path, mode="update", memmap=False) as hdus:
        for keyword, name in names.items():
            hdus[0].header[keyword] = f"jref${name}" if name else "N/A"
        for hdu in hdus:
            _expand(hdu)
    if not names["IDCTAB"]:
        return Outcome(
            (image_product(area, path.name, "flt"),),
            {"model": "linear"},
            (*notes, f"{root}: positions rest on the linear WCS of the header, good to a few arcsec"),
            skipped=f"there is no IDCTAB for {root}",
        )
    files = {name: Path(references["files"][name]["path"]) for name in names.values() if name}
    os.environ.update(reference_environment(reference_folder(files, area)))
    with library_call(f"stwcs.updatewcs of {path.name}") as words:
        from stwcs.updatewcs import updatewcs

        updatewcs(path.name if Path.cwd() == area else str(path), use_db=settings.use_db)
    return Outcome((image_product(area, path.name, "flt"),), _check(path, names, words.text()), notes)


def _choose(
    keywords: Mapping[str, str], missing: Mapping[str, str], root: str
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Names of the three reference files, empty where there is none, and what to say about it."""
    names, notes = {}, []
    for keyword in ("IDCTAB", *CORRECTIONS):
        name = keywords.get(keyword, "").removeprefix("jref$")
        if keyword in missing:
            notes.append(
                f"{root}: {keyword} {missing[keyword]} is not there; the distortion model goes without"
            )
            name = ""
        names[keyword] = "" if name.strip().upper() in ("", "N/A") else name.strip()
    return names, tuple(notes)


def _expand(hdu: Any) -> None:
    """Write out a constant array (NAXIS 0 with NPIX1, NPIX2, PIXVALUE), which the libraries do not read."""
    import numpy as np

    if hdu.name in ("SCI", "ERR", "DQ") and hdu.header["NAXIS"] == 0 and "PIXVALUE" in hdu.header:
        shape = (hdu.header["NPIX2"], hdu.header["NPIX1"])
        kind = np.int16 if hdu.name == "DQ" else np.float32
        hdu.data = np.full(shape, hdu.header["PIXVALUE"], dtype=kind)
        for keyword in ("NPIX1", "NPIX2", "PIXVALUE"):
            del hdu.header[keyword]


def _check(path: Path, names: Mapping[str, str], said: str) -> dict[str, Any]:
    """What stwcs wrote, after making sure that it did: files that it does not like it only skips."""
    from astropy.io import fits

    with fits.open(path, memmap=False) as hdus:
        chips = [hdu for hdu in hdus if hdu.name == "SCI"]
        extensions = {hdu.name for hdu in hdus}
        for chip in chips:
            if "A_ORDER" not in chip.header or not str(chip.header["CTYPE1"]).endswith("-SIP"):
                raise LibraryError(
                    f"{path.name}[SCI,{chip.ver}]: stwcs.updatewcs left no SIP coefficients; its last "
                    f"message: {said}; look whether IDCTAB {names['IDCTAB']} knows this chip, filter and date"
                )
        for keyword, extension in CORRECTIONS.items():
            if names[keyword] and extension not in extensions:
                raise LibraryError(
                    f"{path.name}: stwcs.updatewcs did not apply {keyword} {names[keyword]} (no {extension} "
                    "extension); look whether the table is meant for this detector"
                )
        return {"model": chips[0].header["WCSNAME"], **{k.lower(): v for k, v in names.items()}}
