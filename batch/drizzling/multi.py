"""Many drizzles for the price of one: every pixfrac of a sweep from one reading and one mapping.

The square kernel on the grid, with the sky and the masks of `combine`; the same images as AstroDrizzle's
final step to rounding (`tests/regression/drizzling`), in a fraction of the time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from batch.drizzling import bands
from batch.drizzling.bands import Words
from batch.drizzling.exposures import Input, Weight, check_on_grid, read
from batch.drizzling.geometry import STEP
from batch.drizzling.grid import Grid
from batch.drizzling.kernels import LANES, VECTOR
from batch.drizzling.products import Parameters, WriteBehind, Writer, headers
from batch.errors import InputError, UsageError
from batch.storage.planes import extname, scan

__all__ = ["Grid", "Input", "Mosaic", "drizzle"]


@dataclass(frozen=True)
class Mosaic:
    """The images of one pixfrac."""

    pixfrac: float
    paths: dict[str, Path]
    """``sci``, ``wht``, ``ctx``"""
    covered: float
    """Fraction of pixels with weight."""


def drizzle(
    exposures: Sequence[Input],
    grid: Grid,
    pixfracs: Sequence[float],
    out: Callable[[float], Path],
    *,
    kernel: str = "square",
    weight: Weight = "EXP",
    bits: int = 0,
    threads: int = 1,
    memory: int | None = None,
    stepsize: int | None = STEP,
) -> list[Mosaic]:
    """Drizzle exposures onto one grid at several pixfracs.

    Parameters
    ----------
    exposures : sequence of Input
        In the order of the bits of the context image.
    grid : Grid
    pixfracs : sequence of float
        In (0, 1].
    out : callable
        pixfrac -> path without ending: ``_sci.fits``, ``_wht.fits`` and ``_ctx.fits`` are added.
    kernel : str
        ``square``.
    weight : str
        ``EXP``, ``ERR`` or ``IVM``.
    bits : int
        Sum of the DQ bits that count as good.
    threads : int
        The images do not depend on it.
    memory : int, optional
        Bytes that this process may take; nor on this. The number of pixfracs does not change what is needed.
    stepsize : int or None
        Input pixels between nodes of the mapping, as in AstroDrizzle; None maps every corner by itself.

    Returns
    -------
    list of Mosaic
        In the order of `pixfracs`.

    Raises
    ------
    UsageError
        For a kernel, pixfrac or step that is not supported.
    InputError
        For exposures that are unsound, do not fall on the grid, or have no good pixel.
    InsufficientMemoryError
        If `memory` does not do.
    StorageError
        If the images cannot be written; none is left behind then.
    """
    if kernel != "square":
        raise UsageError(f"kernel {kernel}: this engine has the square kernel; take engine astrodrizzle")
    if stepsize is not None and not 1 <= stepsize <= LANES - VECTOR:
        raise UsageError(f"stepsize {stepsize}: it must be 1 to {LANES - VECTOR}, or none")
    bands.check_pixfracs(pixfracs)
    _check_memory(exposures, grid, threads, memory)
    for exposure in exposures:
        check_on_grid(exposure.path, grid)
    chips, sources = read(exposures, grid, weight=weight, bits=bits, step=stepsize, threads=threads)
    for exposure in exposures:
        own = [c for c in chips if c.name.startswith(f"{exposure.path.name}[")]
        if not any(bands.overlaps(c.mapping, grid.shape) for c in own):
            raise InputError.about(
                exposure.path, "does not fall on the output grid", "look at its WCS, or leave it out"
            )
    bands.check(chips, grid.shape, pixfracs)
    with contextlib.ExitStack() as stack:
        behind = WriteBehind()
        writers = []
        for pixfrac in pixfracs:
            stem = out(pixfrac)
            made = headers(grid, sources, Parameters(pixfrac, kernel), stem.name, bands.planes(len(chips)))
            writers.append(stack.enter_context(Writer(stem, made, grid.table, behind)))
        # last in, first out: nothing is under way when files are closed
        stack.enter_context(behind)

        def sink(index: int, row: int, science: Words, weights: Words, contexts: Words) -> None:
            writers[index].band(row, science, weights, contexts)

        found = bands.drizzle_chips(chips, grid.shape, pixfracs, sink, threads=threads, memory=memory)
        behind.finish()
        for pixfrac, coverage in zip(pixfracs, found, strict=True):
            if coverage.not_finite:
                raise InputError(
                    f"{out(pixfrac).name}: {coverage.not_finite} pixels with weight are not finite; look at "
                    "the SCI, ERR and DQ arrays of the exposures"
                )
    pixels = grid.shape[0] * grid.shape[1]
    return [
        Mosaic(pixfrac, writer.paths, coverage.covered / pixels)
        for pixfrac, writer, coverage in zip(pixfracs, writers, found, strict=True)
    ]


def _check_memory(exposures: Sequence[Input], grid: Grid, threads: int, memory: int | None) -> None:
    """Before anything is read: the files tell well enough how many pixels there are."""
    shapes = [p.shape for e in exposures for p in scan(e.path)[1] if extname(p.header) == "SCI"]
    bands.band_rows(sum(a * b for a, b in shapes), len(shapes), grid.shape, threads, memory)
