"""Numbers of the weights in regions of lazy maps, reduced block by block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
from batch.drizzling.weight_tiles import Tiles, assemble, tile_block

PERCENTILES = (5.0, 25.0, 50.0, 75.0, 95.0)
OUTSIDE, EDGE, INSIDE = np.arange(3, dtype=np.uint8)
"""Zones of a mosaic: where nothing was observed, the rim of what was, and the footprint."""
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


class MeasuredMap(NamedTuple):
    """Numbers of one whole map."""

    footprint: Measured
    edge: int
    """Pixels of the edge."""
    edge_zeros: int
    """Those without weight."""
    tiles: Tiles


@dataclass(frozen=True)
class _Scan:
    """What the first look at some blocks gave."""

    tally: Tally
    edge: int = 0
    edge_zeros: int = 0
    tiles: tuple[Tiles, ...] = ()


def measure_all(
    maps: Sequence[da.Array], zones: da.Array, tile: int, boxes: Sequence[da.Array]
) -> tuple[list[MeasuredMap], list[Measured]]:
    """Measure maps and boxes in two passes over them, on the Dask scheduler that is current.

    Parameters
    ----------
    maps : sequence of dask array of float32
        Weights, shape (ny, nx), in chunks of whole tiles, all alike.
    zones : dask array of uint8
        OUTSIDE, EDGE or INSIDE, shape and chunks of a map.
    tile : int
        Side of the tiles, pixels.
    boxes : sequence of dask array of float32
        Weights, all of which count.
    """
    shape = -(-zones.shape[0] // tile), -(-zones.shape[1] // tile)
    corners = [(y, x) for y in _starts(zones.chunks[0]) for x in _starts(zones.chunks[1])]
    looked_at = zones.to_delayed().ravel()
    blocks = [
        *([*zip(m.to_delayed().ravel(), looked_at, corners, strict=True)] for m in maps),
        *([(block, None, (0, 0)) for block in box.to_delayed().ravel()] for box in boxes),
    ]
    scans: list[_Scan] = list(dask.compute(*(_reduce(_scan, _join, part, tile) for part in blocks)))
    fractions = [p / 100 for p in PERCENTILES]
    resolved = dask.compute(
        *(
            _reduce(
                _resolve,
                merge_histograms,
                [(block, zone) for block, zone, _ in part],
                wanted_prefixes(scan.tally, fractions),
            )
            for part, scan in zip(blocks, scans, strict=True)
        )
    )
    measured = [
        Measured(s.tally.size, s.tally.zeros, *s.tally.moments(), quantiles(s.tally, h, fractions))
        for s, h in zip(scans, resolved, strict=True)
    ]
    whole = [
        MeasuredMap(m, s.edge, s.edge_zeros, assemble(s.tiles, shape))
        for m, s in zip(measured, scans[: len(maps)], strict=False)
    ]
    return whole, measured[len(maps) :]


def _starts(chunks: Sequence[int]) -> list[int]:
    return [sum(chunks[:i]) for i in range(len(chunks))]


def _reduce(
    make: Callable[..., Any], join: Callable[..., Any], blocks: Sequence[tuple[Any, ...]], *extra: Any
) -> Any:
    """A delayed result over all blocks, joined a few at a time so that few partial results are alive."""
    parts = [dask.delayed(make, pure=False)(*block, *extra) for block in blocks]
    while len(parts) > 1:
        parts = [
            dask.delayed(join, pure=False)(parts[i : i + _FAN_IN]) for i in range(0, len(parts), _FAN_IN)
        ]
    return parts[0]


def _scan(
    weights: NDArray[np.float32], zones: NDArray[np.uint8] | None, first: tuple[int, int], tile: int
) -> _Scan:
    if zones is None:
        return _Scan(tally(weights))
    inside, edge = zones == INSIDE, zones == EDGE
    return _Scan(
        tally(weights[inside]),
        int(np.count_nonzero(edge)),
        int(np.count_nonzero(edge & (weights == 0))),
        (tile_block(weights, inside, tile, first),),
    )


def _join(scans: Sequence[_Scan]) -> _Scan:
    return _Scan(
        merge(s.tally for s in scans),
        sum(s.edge for s in scans),
        sum(s.edge_zeros for s in scans),
        tuple(t for s in scans for t in s.tiles),
    )


def _resolve(
    weights: NDArray[np.float32], zones: NDArray[np.uint8] | None, prefixes: Sequence[int]
) -> Histogram:
    return histogram(weights if zones is None else weights[zones == INSIDE], prefixes)
