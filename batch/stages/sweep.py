"""The final drizzle at one pixfrac: the grid, the masks and the sky of combine."""

from __future__ import annotations

import shutil
from pathlib import Path

from batch.config import Settings, SweepSettings
from batch.drizzling.size import largest_chip, output_pixels
from batch.model.observation import Association, Exposure
from batch.model.plan import Needs, Stage, pixfrac_name
from batch.stages.combine import KINDS, find_flats
from batch.stages.interface import Inputs, Outcome, image_product


def needs(association: Association, exposure: Exposure | None, settings: Settings) -> Needs:
    """Three images of the output, and some of one chip.

    Measured: 290 MB for the libraries, 35 bytes a pixel of a chip, 12 a pixel of the output.
    """
    chip, output = largest_chip(association), output_pixels(association, settings.combine.scale)
    pixels = sum(e.chips for e in association.exposures) * chip
    return Needs(
        memory=round(330_000_000 + 40 * chip + 12 * output),
        seconds=5 + 2e-7 * pixels + 4e-8 * output,
        timeout=1800 + 300 * len(association.exposures),
    )


STAGE = Stage("sweep", "pixfrac", ("combine", "references"), version=1, needs=needs)


def run(inputs: Inputs, area: Path, settings: SweepSettings) -> Outcome:
    """Drizzle the masked exposures once more, with everything but the pixfrac (and kernel) as in combine.

    Raises
    ------
    LibraryError
        When AstroDrizzle fails or its mosaic is not sound.
    """
    from batch.drizzling.astrodrizzle import final
    from batch.drizzling.mosaic import check, rename

    combined = inputs.record("combine").results
    sources = inputs.files("combine", "flt")
    names = [shutil.copyfile(path, area / path.name).name for path in sources]
    roots = [e.rootname for e in inputs.association.exposures]
    notes = find_flats(inputs, area) if combined["weight"] == "IVM" else []
    grid = area / "grid.fits"
    grid.symlink_to(inputs.file("combine", "mosaic").absolute())
    made = final(
        names,
        grid=grid,
        sky={name: combined["sky"][root] for name, root in zip(names, roots, strict=True)},
        bits=combined["bits"],
        weight=combined["weight"],
        pixfrac=inputs.pixfrac,
        kernel=settings.kernel,
    )
    prefix = f"{inputs.association.name}_{pixfrac_name(inputs.pixfrac)}_{combined['suffix']}"
    output = {e: area / p for e, p in rename(made, prefix).items()}
    results = {"pixfrac": inputs.pixfrac, "kernel": settings.kernel, "grid": check(output)}
    products = tuple(image_product(area, path.name, KINDS[e], hdu=0) for e, path in output.items())
    return Outcome(products, results, tuple(notes))
