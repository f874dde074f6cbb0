"""The final drizzles, at every pixfrac: the grid, the masks and the sky of combine."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from batch.config import Settings, SweepSettings
from batch.drizzling.size import largest_chip, output_pixels
from batch.model.observation import Association, Exposure
from batch.model.plan import Needs, Stage, pixfrac_name
from batch.stages.combine import KINDS, find_flats, link_flats
from batch.stages.interface import Inputs, Outcome, image_product


def needs(association: Association, exposure: Exposure | None, settings: Settings) -> Needs:
    """What one pixfrac takes, and what the next one adds.

    ``astrodrizzle``: 290 MB for the libraries, 35 bytes a pixel of a chip, 12 a pixel of the output.
    ``multi`` holds all exposures, and a band of the output, whatever the number of pixfracs.
    """
    chip, output = largest_chip(association), output_pixels(association, settings.combine.scale)
    pixels = sum(e.chips for e in association.exposures) * chip
    timeout = 1800 + 300 * len(association.exposures)
    if settings.sweep.chosen_engine == "multi":
        return Needs(
            memory=round(330_000_000 + 8 * pixels + 7_000 * output**0.5),
            seconds=2 + 1e-7 * pixels + 2e-8 * output,
            timeout=timeout,
            together=0,
        )
    return Needs(
        memory=round(330_000_000 + 40 * chip + 12 * output),
        seconds=5 + 2e-7 * pixels + 4e-8 * output,
        timeout=timeout,
    )


STAGE = Stage("sweep", "pixfrac", ("combine", "references"), version=2, needs=needs)


def run(inputs: Inputs, area: Path, settings: SweepSettings) -> Outcome:
    """Drizzle the masked exposures at one pixfrac, with everything else but the kernel as in combine.

    Raises
    ------
    LibraryError
        When AstroDrizzle fails or its mosaic is not sound.
    InputError
        When exposures are unsound or do not fall on the grid.
    """
    if settings.chosen_engine == "multi":
        return run_together([inputs], area, settings)[0]
    return _by_astrodrizzle(inputs, area, settings)


def run_together(group: Sequence[Inputs], area: Path, settings: SweepSettings) -> list[Outcome]:
    """The same at several pixfracs, from one reading of the exposures and one mapping of their pixels."""
    from batch.drizzling.multi import Grid, Input, drizzle

    first = group[0]
    combined = first.record("combine").results
    flats, notes = find_flats(first) if combined["weight"] == "IVM" else ({}, [])
    roots = [e.rootname for e in first.association.exposures]
    exposures = [
        Input(path, tuple(combined["sky"][root]), flats.get(root))
        for root, path in zip(roots, first.files("combine", "flt"), strict=True)
    ]
    mosaic, weight, context = (first.file("combine", KINDS[e]) for e in ("sci", "wht", "ctx"))
    made = drizzle(
        exposures,
        Grid.read(mosaic, weight, context),
        [inputs.pixfrac for inputs in group],
        lambda pixfrac: area / _prefix(first, pixfrac),
        weight=combined["weight"],
        bits=combined["bits"],
        threads=first.task.needs.threads,
        memory=first.task.needs.memory,
    )
    return [
        _outcome(area, m.pixfrac, m.paths, {**combined["grid"], "covered": m.covered}, settings, notes)
        for m in made
    ]


def _by_astrodrizzle(inputs: Inputs, area: Path, settings: SweepSettings) -> Outcome:
    from batch.drizzling.astrodrizzle import final
    from batch.drizzling.mosaic import check, rename

    combined = inputs.record("combine").results
    sources = inputs.files("combine", "flt")
    names = [shutil.copyfile(path, area / path.name).name for path in sources]
    roots = [e.rootname for e in inputs.association.exposures]
    notes = link_flats(inputs, area) if combined["weight"] == "IVM" else []
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
    output = {e: area / p for e, p in rename(made, _prefix(inputs, inputs.pixfrac)).items()}
    return _outcome(area, inputs.pixfrac, output, check(output), settings, notes)


def _prefix(inputs: Inputs, pixfrac: float) -> str:
    suffix = inputs.record("combine").results["suffix"]
    return f"{inputs.association.name}_{pixfrac_name(pixfrac)}_{suffix}"


def _outcome(
    area: Path,
    pixfrac: float,
    output: dict[str, Path],
    grid: dict[str, Any],
    settings: SweepSettings,
    notes: list[str],
) -> Outcome:
    results = {
        "pixfrac": pixfrac,
        "kernel": settings.kernel,
        "engine": settings.chosen_engine,
        "grid": grid,
    }
    products = tuple(image_product(area, path.name, KINDS[e], hdu=0) for e, path in output.items())
    return Outcome(products, results, tuple(notes))
