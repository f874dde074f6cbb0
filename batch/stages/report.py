"""report: one page per association, with everything that led to the chosen mosaic."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batch.config import ReportSettings, Settings
from batch.drizzling.size import output_pixels
from batch.model.observation import Association, Exposure
from batch.model.plan import Needs, Stage, pixfrac_name
from batch.stages.interface import Inputs, Outcome, product
from batch.stages.statistics import pixfrac_of

if TYPE_CHECKING:
    from batch.drizzling.coverage import PixelBox
    from batch.drizzling.lazy import FitsImage
    from batch.drizzling.preview import Reduced
    from batch.reporting.html import Image, Mosaic, Pictures, Zoom

_KEYWORDS = ("TARGNAME", "PROPOSID", "EXPTIME")


def needs(association: Association, exposure: Exposure | None, settings: Settings) -> Needs:
    """Libraries, bands of the mosaic, pictures; the mosaic and its weight are read once."""
    pixels = output_pixels(association, settings.combine.scale)
    seconds = 5 + 1e-7 * pixels
    return Needs(
        memory=240_000_000 + 60 * settings.report.preview**2,
        seconds=seconds,
        timeout=600 + 20 * seconds,
    )


STAGE = Stage(
    "report",
    "association",
    after=("references", "calibrate", "wcs", "align", "combine", "sweep", "statistics", "select"),
    version=1,
    needs=needs,
)


def run(inputs: Inputs, area: Path, settings: ReportSettings) -> Outcome:
    """Write ``<association>.html``, and the curve and the preview beside it."""
    from batch.reporting.html import Pictures, association_page

    name = inputs.association.name
    pictures, mosaic = Pictures(), None
    if inputs.files("select", "chosen"):
        mosaic = _mosaic(inputs)
        pictures = _pictures(inputs, settings)
    page = association_page(inputs.association, inputs.upstream, mosaic, pictures)
    files = {f"{name}.html": ("report", page.encode("utf-8"))}
    if pictures.curve is not None:
        files[f"{name}_curve.png"] = ("curve", pictures.curve.png)
    if pictures.mosaic is not None:
        files[f"{name}_preview.png"] = ("preview", pictures.mosaic.png)
    for file, (_, content) in files.items():
        (area / file).write_bytes(content)
    return Outcome(tuple(product(area, file, kind) for file, (kind, _) in files.items()))


def _mosaic(inputs: Inputs) -> Mosaic:
    from astropy.io import fits

    from batch.reporting.html import Mosaic

    record = inputs.record("select")
    chosen = next(p for p in record.products if p.kind == "chosen")
    path = inputs.path(record, chosen)
    header = fits.getheader(path, 0)
    return Mosaic(
        path=str(path),
        link=os.path.relpath(path, inputs.products / "report" / inputs.association.name),
        size=chosen.size,
        shape=chosen.shape or (),
        unit=chosen.unit or "",
        header={k: header[k] for k in _KEYWORDS if header.get(k) not in (None, "")},
    )


def _pictures(inputs: Inputs, settings: ReportSettings) -> Pictures:
    from batch.drizzling.lazy import FitsImage
    from batch.drizzling.preview import crowded, reduce
    from batch.reporting.html import Pictures

    path = inputs.file("select", "chosen")
    image, weight = FitsImage.find(path, "SCI"), FitsImage.find(path, "WHT")
    reduced = reduce(image, weight, settings.preview)
    detail = crowded(reduced, settings.zoom, image.shape)
    mosaic, depth = _overview(inputs, reduced, detail, settings)
    return Pictures(mosaic, depth, _curve(inputs), _zooms(inputs, detail))


def _overview(
    inputs: Inputs, reduced: Reduced, detail: PixelBox, settings: ReportSettings
) -> tuple[Image, Image]:
    """The whole mosaic with the detail outlined, and its weight with the boxes."""
    import numpy as np

    from batch.reporting.figures import Frame, Stretch, annotated, weight_colours
    from batch.reporting.html import Image

    def frame(x0: int, x1: int, y0: int, y1: int) -> Frame:
        return Frame(*(v / reduced.factor for v in (x0, x1, y0, y1)))

    grid: Mapping[str, Any] = next(
        (r.results["grid"] for r in inputs.records("sweep") if "grid" in r.results), {}
    )
    boxes = inputs.record("statistics").results.get("boxes", ())
    top = float(np.max(reduced.weight))
    image = annotated(
        Stretch.of(reduced.image).apply(reduced.image),
        settings.preview,
        frames=[frame(detail.x0, detail.x1, detail.y0, detail.y1)],
        cd=grid.get("cd"),
        factor=reduced.factor,
    )
    weight = annotated(
        weight_colours(reduced.weight, 1.1 * top),
        settings.preview,
        frames=[frame(**box) for box in boxes],
        factor=reduced.factor,
    )
    scaled = f", {reduced.factor} × {reduced.factor} pixels averaged" if reduced.factor > 1 else ""
    name = inputs.association.name
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


def _curve(inputs: Inputs) -> Image:
    from batch.reporting.figures import curve
    from batch.reporting.html import Image

    rows = inputs.record("statistics").results["pixfracs"]
    select = inputs.record("select").results
    boxes = {row["pixfrac"]: row["box_rms_over_median"] for row in rows}
    light, dark = (
        curve(select["verdicts"], boxes, select["limits"]["rms_over_median"], select["pixfrac"], theme)
        for theme in ("light", "dark")
    )
    return Image(
        light,
        f"Curve of RMS/median of the weight against pixfrac; {select['why']}. The numbers are in the table.",
        "Filled: passes every test. Dashes: the single boxes.",
        dark,
    )


def _zooms(inputs: Inputs, detail: PixelBox) -> list[Zoom]:
    """The detail at the smallest pixfrac, the ones next to the choice, and the largest."""
    from batch.drizzling.lazy import FitsImage
    from batch.reporting.figures import Stretch, plain, weight_colours
    from batch.reporting.html import Image, Zoom

    maps: dict[float, dict[str, FitsImage]] = {
        pixfrac_of(record): {
            p.kind: FitsImage.of(inputs.path(record, p), p)
            for p in record.products
            if p.kind in ("mosaic", "weight")
        }
        for record in inputs.records("sweep")
    }
    chosen: float = inputs.record("select").results["pixfrac"]
    cuts: Mapping[float, Mapping[str, Any]] = {
        pixfrac: {kind: image[detail.slices] for kind, image in maps[pixfrac].items()}
        for pixfrac in shown(sorted(maps), chosen)
    }
    reference = cuts[chosen]
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


def shown(pixfracs: list[float], chosen: float) -> list[float]:
    """At most four pixfracs that tell the story: the extremes, the choice, and what was just rejected."""
    at = pixfracs.index(chosen)
    wanted = {pixfracs[0], pixfracs[at], pixfracs[max(at - 1, 0)], pixfracs[-1]}
    for pixfrac in pixfracs[at // 2 :]:
        if len(wanted) >= 4:
            break
        wanted.add(pixfrac)
    return sorted(wanted)
