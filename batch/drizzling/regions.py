"""Numbers of the weights in regions of lazy maps, reduced block by block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import dask
import dask.array as da
import numpy as np
from numpy.typing import NDArray

from batch.drizzling.tally import (
    Histogram,
    Tally,
    histogram,
    merge,
    merge_histograms,
    quantiles,
    tally,
    wanted_prefixes,
)

PERCENTILES = (5.0, 25.0, 50.0, 75.0, 95.0)
_FAN_IN = 8


class Measured(NamedTuple):
    """Numbers of the weights in one region of one map."""

    size: int
    zeros: int
    mean: float
    rms: float
    levels: list[float]
    """At `PERCENTILES`."""

    @property
    def median(self) -> float:
        """The 50th percentile."""
        return self.levels[PERCENTILES.index(50.0)]


def measure_regions(regions: Sequence[tuple[da.Array, da.Array | None]]) -> list[Measured]:
    """Measure all regions in two passes over the maps, on the Dask scheduler that is current.

    Parameters
    ----------
    regions : sequence of (dask array of float32, dask array of bool or None)
        Weights, shape (ny, nx), and which of them count; None: all.
    """
    fractions = [p / 100 for p in PERCENTILES]
    blocks = [_blocks(layer, mask) for layer, mask in regions]
    tallies: list[Tally] = list(dask.compute(*(_reduce(_tally_block, merge, b) for b in blocks)))
    resolved = dask.compute(
        *(
            _reduce(_histogram_block, merge_histograms, b, wanted_prefixes(t, fractions))
            for b, t in zip(blocks, tallies, strict=True)
        )
    )
    return [
        Measured(t.size, t.zeros, *t.moments(), quantiles(t, h, fractions))
        for t, h in zip(tallies, resolved, strict=True)
    ]


def _blocks(layer: da.Array, mask: da.Array | None) -> list[tuple[Any, Any]]:
    weights = layer.to_delayed().ravel()
    masks = [None] * weights.size if mask is None else mask.rechunk(layer.chunks).to_delayed().ravel()
    return list(zip(weights, masks, strict=True))


def _reduce(
    make: Callable[..., Any], join: Callable[..., Any], blocks: Sequence[tuple[Any, Any]], *extra: Any
) -> Any:
    """A delayed result over all blocks, joined a few at a time so that few partial results are alive."""
    parts = [dask.delayed(make, pure=False)(weights, mask, *extra) for weights, mask in blocks]
    while len(parts) > 1:
        parts = [
            dask.delayed(join, pure=False)(parts[i : i + _FAN_IN]) for i in range(0, len(parts), _FAN_IN)
        ]
    return parts[0]


def _tally_block(weights: NDArray[np.float32], mask: NDArray[np.bool_] | None) -> Tally:
    return tally(weights if mask is None else weights[mask])


def _histogram_block(
    weights: NDArray[np.float32], mask: NDArray[np.bool_] | None, prefixes: Sequence[int]
) -> Histogram:
    return histogram(weights if mask is None else weights[mask], prefixes)
