"""Pictures of mosaics, weight maps and the RMS/median curve, as PNG files in memory."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from batch.model.drizzle import pixfrac_name

Theme = Literal["light", "dark"]
Rgb = NDArray[np.uint8]

COLOURS: dict[Theme, tuple[str, str, str, str, str]] = {
    "light": ("#22262b", "#8a929c", "#ffffff", "#0b6e8f", "#b3410e"),
    "dark": ("#e3e6ea", "#7d8590", "#1a1d21", "#5bbcd9", "#f0894f"),
}
"""Ink, faint ink, paper, accent, alarm: the page's own colours."""
NO_DATA = (58, 64, 74)
_NO_WEIGHT = (214, 69, 32)
_DOTS = 100


@dataclass(frozen=True)
class Frame:
    """A rectangle to outline in a picture, in pixels of the picture."""

    x0: float
    x1: float
    y0: float
    y1: float


def curve(
    verdicts: Sequence[Mapping[str, Any]],
    boxes: Mapping[float, Sequence[float | None]],
    limit: float,
    chosen: float,
    theme: Theme = "light",
    published: Mapping[str, Mapping[float, float]] | None = None,
    others: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
) -> bytes:
    """RMS/median against pixfrac.

    Parameters
    ----------
    verdicts : sequence of mapping
        ``pixfrac``, ``rms_over_median`` (None: not finite), ``passes``; ascending.
    boxes : mapping
        RMS/median of the single boxes by pixfrac.
    limit : float
        What is allowed.
    chosen : float
        The pixfrac that was taken.
    published : mapping, optional
        Curves of other people, RMS/median by pixfrac, by name.
    others : mapping, optional
        Verdicts on the drizzles of other scales and kernels, by what these are.
    """
    ink, faint, paper, accent, alarm = COLOURS[theme]
    figure = Figure(figsize=(7.2, 4.0), dpi=200, facecolor=paper, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(facecolor=paper)
    points = [(v["pixfrac"], v["rms_over_median"], v["passes"]) for v in verdicts]
    drawn = [(x, y) for x, y, _ in points if y is not None]
    for pixfrac, values in boxes.items():
        there = [v for v in values if v is not None]
        axes.plot([pixfrac] * len(there), there, "_", color=faint, ms=9, mew=1, zorder=1)
    foreign = published or {}
    lines = {
        name: [
            (v["pixfrac"], v["rms_over_median"], v["passes"])
            for v in rows
            if v["rms_over_median"] is not None
        ]
        for name, rows in (others or {}).items()
    }
    top = max(
        [
            limit,
            *(y for _, y in drawn),
            *(y for c in foreign.values() for y in c.values()),
            *(y for line in lines.values() for _, y, _ in line),
        ]
    )
    for name, line in lines.items():
        for x, y, passes in line:
            axes.plot(x, y, "o", ms=3.5, mfc=faint if passes else paper, mec=faint, mew=0.9, zorder=2)
        axes.plot([x for x, _, _ in line], [y for _, y, _ in line], color=faint, lw=0.9, zorder=1.5)
        if line:
            axes.annotate(name, line[0][:2], (4, 3), textcoords="offset points", color=faint, fontsize=8)
    for name, values_of in foreign.items():
        xs, ys = zip(*sorted(values_of.items()), strict=True)
        axes.plot(xs, ys, "D-", color=accent, lw=1, ms=3.5, alpha=0.75, zorder=2)
        at = min(2, len(xs) - 1)
        axes.annotate(
            f"{name}, published",
            (xs[at], ys[at]),
            (6, 6),
            textcoords="offset points",
            color=accent,
            bbox={"fc": paper, "ec": "none", "pad": 1},
            zorder=2,
        )
    axes.axhline(limit, color=alarm, lw=1, ls=(0, (6, 4)), zorder=2)
    axes.plot(*zip(*drawn, strict=True) if drawn else ([], []), color=ink, lw=1.2, zorder=3)
    for x, y, passes in points:
        if y is not None:
            face = ink if passes else paper
            axes.plot(x, y, "o", ms=6, mfc=face, mec=ink, mew=1.2, zorder=4)
            if x == chosen:
                axes.plot(x, y, "o", ms=14, mfc="none", mec=accent, mew=2.2, zorder=5)
                # below the curve there is room, but for its two ends
                place, side = ((-11, -17), "right") if x >= 0.25 and y > 0.12 * top else ((4, 16), "right")
                if x < 0.25:
                    place, side = (12, 10), "left"
                axes.annotate(
                    f"chosen: {pixfrac_name(x)[2:]}",
                    (x, y),
                    place,
                    textcoords="offset points",
                    ha=side,
                    color=accent,
                    weight="bold",
                    bbox={"fc": paper, "ec": "none", "pad": 1},
                    zorder=6,
                )
    # at the left end, where no pixfrac is
    axes.annotate(f"limit {limit:g}", (0, limit), (5, 4), textcoords="offset points", color=alarm)
    axes.set_xlabel("pixfrac", color=ink)
    axes.set_ylabel("RMS / median of the weight", color=ink)
    axes.set_xlim(0, 1.05)
    axes.set_ylim(0, 1.12 * top)
    axes.set_xticks([i / 10 for i in range(11)])
    axes.locator_params(axis="y", nbins=6)
    axes.tick_params(colors=ink, length=3)
    axes.grid(axis="y", color=faint, alpha=0.25, lw=0.6)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(faint)
    return saved(figure)


@dataclass(frozen=True)
class Stretch:
    """asinh between two levels: linear near the sky, logarithmic for stars."""

    low: float
    high: float
    softening: float

    @classmethod
    def of(cls, image: NDArray[np.floating[Any]]) -> Stretch:
        """Levels from the pixels themselves: just below the sky, and the brightest half per cent."""
        values = image[np.isfinite(image)]
        if values.size == 0:
            return cls(0.0, 1.0, 1.0)
        middle, high = np.percentile(values, [50, 99.5])
        # the darker half of the pixels tells the noise of the sky even where stars crowd
        noise = 1.4826 * float(np.median(middle - values[values <= middle]))
        low = float(middle) - 2 * noise
        span = float(high) - low
        return cls(low, low + (span if span > 0 else 1.0), max(1.5 * noise, span / 1000, 1e-12))

    def apply(self, image: NDArray[np.floating[Any]]) -> Rgb:
        """Grey values, shape (rows, columns, 3); pixels that are not finite become slate."""
        scaled = np.arcsinh((np.clip(image, self.low, self.high) - self.low) / self.softening)
        grey = np.nan_to_num(255 * scaled / np.arcsinh((self.high - self.low) / self.softening))
        rgb = np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
        rgb[~np.isfinite(image)] = NO_DATA
        return rgb


def weight_colours(weight: NDArray[np.floating[Any]], top: float, *, holes: bool = False) -> Rgb:
    """Weights from dark (0) to light (`top`), shape (rows, columns, 3).

    No weight at all is slate or, where `holes` are looked for, red.
    """
    shades = colormaps["bone"](np.clip(weight / top if top > 0 else weight, 0, 1), bytes=True)
    rgb: Rgb = shades[..., :3].copy()
    rgb[~(weight > 0)] = _NO_WEIGHT if holes else NO_DATA
    return rgb


def plain(rgb: Rgb) -> bytes:
    """A picture pixel by pixel, the first row at the bottom."""
    buffer = io.BytesIO()
    imsave(buffer, rgb[::-1], format="png")
    return buffer.getvalue()


def annotated(
    rgb: Rgb,
    longest: int,
    *,
    frames: Sequence[Frame] = (),
    cd: Sequence[Sequence[float]] | None = None,
    factor: int = 1,
) -> bytes:
    """A picture with outlines, the directions of north and east, and a bar for scale.

    Parameters
    ----------
    rgb : ndarray of uint8, shape (rows, columns, 3)
    longest : int
        A picture that is smaller is enlarged by a whole number, each pixel to a square.
    frames : sequence of Frame
    cd : 2 x 2 numbers, optional
        CD matrix of the mosaic, deg per pixel; without it there are no directions and no bar.
    factor : int
        Mosaic pixels per picture pixel.
    """
    times = max(longest // max(rgb.shape[:2]), 1)
    shown = rgb.repeat(times, axis=0).repeat(times, axis=1)
    rows, columns = shown.shape[:2]
    figure = Figure(figsize=(columns / _DOTS, rows / _DOTS), dpi=_DOTS)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(shown, origin="lower", interpolation="none", extent=(0, columns, 0, rows), aspect="auto")
    axes.set_axis_off()
    for frame in frames:
        corner = (frame.x0 * times, frame.y0 * times)
        size = ((frame.x1 - frame.x0) * times, (frame.y1 - frame.y0) * times)
        axes.add_patch(Rectangle(corner, *size, fill=False, ec="black", lw=3.4))
        axes.add_patch(Rectangle(corner, *size, fill=False, ec="white", lw=1.5))
    if cd is not None:
        _compass(axes, np.asarray(cd, dtype=float) * factor / times, rows, columns)
    return saved(figure)


def _compass(axes: Any, cd: NDArray[np.float64], rows: int, columns: int) -> None:
    """North and east in the lower right corner, a scale bar in the lower left one; `cd` in deg per dot."""
    area = abs(float(np.linalg.det(cd)))
    if area == 0 or min(rows, columns) < 200:
        return
    words = {"color": "white", "fontsize": 13, "ha": "center", "va": "center"}
    side, arrow = 116, 48
    axes.add_patch(_panel(columns - 12 - side, 12, side, side))
    steps = [np.linalg.solve(cd, direction) for direction in ((0.0, 1.0), (1.0, 0.0))]
    north, east = (arrow * s / np.hypot(*s) for s in steps)
    # the arrows' origin, so that both of them and their letters lie in the middle of the panel
    origin = np.array([columns - 12 - side / 2, 12 + side / 2]) - 0.62 * (north + east)
    for name, step in (("N", north), ("E", east)):
        axes.annotate(
            "", origin + step, origin, arrowprops={"arrowstyle": "->", "color": "white", "shrinkA": 0}
        )
        axes.text(*(origin + 1.3 * step), name, **words)
    dot = 3600 * np.sqrt(area)
    steps_of_bar = [m * 10.0**e for e in range(-3, 5) for m in (1, 2, 5)]
    length = max((v for v in steps_of_bar if v <= 0.25 * columns * dot), default=dot)
    width = length / dot
    axes.add_patch(_panel(12, 12, width + 24, 50))
    axes.plot([24, 24 + width], [22, 22], color="white", lw=2.5, solid_capstyle="butt")
    axes.text(24 + width / 2, 43, f"{length:g}″", **words)
    axes.set_xlim(0, columns)
    axes.set_ylim(0, rows)


def _panel(x: float, y: float, width: float, height: float) -> Rectangle:
    return Rectangle((x, y), width, height, fc="black", ec="none", alpha=0.5)


def saved(figure: Figure) -> bytes:
    """A figure as PNG: the same numbers give the same file."""
    buffer = io.BytesIO()
    # no software, no date
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
