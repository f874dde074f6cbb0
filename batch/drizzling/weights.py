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
    pixfrac is 0.7 or more (`gapless`) its own pixels must reach half that depth as well: with drops that
    large the geometry leaves no gaps, so that what is missing there was rejected or bad in the input, and no
    choice of pixfrac can mend it. Such pixels are counted apart, as the masked fraction.
Edge
    What else was observed: the rim, and places of less than half the median depth, where fewer exposures than
    usual contribute. Only pixels count that have weight at the largest pixfrac, so that the outline of the
    mosaic is not taken for gaps.
Empty fraction
    The part of the footprint, or of the edge, that has no weight: gaps between drops.
Tiles
    RMS, median and their ratio once more, in squares all over the mosaic, of the pixels in the footprint:
    where a pixfrac is too small. Depth that changes inside a tile counts as RMS there.

Chunks, threads and the order of work change no digit: integers are added up (see `tally`), and what is not an
integer is computed of a whole tile at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
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
from batch.drizzling.regions import EDGE, INSIDE, OUTSIDE, measure_all
from batch.drizzling.weight_dataset import describe
from batch.drizzling.weight_maps import find_maps
from batch.errors import InputError

GAPLESS = 0.7
"""From this pixfrac on, no output pixel fits between the drops of neighbouring input pixels."""


def gapless(kernel: str, ratio: float) -> float:
    """The pixfrac from which on a drizzle leaves no gaps, wherever the exposures point.

    Parameters
    ----------
    kernel : str
        Points leave gaps whatever the pixfrac.
    ratio : float
        Output over input pixel: between drops of pixfrac p there is 1 - p of an input pixel, in which no
        output pixel must fit.
    """
    return math.inf if kernel == "point" else max(GAPLESS, min(1.0, 1 - ratio))


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
    maps: Mapping[float, str | Path | FitsImage] | Iterable[str | Path] | str | Path,
    *,
    boxes: Sequence[PixelBox] = (),
    box_size: int = 400,
    box_count: int = 5,
    tile: int = 256,
    chunk: int = 1024,
) -> xr.Dataset:
    """Measure the weight maps of a pixfrac sweep, on the Dask scheduler that is current.

    Parameters
    ----------
    maps : mapping of float to path or FitsImage, or paths
        The weight map of each pixfrac, anyone's: a file with an extension WHT, as AstroDrizzle with
        ``build=True`` and the HAP pipelines write it (``drz``, ``drc``), or with the map as its only image.
        Of plain paths the pixfrac is taken from the header (D001PIXF).
    boxes : sequence of PixelBox
        Where to measure RMS/median; none: chosen inside the common coverage.
    box_size, box_count : int
        Side (output pixels) and greatest number of the boxes that are chosen.
    tile : int
        Side of the tiles, output pixels; rounded up to a multiple of 8.
    chunk : int
        Side of the pieces that are in memory at a time, output pixels; rounded up to whole tiles.

    Returns
    -------
    xarray.Dataset
        In memory, dims pixfrac, box, percentile, tile_y and tile_x; every variable says in its attributes
        what it is.

    Raises
    ------
    InputError
        For maps that cannot be read, do not tell their pixfrac, differ in shape or hold no weight at all, and
        for boxes outside the footprint.
    """
    dataset = open_weights(find_maps(maps), whole_tiles(chunk, tile))
    return measure(dataset, boxes=boxes, box_size=box_size, box_count=box_count, tile=tile)


def whole_tiles(chunk: int, tile: int) -> int:
    """The side of chunks of at least `chunk` pixels that cut no tile."""
    side = -(-tile // CELL) * CELL
    return -(-chunk // side) * side


def measure(
    dataset: xr.Dataset,
    *,
    boxes: Sequence[PixelBox] = (),
    box_size: int = 400,
    box_count: int = 5,
    tile: int = 256,
    gapless: float = GAPLESS,
) -> xr.Dataset:
    """Measure what `open_weights` built; parameters and result as for `statistics`.

    Parameters
    ----------
    gapless : float
        From this pixfrac on the drizzle itself leaves no gaps (see the function of that name).
    """
    side = whole_tiles(1, tile)
    chunk = whole_tiles(max(dataset["weight"].data.chunksize[1:]), tile)
    # no change where chunks are whole tiles already, as `statistics` and the stage have them
    weight: da.Array = dataset["weight"].data.rechunk((1, chunk, chunk))
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
    zones = _zones(weight[-1], coverage, without_gaps=bool(pixfracs[-1] >= gapless))
    cuts = [layer[box.slices] for layer in weight for box in boxes]
    maps, measured = measure_all(list(weight), zones, side, cuts)
    for pixfrac, found in zip(pixfracs, maps, strict=True):
        if found.footprint.zeros == found.footprint.size:
            raise InputError.about(
                "weight maps",
                f"pixfrac {pixfrac:g} has no weight where pixfrac {pixfracs[-1]:g} has some",
                "drizzle it again, with the exposures and the grid of the others",
            )
    inside = int(_pixels(coverage.interior, shape).sum().compute())
    return describe(pixfracs, tuple(boxes), maps, measured, coverage, inside, side)


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


def _zones(layer: da.Array, coverage: Coverage, *, without_gaps: bool) -> da.Array:
    """Footprint, edge and outside, as `regions` numbers them; chunks as the layer's."""
    side = layer.chunksize[0] // CELL
    deep, covered = (_pixels(cells, layer.shape, side) for cells in (coverage.deep, coverage.covered))
    footprint = deep & (layer >= np.float32(HALF_DEPTH * coverage.nominal)) if without_gaps else deep
    zones = da.where(footprint, INSIDE, da.where(covered & ~deep & (layer > 0), EDGE, OUTSIDE))
    return zones.rechunk(layer.chunks)
