"""The final drizzles, at every pixfrac, scale and kernel: the area, the masks and the sky of combine."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batch.config import Settings
from batch.config.mosaics import StatisticsSettings, SweepSettings
from batch.drizzling.size import LARGEST_DROP, drop, largest_chip, output_pixels
from batch.errors import UsageError
from batch.model.drizzle import Drizzle
from batch.model.json import decode, encode
from batch.model.observation import Association
from batch.model.plan import Needs, Stage
from batch.model.record import Record
from batch.stages.combine import KINDS, find_flats, link_flats
from batch.stages.interface import Inputs, Outcome, image_product

if TYPE_CHECKING:
    from batch.drizzling.grid import Grid
    from batch.drizzling.lazy import FitsImage


def needs(association: Association, drizzle: Drizzle, settings: Settings) -> Needs:
    """What one pixfrac takes, and what the next one adds.

    ``astrodrizzle``: 290 MB for the libraries, 35 bytes a pixel of a chip, 12 a pixel of the output.
    ``multi`` holds all exposures, and a band of the output, whatever the number of pixfracs.
    """
    chip, output = (
        largest_chip(association),
        output_pixels(association, drizzle.scale or settings.combine.scale),
    )
    pixels = sum(e.chips for e in association.exposures) * chip
    timeout = 1800 + 300 * len(association.exposures)
    if settings.sweep.engine_of(drizzle.kernel) == "multi":
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
        imports=("drizzlepac",),
    )


def check(association: Association, settings: Settings) -> None:
    """Refuse scales that are too fine for the engine.

    Raises
    ------
    UsageError
        With the finest that will do, to some per cent.
    """
    scale = min(settings.sweep.scale, default=settings.combine.scale)
    engines = {settings.sweep.engine_of(kernel) for kernel in settings.sweep.kernel}
    if scale is None or "multi" not in engines:
        return
    for exposure in association.exposures:
        covered = max(settings.sweep.pixfrac) * drop(exposure, scale, settings.combine.rotation)
        if covered >= LARGEST_DROP:
            least = scale * covered / LARGEST_DROP
            raise UsageError(
                f"{'sweep' if settings.sweep.scale else 'combine'}.scale {scale:g}: an input pixel of "
                f"{exposure.rootname} covers {covered:.1f} output pixels across, and engine multi takes "
                f"fewer than {LARGEST_DROP:g}; choose {1.1 * least:.4f} or more, or sweep.engine=astrodrizzle"
            )


STAGE = Stage(
    "sweep",
    "drizzle",
    ("combine", "references"),
    version=3,
    needs=needs,
    check=check,
    tries=("statistics",),
)


def run(inputs: Inputs, area: Path, settings: SweepSettings) -> Outcome:
    """Drizzle the masked exposures once; but for pixfrac, scale and kernel, everything is as in combine.

    Raises
    ------
    LibraryError
        When AstroDrizzle fails or its mosaic is not sound.
    UsageError
        For a scale that the engine cannot do.
    InputError
        When exposures are unsound or do not fall on the grid, or boxes of the statistics lie outside the
        footprint.
    """
    if settings.engine_of(inputs.drizzle.kernel) == "multi":
        return run_together([inputs], area, settings)[0]
    _try_boxes(inputs, settings)
    return _by_astrodrizzle(inputs, area)


def run_together(group: Sequence[Inputs], area: Path, settings: SweepSettings) -> list[Outcome]:
    """The same at several pixfracs, from one reading of the exposures and one mapping of their pixels."""
    from batch.drizzling.multi import Input, drizzle

    first = group[0]
    _try_boxes(first, settings)
    combined = first.record("combine").results
    flats, notes = find_flats(first) if combined["weight"] == "IVM" else ({}, [])
    roots = [e.rootname for e in first.association.exposures]
    exposures = [
        Input(path, tuple(combined["sky"][root]), flats.get(root))
        for root, path in zip(roots, first.files("combine", "flt"), strict=True)
    ]
    grid = _grid(first)
    by_pixfrac = {inputs.drizzle.pixfrac: inputs for inputs in group}
    made = drizzle(
        exposures,
        grid,
        list(by_pixfrac),
        lambda pixfrac: area / _prefix(by_pixfrac[pixfrac]),
        weight=combined["weight"],
        bits=combined["bits"],
        threads=first.task.needs.threads,
        memory=first.task.needs.memory,
    )
    same = {**combined["grid"], **grid.numbers}
    return [
        _outcome(by_pixfrac[m.pixfrac], area, m.paths, {**same, "covered": m.covered}, "multi", notes)
        for m in made
    ]


def _by_astrodrizzle(inputs: Inputs, area: Path) -> Outcome:
    from batch.drizzling.astrodrizzle import final
    from batch.drizzling.mosaic import check, rename

    combined = inputs.record("combine").results
    sources = inputs.files("combine", "flt")
    names = [shutil.copyfile(path, area / path.name).name for path in sources]
    roots = [e.rootname for e in inputs.association.exposures]
    notes = link_flats(inputs, area) if combined["weight"] == "IVM" else []
    grid = area / "grid.fits"
    _grid(inputs).write_reference(grid)
    made = final(
        names,
        grid=grid,
        sky={name: combined["sky"][root] for name, root in zip(names, roots, strict=True)},
        bits=combined["bits"],
        weight=combined["weight"],
        pixfrac=inputs.drizzle.pixfrac,
        kernel=inputs.drizzle.kernel,
    )
    output = {e: area / p for e, p in rename(made, _prefix(inputs)).items()}
    return _outcome(inputs, area, output, check(output), "astrodrizzle", notes)


def _try_boxes(inputs: Inputs, settings: SweepSettings) -> None:
    """Refuse boxes that `statistics` is bound to refuse when all is drizzled; combine's mosaic tells."""
    boxes = StatisticsSettings.model_validate(inputs.settings.get("statistics", {})).boxes
    if not boxes:
        return
    import dask

    from batch.drizzling.coverage import PixelBox, try_boxes
    from batch.drizzling.lazy import FitsImage
    from batch.drizzling.weights import open_weights, survey_lazily

    record = inputs.record("combine")
    (weight,) = (p for p in record.products if p.kind == "weight")
    image = FitsImage.of(inputs.path(record, weight), weight)
    with dask.config.set(scheduler="synchronous"):
        coverage = survey_lazily(open_weights({1.0: image})["weight"].data[0])
    combined = _scale(record.results["grid"])
    factor = min(settings.scale, default=combined) / combined
    try_boxes(tuple(PixelBox(b.x0, b.x1, b.y0, b.y1) for b in boxes), coverage, image.shape, factor)


@dataclass(frozen=True)
class Family:
    """Published drizzles of one scale and kernel, on one grid."""

    name: str
    """`Drizzle.family`; empty where there is but one."""
    kernel: str
    scale: float
    """Side of an output pixel, arcsec."""
    grid: Mapping[str, Any]
    """Shape and WCS (`Grid.numbers`)."""
    images: Mapping[float, Mapping[str, FitsImage]]
    """``mosaic``, ``weight``, ``context``, as far as they are there, by pixfrac."""

    def each(self, kind: str) -> dict[float, FitsImage]:
        """The images of one kind by pixfrac."""
        return {pixfrac: images[kind] for pixfrac, images in self.images.items() if kind in images}

    @property
    def identity(self) -> dict[str, Any]:
        """What it is, as JSON values."""
        return {"family": self.name, "scale": self.scale, "kernel": self.kernel}


def families(inputs: Inputs) -> list[Family]:
    """What the sweep published, in the order of preference (`batch.model.drizzle.combinations`)."""
    from batch.drizzling.lazy import FitsImage

    grouped: dict[tuple[str, str], list[tuple[Drizzle, Record]]] = {}
    for record in inputs.records("sweep"):
        drizzle = decode(Drizzle, record.results["drizzle"])
        grouped.setdefault((drizzle.family, drizzle.kernel), []).append((drizzle, record))
    return [
        Family(
            name,
            kernel,
            members[0][1].results["scale"],
            members[0][1].results["grid"],
            {
                drizzle.pixfrac: {p.kind: FitsImage.of(inputs.path(record, p), p) for p in record.products}
                for drizzle, record in members
            },
        )
        for (name, kernel), members in grouped.items()
    ]


def _grid(inputs: Inputs) -> Grid:
    """Combine's grid, or the same area with pixels of another size."""
    from batch.drizzling.grid import Grid

    grid = Grid.read(*(inputs.file("combine", KINDS[e]) for e in ("sci", "wht", "ctx")))
    return grid if inputs.drizzle.scale is None else grid.rescaled(inputs.drizzle.scale)


def _prefix(inputs: Inputs) -> str:
    suffix = inputs.record("combine").results["suffix"]
    return f"{inputs.association.name}_{inputs.drizzle.name}_{suffix}"


def _outcome(
    inputs: Inputs, area: Path, output: dict[str, Path], grid: dict[str, Any], engine: str, notes: list[str]
) -> Outcome:
    products = tuple(image_product(area, path.name, KINDS[e], hdu=0) for e, path in output.items())
    results = {"drizzle": encode(inputs.drizzle), "scale": _scale(grid), "engine": engine, "grid": grid}
    return Outcome(products, results, tuple(notes))


def _scale(grid: Mapping[str, Any]) -> float:
    """Side of an output pixel, arcsec."""
    (a, b), (c, d) = grid["cd"]
    return round(3600 * math.sqrt(abs(a * d - b * c)), 6)
