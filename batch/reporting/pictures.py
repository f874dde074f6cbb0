"""Every picture of an association's page, from its mosaics and what was found about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from batch.drizzling.coverage import PixelBox
from batch.drizzling.lazy import FitsImage
from batch.drizzling.preview import Reduced, crowded, reduce
from batch.model.drizzle import pixfrac_name
from batch.photometry.stars import Star, cutout
from batch.reporting import published
from batch.reporting.figures import (
    Frame,
    Stretch,
    Theme,
    annotated,
    curve,
    plain,
    weight_colours,
)
from batch.reporting.html import Image, Pictures, Stamps, Zoom
from batch.reporting.stamps import four
from batch.reporting.tilemap import tile_maps

_THEMES: tuple[Theme, Theme] = ("light", "dark")
_STAMP_REACH = 13
"""Pixels from a star to the rim of its picture."""
_SEAM = (128, 128, 128)


@dataclass(frozen=True)
class Material:
    """What pictures are made from."""

    name: str
    """Of the association."""
    image: FitsImage
    """The chosen mosaic."""
    weight: FitsImage
    sweep: Mapping[float, Mapping[str, FitsImage]]
    """``mosaic`` and ``weight`` of each pixfrac, at the scale and with the kernel that were chosen."""
    grid: Mapping[str, Any]
    """Of the mosaics; its CD matrix is ``cd``."""
    statistics: Mapping[str, Any]
    """Results of the stage for that scale and kernel."""
    select: Mapping[str, Any]
    """Results of the stage."""
    weights: Path
    """The dataset of weight statistics."""
    stars: Path | None
    """The dataset of stars."""
    with_published: bool
    """Whether the published curve belongs in the picture of ours."""

    @property
    def chosen(self) -> float:
        """The pixfrac that was taken."""
        return float(self.select["pixfrac"])


def draw(material: Material, preview: int, zoom: int) -> Pictures:
    """Make the pictures.

    Parameters
    ----------
    material : Material
    preview : int
        Longest side of the pictures of the whole mosaic.
    zoom : int
        Side of the detail, pixels of the mosaic.
    """
    reduced = reduce(material.image, material.weight, preview)
    detail = crowded(reduced, zoom, material.image.shape)
    mosaic, depth = _overview(material, reduced, detail, preview)
    return Pictures(
        mosaic=mosaic,
        weight=depth,
        curve=_curve(material),
        tiles=_tiles(material),
        zooms=_zooms(material, detail),
        stars=_stamps(material),
    )


def shown(pixfracs: Sequence[float], chosen: float) -> list[float]:
    """At most four pixfracs that tell the story: the extremes, the choice, and what was just rejected."""
    at = pixfracs.index(chosen)
    wanted = {pixfracs[0], pixfracs[at], pixfracs[max(at - 1, 0)], pixfracs[-1]}
    for pixfrac in pixfracs[at // 2 :]:
        if len(wanted) >= 4:
            break
        wanted.add(pixfrac)
    return sorted(wanted)


def _overview(material: Material, reduced: Reduced, detail: PixelBox, longest: int) -> tuple[Image, Image]:
    """The whole mosaic with the detail outlined, and its weight with the boxes."""

    def frame(x0: int, x1: int, y0: int, y1: int) -> Frame:
        return Frame(*(v / reduced.factor for v in (x0, x1, y0, y1)))

    top = float(np.max(reduced.weight))
    image = annotated(
        Stretch.of(reduced.image).apply(reduced.image),
        longest,
        frames=[frame(detail.x0, detail.x1, detail.y0, detail.y1)],
        cd=material.grid.get("cd"),
        factor=reduced.factor,
    )
    weight = annotated(
        weight_colours(reduced.weight, 1.1 * top),
        longest,
        frames=[frame(**box) for box in material.statistics.get("boxes", ())],
        factor=reduced.factor,
    )
    scaled = f", {reduced.factor} × {reduced.factor} pixels averaged" if reduced.factor > 1 else ""
    name = material.name
    return (
        Image(
            image, f"Mosaic {name}", f"The chosen mosaic, asinh stretch{scaled}. Outlined: the detail below."
        ),
        Image(
            weight,
            f"Weight map of mosaic {name} with the boxes in which RMS/median was measured",
            f"Its weight, black 0 to light {top:.4g}. Outlined: the boxes of RMS/median.",
        ),
    )


def _curve(material: Material) -> Image:
    select = material.select
    boxes = {row["pixfrac"]: row["box_rms_over_median"] for row in material.statistics["pixfracs"]}
    others = {published.NAME: published.CURVE} if material.with_published else {}
    limit = select["limits"]["rms_over_median"]
    families: dict[str, list[Mapping[str, Any]]] = {}
    for verdict in select["verdicts"]:
        families.setdefault(_rest(verdict, select), []).append(verdict)
    own = families.pop(_rest(select, select))
    light, dark = (curve(own, boxes, limit, material.chosen, theme, others, families) for theme in _THEMES)
    caption = "Filled: passes every test. Dashes: the single boxes."
    if families:
        caption += " Thin: the other scales and kernels."
    if others:
        caption += (
            f" Diamonds: {published.NAME}, four WFC exposures at 0.03″, as the ACS drizzling tutorial has it."
        )
    return Image(
        light,
        f"Curve of RMS/median of the weight against pixfrac; {select['why']}. The numbers are in the table.",
        caption,
        dark,
    )


def _rest(verdict: Mapping[str, Any], select: Mapping[str, Any]) -> str:
    """What tells a drizzle beside its pixfrac, in words."""
    scales, kernels = ({v[key] for v in select["verdicts"]} for key in ("scale", "kernel"))
    words = [f"{verdict['scale']:g}″"] * (len(scales) > 1) + [verdict["kernel"]] * (len(kernels) > 1)
    return " ".join(words)


def _tiles(material: Material) -> Image | None:
    """Maps of tiles at the pixfracs of the details; none where the mosaic is smaller than a tile."""
    with xr.open_dataset(material.weights, engine="scipy") as dataset:
        ratio = dataset["tile_rms_over_median"].load()
        tile = int(dataset.attrs["tile"])
    if not bool(np.isfinite(ratio).any()):
        return None
    limit = material.select["limits"]["rms_over_median"]
    maps = {p: ratio.sel(pixfrac=p).values for p in shown(sorted(material.sweep), material.chosen)}
    light, dark = (
        tile_maps(maps, limit, material.chosen, material.image.shape, tile, theme) for theme in _THEMES
    )
    return Image(
        light,
        f"Maps of RMS/median of the weight in tiles of {tile} pixels at pixfracs "
        + ", ".join(pixfrac_name(p)[2:] for p in maps),
        f"The same ratio all over the mosaic, in tiles of {tile} × {tile} pixels: blue is more even than the "
        f"limit of {limit:g}, orange less.",
        dark,
    )


def _zooms(material: Material, detail: PixelBox) -> list[Zoom]:
    """The detail at the smallest pixfrac, the ones next to the choice, and the largest."""
    cuts: dict[float, dict[str, Any]] = {
        pixfrac: {kind: image[detail.slices] for kind, image in material.sweep[pixfrac].items()}
        for pixfrac in shown(sorted(material.sweep), material.chosen)
    }
    reference = cuts[material.chosen]
    stretch = Stretch.of(reference["mosaic"])
    top = 1.6 * float(reference["weight"].mean())
    return [
        Zoom(
            pixfrac,
            Image(
                plain(stretch.apply(cut["mosaic"])),
                f"Detail of the mosaic at pixfrac {pixfrac_name(pixfrac)[2:]}",
            ),
            Image(
                plain(weight_colours(cut["weight"], top, holes=True)),
                f"Weight of the detail at pixfrac {pixfrac_name(pixfrac)[2:]}",
            ),
        )
        for pixfrac, cut in cuts.items()
    ]


def _stamps(material: Material) -> list[Stamps]:
    """Four of the stars, from the brightest to the faintest, at the pixfracs of the details."""
    if material.stars is None:
        return []
    with xr.open_dataset(material.stars, engine="scipy") as dataset:
        found = [
            Star(int(x), int(y), float(peak))
            for x, y, peak in zip(*(dataset[n].values for n in ("x", "y", "peak")), strict=True)
        ]
    # there is room around all of them: stars near the rim are not taken
    stars = [found[i] for i in sorted({round(i * (len(found) - 1) / 3) for i in range(4)})]
    return [
        Stamps(
            pixfrac,
            Image(
                plain(
                    four(
                        [cutout(images["mosaic"], images["weight"], star, _STAMP_REACH) for star in stars],
                        [star.peak for star in stars],
                        _SEAM,
                    )
                ),
                f"{len(stars)} stars at pixfrac {pixfrac_name(pixfrac)[2:]}",
            ),
        )
        for pixfrac in shown(sorted(material.sweep), material.chosen)
        for images in [material.sweep[pixfrac]]
    ]
