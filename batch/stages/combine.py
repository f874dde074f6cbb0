"""Sky, cosmic-ray masks and the first mosaic, which defines the output grid."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from batch.config import Settings
from batch.config.mosaics import CombineSettings
from batch.drizzling.size import SCALE, largest_chip, output_pixels
from batch.isolation.environment import reference_environment, reference_folder
from batch.model.observation import Association, Exposure
from batch.model.plan import Needs, Stage
from batch.stages.interface import Inputs, Outcome, image_product

KINDS = {"sci": "mosaic", "wht": "weight", "ctx": "context"}


def needs(association: Association, exposure: Exposure | None, settings: Settings) -> Needs:
    """Three images of the output, and some twenty of one chip in the search for cosmic rays.

    Measured: 265 MB for the libraries, 76 bytes a pixel of a chip, 12 a pixel of the output.
    """
    chip, output = largest_chip(association), output_pixels(association, settings.combine.scale)
    pixels = sum(e.chips for e in association.exposures) * chip
    return Needs(
        memory=round(320_000_000 + 80 * chip + 12 * output),
        seconds=6 + 7e-7 * pixels + 1e-7 * output,
        timeout=1800 + 600 * len(association.exposures),
        imports=("drizzlepac",),
    )


STAGE = Stage("combine", "association", ("align", "references"), version=3, needs=needs)


def run(inputs: Inputs, area: Path, settings: CombineSettings) -> Outcome:
    """Run the whole of AstroDrizzle on copies; publish the mosaic, and the exposures with their masks.

    Raises
    ------
    InputError
        If an exposure has no good pixel.
    LibraryError
        When AstroDrizzle fails or its mosaic is not sound.
    """
    from batch.drizzling.astrodrizzle import full
    from batch.drizzling.mosaic import check, rename, suffix
    from batch.drizzling.usable import check_usable

    sources = inputs.files("align", "flt")
    bits = sum(set(settings.bits))
    for path in sources:
        check_usable(path, bits, settings.weight)
    names = [shutil.copyfile(path, area / path.name).name for path in sources]
    roots = [e.rootname for e in inputs.association.exposures]
    detector = inputs.association.exposures[0].detector
    notes = link_flats(inputs, area) if settings.weight == "IVM" else []
    rejected = settings.cosmic_rays and len(names) > 1
    made = full(
        names,
        bits=bits,
        weight=settings.weight,
        pixfrac=settings.pixfrac,
        rotation=settings.rotation,
        scale=settings.scale or SCALE[detector],
        cosmic_rays=rejected,
    )
    masked = {root: _finish(area / name, bits) for root, name in zip(roots, names, strict=True)}
    kind = suffix(sources)
    output = {e: area / p for e, p in rename(made, f"{inputs.association.name}_{kind}").items()}
    grid = check(output)
    products = [image_product(area, path.name, KINDS[e], hdu=0) for e, path in output.items()]
    products += [image_product(area, name, "flt") for name in names]
    if not rejected:
        reason = "there is one exposure" if len(names) == 1 else "combine.cosmic_rays is off"
        notes.append(f"cosmic rays are still in the mosaic: no comparison of exposures, {reason}")
    return Outcome(
        tuple(products),
        {
            "bits": bits,
            "suffix": kind,
            "weight": settings.weight,
            "pixfrac": settings.pixfrac,
            "sky": {root: m["sky"] for root, m in masked.items()},
            "rejected": {root: m["rejected"] for root, m in masked.items()} if rejected else {},
            "grid": grid,
            "exptime": grid["exptime"],
        },
        tuple(notes),
    )


def find_flats(inputs: Inputs) -> tuple[dict[str, Path], list[str]]:
    """The flat fields, which inverse-variance weights are made from.

    Returns
    -------
    files : dict
        PFLTFILE by rootname; exposures whose file is not there have none.
    notes : list of str
        What to say about those: their weights take the flat as 1.
    """
    files, notes = {}, []
    for path in inputs.files("references", "references"):
        references = json.loads(path.read_text(encoding="utf-8"))
        for root, chosen in references["exposures"].items():
            name = chosen["keywords"].get("PFLTFILE", "").removeprefix("jref$")
            if name in references["files"]:
                files[root] = Path(references["files"][name]["path"])
            else:
                notes.append(f"{root}: no flat field (PFLTFILE) for the IVM weights, taken as 1")
    return files, notes


def link_flats(inputs: Inputs, area: Path) -> list[str]:
    """Let ``jref`` lead to the flat fields, as AstroDrizzle looks for them; returns the notes."""
    files, notes = find_flats(inputs)
    folder = reference_folder({path.name: path for path in files.values()}, area)
    os.environ.update(reference_environment(folder))
    return notes


def _finish(path: Path, bits: int) -> dict[str, Any]:
    """Make the DQ arrays alone tell which pixels went into the mosaic, and say what was done to the chips.

    AstroDrizzle leaves cosmic rays in the DQ arrays, but keeps pixels that lie far below the sky in any
    exposure in a mask of its own; those are flagged here.
    """
    import numpy as np
    from astropy.io import fits

    from batch.drizzling.astrodrizzle import COSMIC_RAY, STATIC, weight_of_inputs

    sky: list[float] = []
    hit = total = 0
    with fits.open(path, mode="update", memmap=False) as hdus:
        for chip in [h for h in hdus if h.name == "SCI"]:
            dq = hdus["DQ", chip.ver].data
            weight = fits.getdata(weight_of_inputs(path, chip.ver), memmap=False)
            dq[(weight <= 0) & (dq & ~bits == 0)] |= np.int16(STATIC)
            hit += int(np.count_nonzero(dq & COSMIC_RAY))
            total += dq.size
            sky.append(float(chip.header["MDRIZSKY"]))
    return {"sky": sky, "rejected": hit / total}
