"""Where on a mosaic the weight is even: one map of tiles for each of a few pixfracs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, TwoSlopeNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from batch.model.drizzle import pixfrac_name
from batch.reporting.figures import COLOURS, Theme, saved

# from even to the limit, and from there on: blue and orange, which nobody takes for one another
_SHADES: dict[Theme, tuple[str, str, str]] = {
    "light": ("#0b6e8f", "#e8e4d9", "#b3410e"),
    "dark": ("#5bbcd9", "#50565e", "#f0894f"),
}


def tile_maps(
    maps: Mapping[float, NDArray[np.float64]],
    limit: float,
    chosen: float,
    shape: tuple[int, int],
    tile: int,
    theme: Theme = "light",
) -> bytes:
    """RMS/median in the tiles of a mosaic.

    Parameters
    ----------
    maps : mapping of float to ndarray of float64, shape (rows, columns) of tiles
        By pixfrac, at most four; nan where there is no number, inf where the median is zero.
    limit : float
        What is allowed: the middle of the colours.
    chosen : float
        The pixfrac that was taken.
    shape : tuple of int
        Rows and columns of the mosaic, pixels.
    tile : int
        Side of a tile, pixels.
    """
    ink, faint, paper, accent, _ = COLOURS[theme]
    columns = 2 if len(maps) > 1 else 1
    rows = -(-len(maps) // columns)
    width = 7.2
    each = (width - 1.0) / columns
    figure = Figure(
        figsize=(width, rows * (each * min(max(shape[0] / shape[1], 0.3), 2.0) + 0.35)),
        dpi=200,
        facecolor=paper,
        layout="constrained",
    )
    FigureCanvasAgg(figure)
    finite = [v for m in maps.values() for v in m[np.isfinite(m)]]
    top = max([2 * limit, *finite])
    norm = TwoSlopeNorm(limit, vmin=0, vmax=top)
    colours = LinearSegmentedColormap.from_list("even", _SHADES[theme])
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axes in grid.flat[len(maps) :]:
        axes.set_visible(False)
    for axes, (pixfrac, values) in zip(grid.flat, sorted(maps.items()), strict=False):
        extent = (0, values.shape[1] * tile, 0, values.shape[0] * tile)
        capped = np.where(np.isinf(values), top, values)
        image = axes.imshow(
            capped, origin="lower", extent=extent, cmap=colours, norm=norm, interpolation="none"
        )
        here = pixfrac == chosen
        axes.set_title(
            f"pixfrac {pixfrac_name(pixfrac)[2:]}{' (chosen)' if here else ''}",
            fontsize=11,
            color=accent if here else ink,
            weight="bold" if here else "normal",
        )
        axes.set_xlim(0, shape[1])
        axes.set_ylim(0, shape[0])
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_facecolor(paper)
        for spine in axes.spines.values():
            spine.set_color(accent if here else faint)
            spine.set_linewidth(1.6 if here else 0.6)
    bar = figure.colorbar(image, ax=list(grid.flat), fraction=0.035, pad=0.02, aspect=30)
    bar.set_label("RMS / median of the weight", color=ink)
    bar.set_ticks([0, limit / 2, limit, (limit + top) / 2, top])
    bar.ax.set_yticklabels([f"{v:.2g}" for v in bar.get_ticks()])
    bar.ax.tick_params(colors=ink, length=3)
    bar.ax.axhline(limit, color=ink, lw=1)
    bar.outline.set_visible(False)
    return saved(figure)
