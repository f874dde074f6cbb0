"""statistics: the weight maps of the sweep -> RMS/median, empty pixels, depth and tiles at each pixfrac."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batch.config import Settings, StatisticsSettings
from batch.drizzling.size import output_pixels
from batch.errors import InputError
from batch.model.observation import Association, Exposure
from batch.model.plan import Needs, Stage
from batch.model.record import Record
from batch.stages.interface import Inputs, Outcome, product

if TYPE_CHECKING:
    import xarray as xr

_USUAL_PIXFRACS = 10


def needs(association: Association, exposure: Exposure | None, settings: Settings) -> Needs:
    """Libraries, a few chunks, the cells of the mosaic; two passes over every map.

    Measured for ten pixfracs: 0.24 GB and 5 s at 3,026 x 3,866, 0.49 GB and 32 s at 9,240 x 9,240.
    """
    pixels = output_pixels(association, settings.combine.scale)
    whole = settings.statistics.chunk + settings.statistics.tile
    seconds = 3 + 4e-8 * pixels * _USUAL_PIXFRACS
    return Needs(
        memory=230_000_000 + 40 * whole**2 + 3 * pixels,
        seconds=seconds,
        timeout=600 + 20 * seconds,
    )


STAGE = Stage("statistics", "association", after=("sweep",), version=2, needs=needs)


def run(inputs: Inputs, area: Path, settings: StatisticsSettings) -> Outcome:
    """Measure the weight maps, chunk by chunk, and write ``<association>_weights.nc``.

    Raises
    ------
    InputError
        If the sweep left no weight map, the maps differ in shape or are empty, or a box of the user's lies
        outside the footprint.
    """
    import dask

    from batch.drizzling.coverage import PixelBox
    from batch.drizzling.lazy import FitsImage
    from batch.drizzling.weights import measure, open_weights, whole_tiles

    maps = {
        pixfrac_of(record): FitsImage.of(inputs.path(record, p), p)
        for record in inputs.records("sweep")
        for p in record.products
        if p.kind == "weight"
    }
    if not maps:
        raise InputError.about(inputs.association.name, "the sweep left no weight map", "run the sweep again")
    boxes = tuple(PixelBox(b.x0, b.x1, b.y0, b.y1) for b in settings.boxes)
    # The task's own process: threads are what the plan grants, not what Dask would take.
    with dask.config.set(scheduler="threads", num_workers=inputs.task.needs.threads):
        dataset = measure(
            open_weights(maps, whole_tiles(settings.chunk, settings.tile)),
            boxes=boxes,
            box_size=settings.box_size,
            box_count=settings.box_count,
            tile=settings.tile,
        )
    name = f"{inputs.association.name}_weights.nc"
    dataset.to_netcdf(area / name, engine="scipy")
    return Outcome(
        products=(product(area, name, "statistics"),),
        results={**summary(dataset), "boxes_given": bool(boxes)},
        notes=_notes(dataset, settings),
    )


def pixfrac_of(record: Record) -> float:
    """The pixfrac of a record of the sweep."""
    return float(record.results["drizzle"]["pixfrac"])


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
    boxes = [
        {k: int(dataset[k].values[i]) for k in ("x0", "x1", "y0", "y1")} for i in range(dataset.sizes["box"])
    ]
    return {
        "pixfracs": rows,
        "boxes": boxes,
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
