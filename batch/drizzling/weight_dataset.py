"""The numbers of weight maps as a dataset whose variables say what they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from batch.drizzling.coverage import Coverage, PixelBox
from batch.drizzling.regions import PERCENTILES, Measured, MeasuredMap
from batch.drizzling.weight_tiles import FULL

Numbers = NDArray[np.float64]
Variable = tuple[tuple[str, ...], Any, str]
"""Dims, values, and what they are."""

_PER = ("pixfrac",)


def describe(
    pixfracs: Numbers,
    boxes: tuple[PixelBox, ...],
    maps: Sequence[MeasuredMap],
    measured: Sequence[Measured],
    coverage: Coverage,
    interior: int,
    tile: int,
) -> xr.Dataset:
    """Name the numbers.

    Parameters
    ----------
    pixfracs : ndarray of float64, shape (n,)
    boxes : tuple of PixelBox
    maps : sequence of MeasuredMap
        One for each pixfrac.
    measured : sequence of Measured
        Each box of the first pixfrac, each box of the second, and so on.
    coverage : Coverage
    interior : int
        Pixels inside the region covered.
    tile : int
        Side of the tiles, pixels.
    """
    size = maps[0].footprint.size
    variables = (
        _of_boxes([measured[i * len(boxes) : (i + 1) * len(boxes)] for i in range(len(maps))])
        | _of_maps(maps)
        | _of_tiles(maps)
        | {
            "footprint_pixels": ((), np.int32(size), "pixels that ought to have weight"),
            "edge_pixels": (
                (),
                np.int32(maps[0].edge),
                "pixels of the rim and of places less than half as deep, with weight at the largest pixfrac",
            ),
            "masked_fraction": (
                (),
                1 - size / max(interior, 1),
                "part of the covered region not in the footprint: bad or rejected in the input, or rim",
            ),
            "nominal_depth": (
                (),
                coverage.nominal,
                "median over cells of 8 x 8 pixels at the largest pixfrac",
            ),
        }
    )
    corners = {
        k: ("box", np.array([getattr(b, k) for b in boxes], np.int32)) for k in ("x0", "x1", "y0", "y1")
    }
    rows, columns = maps[0].tiles.size.shape
    centres = {
        name: (
            name,
            tile * (np.arange(n) + 0.5) - 0.5,
            {"long_name": f"centre of the tile, zero-based {axis}"},
        )
        for name, n, axis in (("tile_y", rows, "row"), ("tile_x", columns, "column"))
    }
    return xr.Dataset(
        {name: (dims, values, {"long_name": text}) for name, (dims, values, text) in variables.items()},
        coords={
            "pixfrac": ("pixfrac", pixfracs),
            "percentile": ("percentile", np.array(PERCENTILES)),
            **corners,
            **centres,
        },
        attrs={
            "title": "Statistics of drizzle weight maps",
            "boxes": "zero-based, upper limits outside",
            "tile": np.int32(tile),
            "tiles": f"squares of `tile` pixels; numbers where {FULL:g} of the pixels or more are footprint",
        },
    )


def _of_boxes(by_box: Sequence[Sequence[Measured]]) -> dict[str, Variable]:
    each = ("pixfrac", "box")
    rms, median, mean = (
        np.array([[getattr(m, k) for m in row] for row in by_box]) for k in ("rms", "median", "mean")
    )
    ratio = _ratio(rms, median)
    return {
        "rms": (each, rms, "standard deviation of the weight in the box"),
        "median": (each, median, "median weight in the box"),
        "mean": (each, mean, "mean weight in the box"),
        "box_rms_over_median": (each, ratio, "rms / median in the box; inf where the median is zero"),
        "rms_over_median": (_PER, np.median(ratio, axis=1), "median of box_rms_over_median over the boxes"),
    }


def _of_maps(maps: Sequence[MeasuredMap]) -> dict[str, Variable]:
    rms, median = (np.array([getattr(m.footprint, k) for m in maps]) for k in ("rms", "median"))
    empty, frayed = np.array([m.footprint.zeros for m in maps]), np.array([m.edge_zeros for m in maps])
    return {
        "overall_rms": (_PER, rms, "standard deviation of the weight in the footprint"),
        "overall_median": (_PER, median, "median weight in the footprint"),
        "overall_rms_over_median": (
            _PER,
            _ratio(rms, median),
            "overall_rms / overall_median; depth that varies between exposures is in it",
        ),
        "empty_pixels": (_PER, empty.astype(np.int32), "pixels of the footprint without weight"),
        "empty_fraction": (_PER, empty / max(maps[0].footprint.size, 1), "empty_pixels / footprint_pixels"),
        "edge_empty_pixels": (_PER, frayed.astype(np.int32), "pixels of the edge without weight"),
        "edge_empty_fraction": (_PER, frayed / max(maps[0].edge, 1), "edge_empty_pixels / edge_pixels"),
        "depth": (
            ("pixfrac", "percentile"),
            np.array([m.footprint.levels for m in maps]),
            "weight in the footprint",
        ),
    }


def _of_tiles(maps: Sequence[MeasuredMap]) -> dict[str, Variable]:
    each = ("pixfrac", "tile_y", "tile_x")
    ratio = np.array([m.tiles.ratio for m in maps])
    known = ratio[:, ~np.isnan(ratio[0])]
    middle, high = (_quantile(known, q) for q in (0.5, 0.95))
    return {
        "tile_rms": (
            each,
            np.array([m.tiles.rms for m in maps]),
            "standard deviation of the weight in the tile",
        ),
        "tile_median": (each, np.array([m.tiles.median for m in maps]), "median weight in the tile"),
        "tile_rms_over_median": (each, ratio, "tile_rms / tile_median; inf where the median is zero"),
        "tile_empty_pixels": (
            each,
            np.array([m.tiles.zeros for m in maps]).astype(np.int32),
            "pixels of the footprint in the tile without weight",
        ),
        "tile_pixels": (
            ("tile_y", "tile_x"),
            maps[0].tiles.size.astype(np.int32),
            "pixels of the footprint in the tile",
        ),
        "tiles_middle": (_PER, middle, "median of tile_rms_over_median over the tiles"),
        "tiles_high": (_PER, high, "95th percentile of tile_rms_over_median, the next tile above it"),
    }


def _quantile(values: Numbers, fraction: float) -> Numbers:
    """Along the last axis, always one of the values, so that inf does no harm; nan of none."""
    if values.shape[-1] == 0:
        return np.full(values.shape[:-1], np.nan)
    result: Numbers = np.quantile(values, fraction, axis=-1, method="higher")
    return result


def _ratio(rms: Numbers, median: Numbers) -> Numbers:
    return np.divide(rms, median, out=np.full_like(rms, np.inf), where=median > 0)
