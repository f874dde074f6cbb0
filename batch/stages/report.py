"""report: one page per association, with everything that led to the chosen mosaic."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from batch.config import Settings
from batch.config.mosaics import ReportSettings
from batch.drizzling.size import output_pixels
from batch.model.observation import Association, Exposure
from batch.model.plan import Needs, Stage
from batch.stages.interface import Inputs, Outcome, product
from batch.stages.sweep import families

if TYPE_CHECKING:
    from batch.reporting.html import Mosaic, Pictures

_KEYWORDS = ("TARGNAME", "PROPOSID", "EXPTIME")


def needs(association: Association, exposure: Exposure | None, settings: Settings) -> Needs:
    """Libraries, bands of the mosaic, pictures; the mosaic and its weight are read once.

    Measured: 0.26 GB at 3,026 x 3,866 output pixels, 0.30 GB at 9,264 x 9,240.
    """
    scales = settings.sweep.scale or (settings.combine.scale,)
    pixels = max(output_pixels(association, scale) for scale in scales)
    seconds = 5 + 1e-7 * pixels
    return Needs(
        memory=285_000_000 + 60 * settings.report.preview**2,
        seconds=seconds,
        timeout=600 + 20 * seconds,
    )


STAGE = Stage(
    "report",
    "association",
    after=("references", "calibrate", "wcs", "align", "combine", "sweep", "statistics", "select"),
    version=3,
    needs=needs,
    records_only=("references", "calibrate", "wcs", "align", "combine"),
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
        path=inputs.address(record, chosen),
        link=inputs.link(record, chosen),
        size=chosen.size,
        shape=chosen.shape or (),
        unit=chosen.unit or "",
        header={k: header[k] for k in _KEYWORDS if header.get(k) not in (None, "")},
    )


def _pictures(inputs: Inputs, settings: ReportSettings) -> Pictures:
    from batch.drizzling.lazy import FitsImage
    from batch.reporting.pictures import Material, draw
    from batch.reporting.published import is_comparable

    select = inputs.record("select").results
    (family,) = (f for f in families(inputs) if f.name == select["family"])
    (measured,) = (
        f for f in inputs.record("statistics").results["families"] if f["family"] == select["family"]
    )
    path = inputs.file("select", "chosen")
    detectors = [e.detector for e in inputs.association.exposures]
    # named alike: one file for each family
    weights = next(p for p in inputs.files("statistics", "statistics") if p.name == measured["file"])
    stars = [
        p
        for p in inputs.files("select", "stars")
        if p.name.removesuffix("_stars.nc") == weights.name.removesuffix("_weights.nc")
    ]
    material = Material(
        name=inputs.association.name,
        image=FitsImage.find(path, "SCI"),
        weight=FitsImage.find(path, "WHT"),
        sweep={
            pixfrac: {kind: image for kind, image in images.items() if kind in ("mosaic", "weight")}
            for pixfrac, images in family.images.items()
        },
        grid=family.grid,
        statistics=measured,
        select=select,
        weights=weights,
        stars=stars[0] if stars else None,
        with_published=is_comparable(settings.published_curve, detectors, family.grid, family.kernel),
    )
    return draw(material, settings.preview, settings.zoom)
