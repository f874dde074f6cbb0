"""statistics: the weight maps of the sweep -> RMS/median, empty pixels, depth and tiles of each drizzle."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batch.config import Settings
from batch.config.mosaics import StatisticsSettings
from batch.drizzling.size import PIXEL, falls_beside, foreseen, output_pixels
from batch.errors import InputError
from batch.model.observation import Association, Exposure
from batch.model.plan import Needs, Stage
from batch.stages.interface import Inputs, Outcome, product
from batch.stages.sweep import Family, families

if TYPE_CHECKING:
    import xarray as xr

    from batch.drizzling.coverage import PixelBox

_SLACK, _MARGIN = 1.1, 200
"""A mosaic has at most that many times the pixels that were foreseen, and that many more, each way."""


def needs(association: Association, exposure: Exposure | None, settings: Settings) -> Needs:
    """Libraries, a few chunks, the cells of the mosaic; two passes over every map.

    Measured for ten pixfracs: 0.24 GB and 5 s at 3,026 x 3,866, 0.49 GB and 32 s at 9,240 x 9,240; 0.53 GB
    with two threads at 9,000 x 9,000.
    """
    scales = settings.sweep.scale or (settings.combine.scale,)
    each = [output_pixels(association, scale) for scale in scales]
    pixels = max(each)
    whole = settings.statistics.chunk + settings.statistics.tile
    maps = len(settings.sweep.pixfrac) * len(settings.sweep.kernel)
    seconds = 3 + 4e-8 * sum(each) * maps
    return Needs(
        memory=round(250_000_000 + 40 * whole**2 + 3.5 * pixels),
        seconds=seconds,
        timeout=600 + 20 * seconds,
    )


def check(association: Association, settings: Settings) -> None:
    """Refuse boxes that lie outside the mosaic, or beside the exposures, wherever these lie exactly.

    Raises
    ------
    InputError
        With the box and about how large the mosaic will be.
    """
    scale, rotation = min(settings.sweep.scale, default=settings.combine.scale), settings.combine.rotation
    shape = foreseen(association, scale, rotation)
    for box in settings.statistics.boxes if shape else ():
        rows, columns = shape or (0, 0)
        margin = (_SLACK - 1) / 2 * max(rows, columns) + _MARGIN
        if box.x1 > _SLACK * columns + _MARGIN or box.y1 > _SLACK * rows + _MARGIN:
            raise InputError.about(
                f"statistics.boxes x {box.x0}:{box.x1}, y {box.y0}:{box.y1}",
                f"reaches beyond the mosaic of {association.name}, about {columns} x {rows} pixels",
                "choose it inside, or leave statistics.boxes out",
            )
        if falls_beside(association, (box.x0, box.x1, box.y0, box.y1), margin, scale, rotation):
            raise InputError.about(
                f"statistics.boxes x {box.x0}:{box.x1}, y {box.y0}:{box.y1}",
                f"lies where no exposure of {association.name} points, at least in part: they cover the "
                f"mosaic of about {columns} x {rows} pixels only where their chips, turned as they are, fall",
                "choose it nearer to the middle, or leave statistics.boxes out",
            )


STAGE = Stage("statistics", "association", after=("sweep",), version=3, needs=needs, check=check)


def run(inputs: Inputs, area: Path, settings: StatisticsSettings) -> Outcome:
    """Measure the weight maps, chunk by chunk, and write ``<association>_weights.nc``.

    Each scale and kernel has a file of its own, ``<association>_s0.04_gaussian_weights.nc``; all are measured
    in the same places on the sky.

    Raises
    ------
    InputError
        If the sweep left no weight map, the maps differ in shape or are empty, or a box of the user's lies
        outside the footprint.
    """
    from batch.drizzling.coverage import PixelBox

    found = [family for family in families(inputs) if family.each("weight")]
    if not found:
        raise InputError.about(inputs.association.name, "the sweep left no weight map", "run the sweep again")
    boxes = tuple(PixelBox(b.x0, b.x1, b.y0, b.y1) for b in settings.boxes)
    pixel = PIXEL.get(inputs.association.exposures[0].detector, PIXEL["WFC"])
    products, results = [], []
    notes: tuple[str, ...] = ()
    for family in found:
        factor = found[0].scale / family.scale
        placed = tuple(box.on_grid(factor) for box in boxes)
        dataset = _measure(inputs, family, placed, pixel, settings)
        if not boxes:
            # chosen on the finest grid, and then the same on the sky for all
            boxes = boxes_of(dataset)
            notes = _notes(dataset, settings)
        name = f"{'_'.join(filter(None, (inputs.association.name, family.name)))}_weights.nc"
        dataset.to_netcdf(area / name, engine="scipy")
        products.append(product(area, name, "statistics"))
        results.append({**family.identity, "file": name, **summary(dataset)})
    return Outcome(tuple(products), {"families": results, "boxes_given": bool(settings.boxes)}, notes)


def _measure(
    inputs: Inputs, family: Family, boxes: tuple[PixelBox, ...], pixel: float, settings: StatisticsSettings
) -> xr.Dataset:
    import dask

    from batch.drizzling.weights import gapless, measure, open_weights, whole_tiles

    # The task's own process: threads are what the plan grants, not what Dask would take.
    with dask.config.set(scheduler="threads", num_workers=inputs.task.needs.threads):
        dataset = measure(
            open_weights(family.each("weight"), whole_tiles(settings.chunk, settings.tile)),
            boxes=boxes,
            box_size=settings.box_size,
            box_count=settings.box_count,
            tile=settings.tile,
            gapless=gapless(family.kernel, family.scale / pixel),
        )
    return dataset.assign_attrs(scale=family.scale, kernel=family.kernel)


def boxes_of(dataset: xr.Dataset) -> tuple[PixelBox, ...]:
    """The boxes that were measured."""
    from batch.drizzling.coverage import PixelBox

    corners = zip(*(dataset[k].values.tolist() for k in ("x0", "x1", "y0", "y1")), strict=True)
    return tuple(PixelBox(*box) for box in corners)


def summary(dataset: xr.Dataset) -> dict[str, Any]:
    """The numbers as JSON values; what is no finite number is None."""
    names = (
        "rms_over_median",
        "overall_rms_over_median",
        "empty_fraction",
        "empty_pixels",
        "edge_empty_fraction",
        "edge_empty_pixels",
        "tiles_middle",
        "tiles_high",
    )
    per_box = ("box_rms_over_median", "rms", "median")
    rows = []
    for pixfrac in dataset["pixfrac"].values.tolist():
        at = dataset.sel(pixfrac=pixfrac)
        rows.append(
            {
                "pixfrac": pixfrac,
                **{name: _finite(at[name].item()) for name in names},
                **{name: [_finite(v) for v in at[name].values.tolist()] for name in per_box},
                "depth": [_finite(v) for v in at["depth"].values.tolist()],
            }
        )
    return {
        "pixfracs": rows,
        "boxes": [asdict(box) for box in boxes_of(dataset)],
        "percentiles": dataset["percentile"].values.tolist(),
        "tile": int(dataset.attrs["tile"]),
        "footprint_pixels": int(dataset["footprint_pixels"]),
        "edge_pixels": int(dataset["edge_pixels"]),
        "masked_fraction": float(dataset["masked_fraction"]),
        "nominal_depth": float(dataset["nominal_depth"]),
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _notes(dataset: xr.Dataset, settings: StatisticsSettings) -> tuple[str, ...]:
    side = int(dataset["x1"].values[0] - dataset["x0"].values[0])
    if settings.boxes or side >= settings.box_size // 8 * 8:
        return ()
    wanted = settings.box_size
    return (f"boxes of {side} pixels instead of {wanted}: no larger one fits where all exposures contribute",)
