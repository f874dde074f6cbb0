"""Where input pixels fall on the output: the mapping of one chip, on nodes and exact."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from astropy.wcs import WCS
from numpy.typing import NDArray

from batch.drizzling.kernels import SIZES
from batch.errors import UsageError

Floats = NDArray[np.float64]
Function = Callable[[Floats, Floats], tuple[Floats, Floats]]

STEP = 10
"""AstroDrizzle's distance of the nodes, input pixels."""
_CHUNK = 1 << 20  # pixels that are mapped at a time


@dataclass(frozen=True)
class Mapping:
    """Input pixels (centres 1, 2, ..., as in FITS) -> output coordinates (pixel i: i <= x < i + 1).

    The mapping is known at nodes and bilinear between them; AstroDrizzle's own one equals it to 4e-12 pixel
    (measured with drizzlepac 3.11.0). At ACS's distortion and 10 pixels between nodes that is up to 0.01
    output pixel off the exact one.
    """

    nodes_x: Floats
    nodes_y: Floats
    """float64 (my, mx), C order: output coordinates at input coordinates 0, step, 2 step, ... and on to the
    first node past the chip."""
    step: int
    exact: Function | None = None
    """Maps corners one by one where that is wanted."""
    _one_at_a_time: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    @classmethod
    def sample(
        cls, function: Function, shape: tuple[int, int], step: int = STEP, exact: bool = False
    ) -> Mapping:
        """Evaluate a mapping at the nodes for a chip of `shape` (rows, columns).

        Parameters
        ----------
        function : callable
            (x, y) -> (x, y), float64 arrays of one dimension, FITS pixels to output coordinates.
        exact : bool
            Keep the function for the corners; the nodes then only tell what touches what.
        """
        y, x = (step * np.arange(n // step + 2, dtype=np.float64) for n in shape)
        made = _evaluate(function, x, y)
        return cls(*made, step, function if exact else None)

    def corners(self, rows: slice, columns: slice, pixfrac: float) -> tuple[Floats, Floats]:
        """Exact output coordinates of the corners of drops.

        Parameters
        ----------
        rows, columns : slice
            Start and stop, zero-based.

        Returns
        -------
        x, y : float64 (2 rows, 2 columns)
            Bottom and top edges by turns, left and right edges by turns.
        """
        assert self.exact is not None
        y, x = (
            (np.arange(s.start, s.stop)[:, None] + 1 + pixfrac * np.array([-0.5, 0.5])).ravel()
            for s in (rows, columns)
        )
        with self._one_at_a_time:  # astropy's WCS is not to be shared by threads
            return _evaluate(self.exact, x, y)

    @cached_property
    def reach(self) -> float:
        """Largest extent of an input pixel in output x or y, output pixels."""
        largest = 0.0
        for nodes in (self.nodes_x, self.nodes_y):
            across, along = np.abs(np.diff(nodes, axis=1)), np.abs(np.diff(nodes, axis=0))
            largest = max(
                largest,
                float((np.maximum(across[1:], across[:-1]) + np.maximum(along[:, 1:], along[:, :-1])).max()),
            )
        return largest / self.step

    @cached_property
    def bounds(self) -> tuple[float, float, float, float]:
        """A rectangle of the output around the chip: x0, y0, x1, y1."""
        return (
            float(self.nodes_x.min()),
            float(self.nodes_y.min()),
            float(self.nodes_x.max()),
            float(self.nodes_y.max()),
        )

    def box_size(self, pixfrac: float) -> int:
        """Side of a box of output pixels that holds every drop, one of `kernels.SIZES`.

        Raises
        ------
        UsageError
            If drops are larger than the largest box.
        """
        # the box begins anywhere in its first pixel
        wanted = int(np.floor(self.reach * pixfrac * (1 + 1e-6))) + 2
        for size in SIZES:
            if size >= wanted:
                return size
        raise UsageError(
            f"an input pixel at pixfrac {pixfrac} covers {wanted} output pixels across, and at most "
            f"{SIZES[-1]} are supported; choose a larger output scale"
        )


def _evaluate(function: Function, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """A mapping on the lattice of the columns `x` and the rows `y`."""
    result = np.empty((2, y.size, x.size))
    rows = max(1, _CHUNK // x.size)
    for start in range(0, y.size, rows):
        part = y[start : start + rows]
        at = np.broadcast_to(x, (part.size, x.size)), np.broadcast_to(part[:, None], (part.size, x.size))
        for k, values in enumerate(function(*(np.ascontiguousarray(a).ravel() for a in at))):
            result[k, start : start + rows] = values.reshape(part.size, x.size)
    return result[0], result[1]


def between(source: WCS, target: WCS) -> Function:
    """The mapping through the sky: distortion and WCS of the input (SIP, NPOL, D2IM), WCS of the output.

    Parameters
    ----------
    source : WCS
        Of an input chip, made with its file, which holds the tables.
    target : WCS
        Of the output, without distortion.
    """

    def function(x: Floats, y: Floats) -> tuple[Floats, Floats]:
        out: Any = target.wcs_world2pix(*source.all_pix2world(x, y, 1), 1)
        return out[0] - 0.5, out[1] - 0.5

    return function
