"""Drizzle on arrays: many pixfracs, band by band of the output, in several threads.

A thread owns the rows of its band, and inside it works tile by tile, so that the sums of a tile stay near the
processor; what touches a tile is found once for all pixfracs. No pixel's sum depends on how the output was
cut up or on how many threads there are.
"""

from __future__ import annotations

import queue
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from batch.drizzling import kernels, tiles
from batch.drizzling.geometry import Mapping
from batch.errors import InputError, InsufficientMemoryError, UsageError

PLANE = 32
"""Chips in one plane of the context image."""
TILE = 384
"""Side of a tile, output pixels; also the most rows of a band."""
_FEWEST = 32
"""Rows of a band below which borders would cost more than the rows."""
BASE = 300_000_000
"""Bytes: interpreter, libraries, and what the allocator keeps."""
_NOTHING = np.frombuffer(np.array(np.nan, ">f4").tobytes(), np.uint32)[0]

Words = NDArray[np.uint32]


@dataclass(frozen=True)
class Chip:
    """The pixels of one input chip, ready to be drizzled."""

    name: str
    """``j9l960a7q_flt.fits[sci,1]``, for messages."""
    values: NDArray[np.float32]
    """(ny, nx): in the unit of the output, per output pixel."""
    weights: NDArray[np.float32]
    """(ny, nx): 0 where a pixel must not be used."""
    mapping: Mapping


class Sink(Protocol):
    """Takes finished bands; several threads call it, each band comes once."""

    def __call__(self, index: int, row: int, science: Words, weights: Words, contexts: Words) -> None:
        """Keep the band that begins at `row` of the output at pixfrac number `index`.

        Parameters
        ----------
        science, weights : uint32 (rows, columns)
            The bytes of big-endian float32 images; the arrays are used again after the call.
        contexts : uint32 (planes, rows, columns)
            The bytes of big-endian int32 images.
        """


@dataclass(frozen=True)
class Coverage:
    """What came of one pixfrac."""

    covered: int
    """Pixels with weight."""
    not_finite: int
    """Those among them whose value is no finite number."""


def planes(chips: int) -> int:
    """Planes of the context image."""
    return -(-chips // PLANE)


def needed(pixels: int, chips: int, shape: tuple[int, int], threads: int, rows: int = TILE) -> int:
    """Bytes that a drizzle takes, whatever the number of pixfracs.

    Parameters
    ----------
    pixels : int
        Of all input chips together.
    chips : int
    shape : tuple
        Of the output.
    threads : int
    rows : int
        Of a band.
    """
    side = TILE + 2 * kernels.PAD
    tile = side * side * (16 + 4) + TILE * TILE * (8 + 4 * planes(chips))
    band = rows * shape[1] * 4 * (2 + planes(chips))
    # weights and values, and a third array of one exposure while they are made
    return BASE + 8 * pixels + threads * (tile + band)


def check_pixfracs(pixfracs: Sequence[float]) -> None:
    """Refuse pixfracs outside (0, 1], and none at all, by a UsageError."""
    wrong = [p for p in pixfracs if not 0 < p <= 1]
    if wrong or not pixfracs:
        what = f"pixfrac {wrong[0]}" if wrong else "no pixfrac"
        raise UsageError(f"{what}: pixfracs must be larger than 0, and 1 at most")


def check(chips: Sequence[Chip], shape: tuple[int, int], pixfracs: Sequence[float]) -> None:
    """Refuse what cannot be drizzled.

    Raises
    ------
    UsageError
        For a pixfrac outside (0, 1], or an output scale too fine.
    InputError
        If no chip falls on the output, or no pixel has weight.
    """
    check_pixfracs(pixfracs)
    if min(shape) < 1:
        raise UsageError(f"an output of {shape[1]} x {shape[0]} pixels: both sides must be 1 or more")
    if not chips:
        raise InputError("there are no exposures to drizzle; name some")
    for chip in chips:
        nodes = chip.mapping.nodes_x, chip.mapping.nodes_y
        if not all(np.isfinite(n).all() for n in nodes):
            raise InputError.about(
                chip.name, "its WCS cannot be mapped to the output", "look at CRVAL, CD and the output's WCS"
            )
        chip.mapping.box_size(max(pixfracs))
    if not any(overlaps(c.mapping, shape) for c in chips):
        raise InputError.about(
            chips[0].name,
            "neither this nor any other chip falls on the output grid",
            "look at the WCS of the exposures and of the grid",
        )
    if not any((c.weights > 0).any() for c in chips):
        raise InputError.about(
            chips[0].name,
            "no pixel of this or any other chip has weight: all are flagged",
            "look at the DQ arrays, and at combine.bits, the flags that count as good",
        )


def overlaps(mapping: Mapping, shape: tuple[int, int]) -> bool:
    """Whether a chip may touch an output of this shape."""
    x0, y0, x1, y1 = mapping.bounds
    return x0 < shape[1] and x1 > 0 and y0 < shape[0] and y1 > 0


def band_rows(pixels: int, chips: int, shape: tuple[int, int], threads: int, memory: int | None) -> int:
    """Rows of a band that fit the memory.

    Raises
    ------
    InsufficientMemoryError
        If too few do.
    """
    if memory is None:
        return TILE
    fewest = min(_FEWEST, shape[0])
    one = needed(pixels, chips, shape, threads, 1) - needed(pixels, chips, shape, threads, 0)
    rows = (memory - needed(pixels, chips, shape, threads, 0)) // one
    if rows < fewest:
        least = needed(pixels, chips, shape, threads, fewest)
        raise InsufficientMemoryError(
            f"drizzling {chips} chips to {shape[1]} x {shape[0]} pixels with {threads} threads takes at "
            f"least {least / 1e6:.0f} MB, and {memory / 1e6:.0f} MB are allowed; use a larger worker, fewer "
            "threads or a larger output scale"
        )
    return int(min(rows, TILE))


def drizzle_chips(
    chips: Sequence[Chip],
    shape: tuple[int, int],
    pixfracs: Sequence[float],
    sink: Sink,
    *,
    threads: int = 1,
    memory: int | None = None,
) -> list[Coverage]:
    """Drizzle chips onto one grid at several pixfracs with the square kernel.

    Parameters
    ----------
    chips : sequence of Chip
        In the order of the bits in the context image.
    shape : tuple
        (rows, columns) of the output.
    pixfracs : sequence of float
    sink : Sink
        Gets the finished bands.
    threads : int
    memory : int, optional
        Bytes for everything in this process.

    Returns
    -------
    list of Coverage
        For each pixfrac.

    Raises
    ------
    UsageError, InputError
        See `check`.
    InsufficientMemoryError
        See `band_rows`.
    """
    check(chips, shape, pixfracs)
    rows = band_rows(sum(c.values.size for c in chips), len(chips), shape, threads, memory)
    starts = range(0, shape[0], rows)
    spare: queue.SimpleQueue[_Workshop] = queue.SimpleQueue()
    for _ in range(min(threads, len(starts))):
        spare.put(_Workshop(chips, shape, rows))

    def work(start: int) -> NDArray[np.int64]:
        shop = spare.get()
        try:
            return shop.band(start, pixfracs, sink)
        finally:
            spare.put(shop)

    with ThreadPoolExecutor(max_workers=threads) as pool:
        futures = [pool.submit(work, start) for start in starts]
        try:
            counts = sum((f.result() for f in futures), np.zeros((len(pixfracs), 2), np.int64))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return [Coverage(int(c), int(n)) for c, n in counts]


@dataclass(frozen=True)
class _Tile:
    column: int
    width: int
    reached: list[tuple[int, NDArray[np.int32]]]
    """Numbers of the chips that may touch it, and what of them (`tiles.spans_of_tile`)."""


class _Workshop:
    """What one thread needs: the arrays of a tile and of a band."""

    def __init__(self, chips: Sequence[Chip], shape: tuple[int, int], rows: int) -> None:
        self._chips = chips
        self._shape = shape
        self._rows = rows
        count = planes(len(chips))
        side, width = rows + 2 * kernels.PAD, TILE + 2 * kernels.PAD
        self._sums = np.zeros(side * 2 * width)
        self._void = np.zeros(side * width, np.float32)
        self._seen = np.zeros(rows * TILE)
        self._context = np.zeros(count * rows * TILE, np.int32)
        self._band = np.zeros((2 + count) * rows * shape[1], np.uint32)
        nodes = max(c.mapping.nodes_x.shape[1] for c in chips)
        self._lines = np.zeros((4, nodes))
        self._state = np.zeros((kernels.STATE + kernels.SIZES[-1] ** 2) * kernels.LANES)
        self._reach = [c.mapping.reach for c in chips]
        self._bounds = [c.mapping.bounds for c in chips]

    def band(self, start: int, pixfracs: Sequence[float], sink: Sink) -> NDArray[np.int64]:
        """Make one band at every pixfrac; returns the counts of `tiles.finish` for each."""
        rows = min(self._rows, self._shape[0] - start)
        columns = self._shape[1]
        band = self._band[: self._band.size // self._rows * rows].reshape(-1, rows, columns)
        parts = [self._survey(start, rows, x) for x in range(0, columns, TILE)]
        counts = np.zeros((len(pixfracs), 2), np.int64)
        for index, pixfrac in enumerate(pixfracs):
            for part in parts:
                self._tile(start, rows, part, pixfrac, band, counts[index])
            sink(index, start, band[0], band[1], band[2:])
        return counts

    def _survey(self, row: int, rows: int, column: int) -> _Tile:
        """Find what touches a tile."""
        width = min(TILE, self._shape[1] - column)
        box = np.array([column, row, column + width, row + rows], np.float64)
        reached = []
        for number, (chip, reach) in enumerate(zip(self._chips, self._reach, strict=True)):
            x0, y0, x1, y1 = self._bounds[number]
            if x1 < box[0] or x0 > box[2] or y1 < box[1] or y0 > box[3]:
                continue
            mapping = chip.mapping
            spans = np.empty((chip.values.shape[0], 2), np.int32)
            # half a pixel along and across the row, and exact corners may lie off the nodes' plane
            margin = 0.5 * reach + 0.5
            tiles.spans_of_tile(
                mapping.nodes_x, mapping.nodes_y, mapping.step, chip.values.shape[1], margin, box, spans
            )
            if spans.any():
                reached.append((number, spans))
        return _Tile(column, width, reached)

    def _tile(
        self, row: int, rows: int, part: _Tile, pixfrac: float, band: Words, counts: NDArray[np.int64]
    ) -> None:
        if not part.reached:
            columns = slice(part.column, part.column + part.width)
            band[0, :, columns], band[1:, :, columns] = _NOTHING, 0
            return
        height, width = rows + 2 * kernels.PAD, part.width + 2 * kernels.PAD
        sums = self._sums[: height * 2 * width].reshape(height, 2 * width)
        void = self._void[: height * width].reshape(height, width)
        seen = self._seen[: rows * part.width].reshape(rows, part.width)
        context = self._context[: band[2:].size // self._shape[1] * part.width]
        context = context.reshape(-1, rows, part.width)
        sums[:], void[:], seen[:], context[:] = 0, np.nan, 0, 0
        origin = np.array([part.column - kernels.PAD, row - kernels.PAD])
        for number, spans in part.reached:
            self._chip(self._chips[number], spans, pixfrac, origin, sums, void)
            bit = 1 << number % PLANE
            tiles.mark(sums, seen, context[number // PLANE], kernels.PAD, bit)
        tiles.finish(sums, void, context, kernels.PAD, band.view(np.float32), band, part.column, counts)

    def _chip(
        self,
        chip: Chip,
        spans: NDArray[np.int32],
        pixfrac: float,
        origin: NDArray[np.int64],
        sums: NDArray[np.float64],
        void: NDArray[np.float32],
    ) -> None:
        mapping = chip.mapping
        size = mapping.box_size(pixfrac)
        if mapping.exact is None:
            kernels.drop(
                mapping.nodes_x,
                mapping.nodes_y,
                mapping.step,
                pixfrac,
                chip.values,
                chip.weights,
                spans,
                origin,
                size,
                sums,
                void,
                self._lines,
                self._state,
            )
            return
        used = np.flatnonzero(spans[:, 1])
        rows = slice(int(used[0]), int(used[-1]) + 1)
        first, last = int(spans[used, 0].min()), int(spans[used, 1].max())
        columns = slice(max(first * mapping.step - 1, 0), min(last * mapping.step - 1, chip.values.shape[1]))
        kernels.drop_mapped(
            *mapping.corners(rows, columns, pixfrac),
            rows.start,
            columns.start,
            chip.values,
            chip.weights,
            origin,
            size,
            sums,
            void,
            self._state,
        )
