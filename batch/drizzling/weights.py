"""Weight maps of a pixfrac sweep: opened lazily as one dataset, measured chunk by chunk.

What is measured
----------------
RMS/median
    Standard deviation (of the population, zeros included) over the median of the weight in a box, as the
    DrizzlePac handbook and the ACS drizzling tutorial take it. Large values mean that drops are so small that
    the exposures cover the output pixels unevenly.
Footprint
    The pixels that ought to have weight, the same for every pixfrac: inside the region covered (holes
    filled, rim shaved off, see `coverage`), in cells of at least half the median depth. Where the largest
    pixfrac is 0.7 or more its own pixels must reach half that depth as well: with drops that large the
    geometry leaves no gaps, so that what is missing there was rejected or bad in the input, and no choice of
    pixfrac can mend it. Such pixels are counted apart, as the masked fraction.
Empty fraction
    The part of the footprint that has no weight: gaps between drops.

Every number is exact in the sense of `tally`: chunks, threads and the order of work change no digit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize
from numpy.typing import NDArray

from batch.drizzling.coverage import (
    CELL,
    HALF_DEPTH,
    Coverage,
    PixelBox,
    cell_means,
    check_boxes,
    choose_boxes,
    survey,
)
from batch.drizzling.lazy import FitsImage
from batch.drizzling.regions import PERCENTILES, Measured, measure_regions
from batch.errors import InputError

GAPLESS = 0.7
"""From this pixfrac on, no output pixel fits between the drops of neighbouring input pixels."""


def open_weights(maps: Mapping[float, FitsImage], chunk: int = 1024) -> xr.Dataset:
    """Build one lazy dataset; no file is opened.

    Parameters
    ----------
    maps : mapping of float to FitsImage
        The weight map of each pixfrac.
    chunk : int
        Side of the chunks, output pixels; rounded up to a multiple of 8.

    Returns
    -------
    xarray.Dataset
        ``weight`` (float32, dims pixfrac, y, x), pixfrac ascending. Weights that are negative or no finite
        numbers become zero.

    Raises
    ------
    InputError
        If there are no maps, or they are not on one grid.
    """
    if not maps:
        raise InputError.about("weight maps", "there are none", "give one for each pixfrac")
    pixfracs = sorted(maps)
    shapes = {maps[p].shape: maps[p].path for p in pixfracs}
    if len(shapes) > 1:
        words = ", ".join(f"{Path(path).name} {shape}" for shape, path in shapes.items())
        raise InputError.about("weight maps", f"differ in shape: {words}", "drizzle them onto one grid")
    side = -(-chunk // CELL) * CELL
    layers = [_lazy(maps[p], side) for p in pixfracs]
    return xr.Dataset(
        {"weight": (("pixfrac", "y", "x"), da.stack(layers))},
        coords={"pixfrac": ("pixfrac", np.array(pixfracs, dtype=np.float64))},
    )


def statistics(
    maps: Mapping[float, str | Path | FitsImage],
    *,
    boxes: Sequence[PixelBox] = (),
    box_size: int = 400,
    box_count: int = 5,
    chunk: int = 1024,
) -> xr.Dataset:
    """Measure the weight maps of a pixfrac sweep, on the Dask scheduler that is current.

    Parameters
    ----------
    maps : mapping of float to path or FitsImage
        The weight map of each pixfrac: a file with an extension WHT, or with the map as its first image.
    boxes : sequence of PixelBox
        Where to measure RMS/median; none: chosen inside the common coverage.
    box_size, box_count : int
        Side (output pixels) and greatest number of the boxes that are chosen.
    chunk : int
        Side of the pieces that are in memory at a time, output pixels.

    Returns
    -------
    xarray.Dataset
        In memory, dims pixfrac, box and percentile; every variable says in its attributes what it is.

    Raises
    ------
    InputError
        For maps that cannot be read, differ in shape or hold no weight at all, and for boxes outside the
        footprint.
    """
    images = {p: m if isinstance(m, FitsImage) else FitsImage.find(m, "WHT") for p, m in maps.items()}
    dataset = open_weights(images, chunk)
    return measure(dataset, boxes=boxes, box_size=box_size, box_count=box_count)


def measure(
    dataset: xr.Dataset, *, boxes: Sequence[PixelBox] = (), box_size: int = 400, box_count: int = 5
) -> xr.Dataset:
    """Measure what `open_weights` built; parameters and result as for `statistics`."""
    weight: da.Array = dataset["weight"].data
    pixfracs: NDArray[np.float64] = dataset["pixfrac"].values
    shape = (weight.shape[1], weight.shape[2])
    coverage = survey_lazily(weight[-1])
    if coverage.nominal == 0:
        raise InputError.about(
            "weight maps",
            f"pixfrac {pixfracs[-1]:g} has no weight inside its footprint",
            "see whether the exposures lie on the output grid and are not flagged bad throughout",
        )
    if boxes:
        check_boxes(tuple(boxes), coverage, shape)
    else:
        boxes = choose_boxes(coverage, shape, box_size, box_count)
    footprint = _footprint(weight[-1], coverage, gapless=bool(pixfracs[-1] >= GAPLESS))
    regions = [(layer, footprint) for layer in weight]
    regions += [(layer[box.slices], None) for layer in weight for box in boxes]
    measured = measure_regions(regions)
    inside = int(_pixels(coverage.interior, shape).sum().compute())
    return _dataset(pixfracs, tuple(boxes), measured, coverage, inside)


def survey_lazily(layer: da.Array) -> Coverage:
    """The coverage of one weight map, read chunk by chunk; its chunks are whole cells."""
    chunks = tuple(tuple(-(-n // CELL) for n in axis) for axis in layer.chunks)
    cells = layer.map_blocks(cell_means, chunks=chunks, dtype=np.float64, meta=np.empty((0, 0)))
    return survey(cells.compute())


def _lazy(image: FitsImage, side: int) -> da.Array:
    raw = da.from_array(
        image,
        chunks=(side, side),
        name=f"fits-{tokenize(image.path, image.hdu, image.shape, str(image.dtype), side)}",
        lock=False,
        inline_array=True,
        meta=np.empty((0, 0), dtype=image.dtype),
    )
    return raw.map_blocks(_clean, dtype=np.float32, meta=np.empty((0, 0), dtype=np.float32))


def _clean(block: NDArray[Any]) -> NDArray[np.float32]:
    weights = block.astype(np.float32, copy=False)
    return np.where(np.isfinite(weights) & (weights > 0), weights, np.float32(0))


def _pixels(cells: NDArray[np.bool_], shape: tuple[int, int], side: int = 128) -> da.Array:
    """Cells as a lazy mask of pixels."""
    lazy = da.from_array(cells, chunks=side)
    chunks = tuple(tuple(n * CELL for n in axis) for axis in lazy.chunks)
    return lazy.map_blocks(_enlarge, chunks=chunks, dtype=bool)[: shape[0], : shape[1]]


def _enlarge(cells: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return cells.repeat(CELL, axis=0).repeat(CELL, axis=1)


def _footprint(layer: da.Array, coverage: Coverage, *, gapless: bool) -> da.Array:
    mask = _pixels(coverage.deep, layer.shape, layer.chunksize[0] // CELL)
    return mask & (layer >= np.float32(HALF_DEPTH * coverage.nominal)) if gapless else mask


def _dataset(
    pixfracs: NDArray[np.float64],
    boxes: tuple[PixelBox, ...],
    measured: list[Measured],
    coverage: Coverage,
    interior: int,
) -> xr.Dataset:
    """Name the numbers: `measured` holds the footprint of each pixfrac, then each box of each pixfrac."""
    n = len(pixfracs)
    overall = measured[:n]
    by_box = [measured[n + i * len(boxes) : n + (i + 1) * len(boxes)] for i in range(n)]
    rms = np.array([[m.rms for m in row] for row in by_box])
    median = np.array([[m.median for m in row] for row in by_box])
    ratio = _ratio(rms, median)
    whole_rms, whole_median = (np.array([getattr(m, k) for m in overall]) for k in ("rms", "median"))
    empty = np.array([m.zeros for m in overall])
    size = overall[0].size
    per, each = ("pixfrac",), ("pixfrac", "box")
    variables: dict[str, tuple[tuple[str, ...], Any, str]] = {
        "rms": (each, rms, "standard deviation of the weight in the box"),
        "median": (each, median, "median weight in the box"),
        "mean": (each, np.array([[m.mean for m in row] for row in by_box]), "mean weight in the box"),
        "box_rms_over_median": (each, ratio, "rms / median in the box; inf where the median is zero"),
        "rms_over_median": (per, np.median(ratio, axis=1), "median of box_rms_over_median over the boxes"),
        "overall_rms": (per, whole_rms, "standard deviation of the weight in the footprint"),
        "overall_median": (per, whole_median, "median weight in the footprint"),
        "overall_rms_over_median": (
            per,
            _ratio(whole_rms, whole_median),
            "overall_rms / overall_median; depth that varies between exposures is in it",
        ),
        "empty_pixels": (per, empty.astype(np.int32), "pixels of the footprint without weight"),
        "empty_fraction": (per, empty / max(size, 1), "empty_pixels / footprint_pixels"),
        "depth": (
            ("pixfrac", "percentile"),
            np.array([m.levels for m in overall]),
            "weight in the footprint",
        ),
        "footprint_pixels": ((), np.int32(size), "pixels that ought to have weight"),
        "masked_fraction": (
            (),
            1 - size / max(interior, 1),
            "part of the covered region that is not in the footprint: bad or rejected in the input, or rim",
        ),
        "nominal_depth": ((), coverage.nominal, "median over cells of 8 x 8 pixels at the largest pixfrac"),
    }
    corners = {
        k: ("box", np.array([getattr(b, k) for b in boxes], np.int32)) for k in ("x0", "x1", "y0", "y1")
    }
    return xr.Dataset(
        {name: (dims, values, {"long_name": text}) for name, (dims, values, text) in variables.items()},
        coords={
            "pixfrac": ("pixfrac", pixfracs),
            "percentile": ("percentile", np.array(PERCENTILES)),
            **corners,
        },
        attrs={"title": "Statistics of drizzle weight maps", "boxes": "zero-based, upper limits outside"},
    )


def _ratio(rms: NDArray[np.float64], median: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(rms, median, out=np.full_like(rms, np.inf), where=median > 0)
